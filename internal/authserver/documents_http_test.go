package authserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	documentID       = "https://shop.example/client.json"
	documentRedirect = "https://shop.example/callback"
)

// testDocuments are clients that their websites describe, without websites.
type testDocuments struct {
	websites map[string]*storage.Client
	known    map[string]*storage.Client // of those, what was fetched
	fetched  int
	until    time.Time // how long the client that was used last must be kept
}

func newTestDocuments() *testDocuments {
	client := *testClients()["spa"]
	client.ID, client.Name, client.Origin = documentID, "Shop", storage.OriginDocument
	client.RedirectURIs, client.Consent = []string{documentRedirect, "http://127.0.0.1/callback"}, storage.ConsentAlways
	return &testDocuments{map[string]*storage.Client{documentID: &client}, map[string]*storage.Client{}, 0, time.Time{}}
}

func (d *testDocuments) Owns(id string) bool { return strings.HasPrefix(id, "https://") }

func (d *testDocuments) Find(_ context.Context, id string) (*storage.Client, error) {
	return d.known[id], nil
}

func (d *testDocuments) Fetch(_ context.Context, id string) (*storage.Client, error) {
	d.fetched++
	client := d.websites[id]
	if client == nil {
		return nil, &grants.Error{ // as the clients of documents are refused
			Code: grants.InvalidClient, Description: "the document of the app cannot be fetched", Status: http.StatusUnauthorized,
		}
	}
	d.known[id] = client
	return client, nil
}

func (d *testDocuments) InUse(_ context.Context, _ string, until time.Time) error {
	d.until = until
	return nil
}

// newDocumentServer returns a server that knows clients by documents, with the login page /login.
func newDocumentServer(t *testing.T, edits ...func(*storage.Client)) (*testServer, *testDocuments) {
	t.Helper()
	docs := newTestDocuments()
	for _, edit := range edits {
		edit(docs.websites[documentID])
	}
	s := newTestServer(t, func(c *Config) {
		c.Documents = func(storage.Store) Documents { return docs }
	})
	s.site.login = "/login"
	return s, docs
}

func asksByDocument(pairs ...string) url.Values {
	return merge(asks("spa", "client_id", documentID, "redirect_uri", documentRedirect), pairs...)
}

func TestDocumentIsFetchedForSignedInPeople(t *testing.T) {
	s, docs := newDocumentServer(t)
	alice := s.site.user
	s.site.user = nil
	params := asksByDocument()
	back := returnTo(t, s.get(t, params))
	if docs.fetched > 0 {
		t.Error("a stranger made the server fetch a document")
	}
	s.site.user = alice
	page := s.visit(t, back)
	_, text := pagestest.Parts(strings.NewReader(page.Body.String()))
	for _, want := range []string{"shop.example wants to access", "The app calls itself Shop."} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q: %s", want, text)
		}
	}
	code := s.decide(t, page, "allow").location().Get("code")
	a := s.token(t, redeems(code, "client_id", documentID, "redirect_uri", documentRedirect))
	a.check(t, http.StatusOK, "")
	if docs.fetched != 1 {
		t.Errorf("%d fetches, want 1", docs.fetched)
	}
}

func TestDocumentAfterLoginAgain(t *testing.T) {
	s, _ := newDocumentServer(t)
	alice := s.site.user
	s.site.user = nil
	back := returnTo(t, s.get(t, asksByDocument("prompt", "login")))
	s.site.user = alice
	if page := s.visit(t, back); page.sealed(t) == "" {
		t.Error("no consent page after the login")
	}
}

func TestUnknownDocument(t *testing.T) {
	for name, test := range map[string]struct {
		signedIn bool
		params   url.Values
		error    string
	}{
		"nobody may be asked to sign in":  {false, asksByDocument("prompt", "none"), "login_required"},
		"there is no document":            {true, asksByDocument("client_id", "https://other.example/client.json"), "invalid_client"},
		"nobody may see a page":           {true, asksByDocument("client_id", "https://other.example/client.json", "prompt", "none"), "invalid_client"},
		"the redirect URI is not its own": {true, asksByDocument("redirect_uri", "https://evil.example/callback"), "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newDocumentServer(t)
			if !test.signedIn {
				s.site.user = nil
			}
			a := s.get(t, test.params)
			a.check(t, http.StatusBadRequest, test.error)
			checkErrorPage(t, a)
		})
	}
	t.Run("the token endpoint fetches nothing", func(t *testing.T) {
		s, docs := newDocumentServer(t)
		a := s.token(t, redeems("x", "client_id", documentID, "redirect_uri", documentRedirect))
		a.check(t, http.StatusUnauthorized, "invalid_client")
		if docs.fetched > 0 {
			t.Error("a stranger made the server fetch a document")
		}
	})
}

func TestDisabledDocumentIsNotFetched(t *testing.T) {
	s, docs := newDocumentServer(t)
	config := s.config
	config.Resolve = func(r *storage.AddedClient, hashes []string) (*storage.Client, error) {
		return &storage.Client{ID: r.ID, SecretHashes: hashes}, nil
	}
	s.restart(t, config)
	record, err := (&storage.AddedClient{ID: documentID, Disabled: s.clock.Now(), Created: s.clock.Now()}).Encode()
	if err == nil {
		err = s.store.Put(t.Context(), storage.AddedClientKey(documentID), record, time.Time{})
	}
	if err != nil {
		t.Fatal(err)
	}
	a := s.get(t, asksByDocument())
	a.check(t, http.StatusBadRequest, "invalid_client")
	if docs.fetched > 0 {
		t.Error("the document of a client that the owner has disabled was fetched")
	}
}

func TestConsentForStrangersIsRemembered(t *testing.T) {
	once := func(c *storage.Client) { c.Consent = storage.ConsentOnce }
	always := func(*storage.Client) {}
	for name, test := range map[string]struct {
		edit     func(*storage.Client)
		site     string // Sec-Fetch-Site
		redirect string
		asked    bool
	}{
		"always":                                {always, "none", documentRedirect, true},
		"once, opened by the person":            {once, "none", documentRedirect, false},
		"once, another site leads here":         {once, "cross-site", documentRedirect, true},
		"once, the browser does not tell":       {once, "", documentRedirect, true},
		"once, another host gets the answer":    {once, "none", "https://other.example/callback", true},
		"once, a program on the device listens": {once, "none", "http://127.0.0.1:5/callback", true},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := newDocumentServer(t, test.edit, func(c *storage.Client) {
				c.RedirectURIs = append(c.RedirectURIs, "https://other.example/callback")
			})
			s.code(t, asksByDocument())
			r := httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+asksByDocument("redirect_uri", test.redirect).Encode(), nil)
			header("Sec-Fetch-Site", test.site)(r)
			if a := s.do(t, r); (a.Code == http.StatusOK) != test.asked {
				t.Errorf("asked again: %v, want %v: %d %s", a.Code == http.StatusOK, test.asked, a.Code, a.Header().Get("Location"))
			}
		})
	}
}

// The record of a client that brought its own metadata must live as long as its tokens.
func TestStrangersAreKeptWhileTheyAreInUse(t *testing.T) {
	s, docs := newDocumentServer(t)
	code := s.code(t, asksByDocument())
	if want := s.clock.Now().Add(14 * 24 * time.Hour); docs.until.Before(s.clock.Now().Add(time.Minute)) || docs.until.After(want) {
		t.Errorf("after the code, kept until %v", docs.until)
	}
	a := s.token(t, redeems(code, "client_id", documentID, "redirect_uri", documentRedirect))
	s.clock.Advance(time.Hour)
	a = s.token(t, refreshes(a.json(t)["refresh_token"].(string), "client_id", documentID))
	a.check(t, http.StatusOK, "")
	if want := s.clock.Now().Add(14 * 24 * time.Hour); !docs.until.Equal(want) {
		t.Errorf("after the refresh, kept until %v, want %v", docs.until, want)
	}
}

// One person cannot make the server keep any number of clients.
func TestPeopleCannotConnectAnyNumberOfStrangers(t *testing.T) {
	s, docs := newDocumentServer(t)
	for n := range maxConnected {
		client := *docs.websites[documentID]
		client.ID = fmt.Sprintf("https://shop%d.example/client.json", n)
		docs.websites[client.ID] = &client
		if n%20 == 0 { // each user has few codes in a minute
			s.clock.Advance(time.Hour)
		}
		s.code(t, asksByDocument("client_id", client.ID))
	}
	s.clock.Advance(time.Hour)
	a := s.decide(t, s.get(t, asksByDocument()), "allow")
	a.check(t, http.StatusSeeOther, "access_denied")
	s.code(t, asks("webapp"))
	s.code(t, asksByDocument("client_id", "https://shop0.example/client.json"))
}

// The owner can revoke a refresh token of a client that describes itself, also if no other client has tokens with its prefix.
func TestRevokeTokenOfDescribedClient(t *testing.T) {
	docs := newTestDocuments()
	docs.websites[documentID].RefreshToken.Prefix = "described_"
	s := newTestServer(t, func(c *Config) {
		c.Documents = func(storage.Store) Documents { return docs }
		c.DescribedRefreshPrefix = "described_"
	})
	code := s.code(t, asksByDocument("scope", "orders"))
	token := s.token(t, redeems(code, "client_id", documentID, "redirect_uri", documentRedirect)).json(t)["refresh_token"].(string)
	if !strings.HasPrefix(token, "described_") {
		t.Fatalf("refresh token %q", token)
	}
	if what, err := s.Owner().RevokeAny(t.Context(), token, "test"); what != RevokedFamily || err != nil {
		t.Errorf("revoked %s, %v", what, err)
	}
	s.token(t, refreshes(token, "client_id", documentID)).check(t, http.StatusBadRequest, "invalid_grant")
}
