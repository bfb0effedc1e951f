package authserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// runTime allows to add clients at run time, whose settings are a storage.Client in JSON.
func runTime(c *Config) {
	c.Resolve = func(r *storage.AddedClient, hashes []string) (*storage.Client, error) {
		client := new(storage.Client)
		if err := json.Unmarshal(r.Settings, client); err != nil {
			return nil, err
		}
		if client.Name == "bad" {
			return nil, errors.New("bad name")
		}
		client.ID, client.SecretHashes = r.ID, hashes
		return client, nil
	}
}

// node returns another server on the same store, with its own memory.
func (s *testServer) node(t *testing.T) *testServer {
	t.Helper()
	other := *s
	other.restart(t, s.config)
	return &other
}

// add adds a client for client_credentials and returns its secret.
func (s *testServer) add(t *testing.T, id string) string {
	t.Helper()
	_, secret, err := s.clients.Add(t.Context(), clients.Addition{ID: id, Settings: settingsOf(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	s.seen = append(s.seen, secret)
	return secret
}

func settingsOf(t *testing.T, name string) json.RawMessage {
	t.Helper()
	settings, err := json.Marshal(storage.Client{
		Name: name, GrantTypes: []string{"client_credentials"}, Audience: []string{testIssuer}, AccessTokenLifetime: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// machine requests a token by client_credentials.
func (s *testServer) machine(t *testing.T, id, secret string) answer {
	t.Helper()
	return s.token(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}})
}

// accepts reports whether a server accepts the access token of an answer.
func (s *testServer) accepts(t *testing.T, a answer) bool {
	t.Helper()
	_, err := s.AccessToken(t.Context(), a.json(t)["access_token"].(string), jwt.Leeway)
	var invalid jwt.InvalidToken
	if err != nil && !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	return err == nil
}

func TestClientsReachOtherNodes(t *testing.T) {
	s := newTestServer(t, runTime)
	other := s.node(t)
	hear := func() {
		t.Helper()
		if err := other.upkeep.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	hear()
	secret := s.add(t, "stock")
	other.machine(t, "stock", secret).check(t, http.StatusUnauthorized, "invalid_client")
	hear()
	token := other.machine(t, "stock", secret)
	token.check(t, http.StatusOK, "")

	if _, err := s.clients.Disable(t.Context(), "stock"); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(2 * time.Second)
	late := other.machine(t, "stock", secret) // the other node does not know yet that the client is disabled
	late.check(t, http.StatusOK, "")
	if s.accepts(t, token) || s.accepts(t, late) {
		t.Error("a token of a disabled client is accepted")
	}
	hear()
	other.machine(t, "stock", secret).check(t, http.StatusUnauthorized, "invalid_client")
	if other.accepts(t, token) || other.accepts(t, late) {
		t.Error("the other node accepts a token of a disabled client")
	}
	if _, err := s.clients.Enable(t.Context(), "stock"); err != nil {
		t.Fatal(err)
	}
	hear()
	if s.accepts(t, late) || other.accepts(t, late) {
		t.Error("a token that was issued to a disabled client is accepted after the client is enabled")
	}
	s.clock.Advance(2 * time.Second)
	if again := other.machine(t, "stock", secret); !s.accepts(t, again) {
		t.Error("a token of the enabled client is refused")
	}
}

// A node may exit after it has changed a client and before it has written the change marker. The other nodes find the change anyway.
func TestClientChangeWithoutAMarker(t *testing.T) {
	s := newTestServer(t, runTime)
	other := s.node(t)
	secret := s.add(t, "stock")
	if err := other.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	changed, err := other.store.Get(t.Context(), changeKey)
	if err != nil {
		t.Fatal(err)
	}
	second := s.add(t, "second")
	if err := s.store.Put(t.Context(), changeKey, changed, time.Time{}); err != nil { // as if the change marker had not been written
		t.Fatal(err)
	}
	poll := func() {
		t.Helper()
		if err := other.upkeep.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	poll()
	other.machine(t, "stock", secret).check(t, http.StatusOK, "")
	other.machine(t, "second", second).check(t, http.StatusUnauthorized, "invalid_client")
	s.clock.Advance(checkInterval)
	poll()
	other.machine(t, "second", second).check(t, http.StatusOK, "")
}

func TestClientsNeedNoStoreOnceLoaded(t *testing.T) {
	s := newTestServer(t, runTime)
	secret := s.add(t, "stock")
	s.machine(t, "stock", secret).check(t, http.StatusOK, "")
	s.store.Err = errors.New("the store is away")
	s.machine(t, "stock", secret).check(t, http.StatusOK, "")
	s.machine(t, "nobody", secret).check(t, http.StatusUnauthorized, "invalid_client")
	if _, _, err := s.clients.Add(t.Context(), clients.Addition{ID: "x", Settings: settingsOf(t, "")}); err == nil {
		t.Error("a client was added to a store that is away")
	}
	s.machine(t, "x", "").check(t, http.StatusUnauthorized, "invalid_client")
}

func TestClientSecretsExpire(t *testing.T) {
	s := newTestServer(t, runTime)
	first := s.add(t, "stock")
	_, second, err := s.clients.NewSecret(t.Context(), "stock", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Hour - time.Second)
	s.machine(t, "stock", first).check(t, http.StatusOK, "")
	s.clock.Advance(time.Second)
	s.machine(t, "stock", first).check(t, http.StatusUnauthorized, "invalid_client")
	s.machine(t, "stock", second).check(t, http.StatusOK, "")
	s.machine(t, "stock", "").check(t, http.StatusUnauthorized, "invalid_client")
}

// The configuration may change under a client that was added at run time.
func TestClientTheConfigurationDoesNotAllow(t *testing.T) {
	s := newTestServer(t, runTime)
	good, secret := s.add(t, "good"), s.add(t, "stock")
	if _, _, err := s.clients.Add(t.Context(), clients.Addition{ID: "x", Settings: settingsOf(t, "bad")}); err == nil {
		t.Error("a bad client was added")
	}
	record, err := (&storage.AddedClient{ID: "stock", Settings: settingsOf(t, "bad"), Changed: s.clock.Now()}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[storage.Key][]byte{
		storage.AddedClientKey("stock"): record, storage.AddedClientKey("broken"): []byte("{"),
	} {
		if err := s.store.Put(t.Context(), key, value, time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	s.Server = s.node(t).Server
	s.machine(t, "stock", secret).check(t, http.StatusUnauthorized, "invalid_client")
	s.machine(t, "good", good).check(t, http.StatusOK, "")
	list, err := s.clients.Added(t.Context())
	if err != nil || len(list) != 2 || list[0].Problem != "" || list[1].Problem != "bad name" {
		t.Errorf("%v, %+v", err, list)
	}
	if _, err := s.clients.Disable(t.Context(), "stock"); err != nil {
		t.Errorf("a client that can do nothing cannot be disabled: %v", err)
	}
}

func TestClientOfTheConfigurationWins(t *testing.T) {
	s := newTestServer(t, runTime)
	record, err := (&storage.AddedClient{
		ID: "billing", Settings: settingsOf(t, ""), Secrets: []storage.Secret{{Hash: clients.HashSecret("other")}}, Disabled: s.clock.Now(),
	}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.Put(t.Context(), storage.AddedClientKey("billing"), record, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if a := s.machine(t, "billing", webSecret); !s.accepts(t, a) {
		t.Error("its token is refused")
	}
	s.machine(t, "billing", "other").check(t, http.StatusUnauthorized, "invalid_client")
	if _, _, err := s.clients.Add(t.Context(), clients.Addition{ID: "billing"}); !errors.Is(err, clients.ErrConfigured) {
		t.Errorf("added: %v", err)
	}
}

// Revoked tokens of a client stay revoked, however long ago that was, and also if the client was added again.
func TestTokensOfADeletedClientStayRevoked(t *testing.T) {
	family := func(t *testing.T, s *testServer, secret string) (refresh string) {
		t.Helper()
		a := s.token(t, redeems(s.code(t, merge(asks("webapp"), "client_id", "partner")), "client_id", "partner", "client_secret", secret))
		a.check(t, http.StatusOK, "")
		return a.json(t)["refresh_token"].(string)
	}
	partner, err := json.Marshal(storage.Client{
		RedirectURIs: []string{webRedirect}, GrantTypes: []string{"authorization_code", "refresh_token"}, Consent: "never",
		Scopes: []string{"orders"}, Audience: []string{testIssuer}, CodeLifetime: time.Minute, AccessTokenLifetime: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	hash := []string{clients.HashSecret(webSecret)}
	for name, end := range map[string]func(s *testServer) error{
		"deleted": func(s *testServer) error { return s.clients.Delete(t.Context(), "partner") },
		"disabled": func(s *testServer) error {
			_, err := s.clients.Disable(t.Context(), "partner")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, runTime)
			if _, _, err := s.clients.Add(t.Context(), clients.Addition{ID: "partner", Settings: partner, SecretHashes: hash}); err != nil {
				t.Fatal(err)
			}
			token := family(t, s, webSecret)
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			s.clock.Advance(100 * 24 * time.Hour) // families of other clients have long ended
			config := s.config
			config.Clients = testClients()
			config.Clients["partner"] = new(storage.Client)
			if err := json.Unmarshal(partner, config.Clients["partner"]); err != nil {
				t.Fatal(err)
			}
			config.Clients["partner"].ID, config.Clients["partner"].SecretHashes = "partner", hash
			s.restart(t, config)
			again := family(t, s, webSecret)
			form := refreshes(token, "client_id", "partner", "client_secret", webSecret)
			s.token(t, form).check(t, http.StatusBadRequest, "invalid_grant")
			form.Set("refresh_token", again)
			s.token(t, form).check(t, http.StatusOK, "")
		})
	}
}

// RFC 9700 §4.15
func TestUserNamedLikeARunTimeClient(t *testing.T) {
	s := newTestServer(t, runTime)
	s.add(t, "alice")
	s.get(t, asks("webapp")).check(t, http.StatusSeeOther, "access_denied")
}

func TestConsentWasForAnotherClient(t *testing.T) {
	s := newTestServer(t, runTime)
	add := func() {
		t.Helper()
		settings, err := json.Marshal(storage.Client{
			RedirectURIs: []string{webRedirect}, GrantTypes: []string{"authorization_code"}, Scopes: []string{"orders"},
			Audience: []string{testIssuer}, CodeLifetime: time.Minute, AccessTokenLifetime: time.Minute,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.clients.Add(t.Context(), clients.Addition{ID: "partner", Settings: settings}); err != nil {
			t.Fatal(err)
		}
	}
	ask := merge(asks("webapp"), "client_id", "partner")
	add()
	s.decide(t, s.get(t, ask), "allow")
	s.get(t, ask).check(t, http.StatusSeeOther, "")
	if err := s.clients.Delete(t.Context(), "partner"); err != nil {
		t.Fatal(err)
	}
	s.get(t, ask).check(t, http.StatusBadRequest, "invalid_client")
	s.clock.Advance(time.Minute)
	add()
	s.get(t, ask).check(t, http.StatusOK, "")
}
