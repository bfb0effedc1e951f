package clients

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// tokenRequest returns a request with headers, given as names and values.
func tokenRequest(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/oauth/token", nil)
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

// newAuthenticator returns an Authenticator for clients with these hashes of secrets.
func newAuthenticator(secrets Secrets, limits throttle.Limits, hashes map[string][]string) *Authenticator {
	configured := make(map[string]*storage.Client)
	for id, hashes := range hashes {
		configured[id] = &storage.Client{ID: id, SecretHashes: hashes}
	}
	directory := New(Config{
		Configured: configured, Secrets: secrets, Store: memory.New(), Logger: zap.NewNop(), Now: time.Now, Timeout: time.Minute,
	})
	return NewAuthenticator(directory, throttle.New().Limiter("default", limits, func(string) {}, time.Now), nil, "")
}

// authenticate authenticates with client_secret_post.
func (a *Authenticator) authenticate(ctx context.Context, id, secret string) (*storage.Client, error) {
	client, _, err := a.Authenticate(ctx, tokenRequest(), url.Values{"client_id": {id}, "client_secret": {secret}}, mtls.Peer{Address: "192.0.2.1"})
	return client, err
}

func codeOf(err error) string {
	refusal, ok := errors.AsType[*grants.Error](err)
	if !ok {
		return "not a refusal"
	}
	return refusal.Code
}

// A server can accept the secret in a header of its own. A request may still use only one method of authentication.
func TestSecretHeader(t *testing.T) {
	a := newAuthenticator(nil, throttle.Limits{}, map[string][]string{"shop": {HashSecret("key")}, "spa": nil})
	a.header = "X-Api-Key"
	id := url.Values{"client_id": {"shop"}}
	for _, c := range []struct {
		name string
		r    *http.Request
		form url.Values
		code string
	}{
		{"the secret", tokenRequest("X-Api-Key", "key"), id, ""},
		{"the name in another case", tokenRequest("x-api-KEY", "key"), id, ""},
		{"another secret", tokenRequest("X-Api-Key", "other"), id, grants.InvalidClient},
		{"nothing in it", tokenRequest("X-Api-Key", ""), id, grants.InvalidClient},
		{"no client_id", tokenRequest("X-Api-Key", "key"), nil, grants.InvalidClient},
		{"a public client without it", tokenRequest(), url.Values{"client_id": {"spa"}}, ""},
		{"a public client with a secret", tokenRequest("X-Api-Key", "key"), url.Values{"client_id": {"spa"}}, grants.InvalidClient},
		{"RFC 6749 §2.3 twice", tokenRequest("X-Api-Key", "key", "X-Api-Key", "key"), id, grants.InvalidRequest},
		{"RFC 6749 §2.3 and Basic", tokenRequest("X-Api-Key", "key", "Authorization", "Basic c2hvcDprZXk="), id, grants.InvalidRequest},
		{"RFC 6749 §2.3 and in the body", tokenRequest("X-Api-Key", "key"), url.Values{"client_id": {"shop"}, "client_secret": {"key"}}, grants.InvalidRequest},
		{"RFC 6749 §2.3.1 without it, Basic", tokenRequest("Authorization", "Basic c2hvcDprZXk="), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, _, err := a.Authenticate(t.Context(), c.r, c.form, mtls.Peer{Address: "192.0.2.1"})
			if (client == nil) == (err == nil) {
				t.Fatalf("got %v and error %v", client, err)
			}
			if err == nil && c.code != "" || err != nil && codeOf(err) != c.code {
				t.Errorf("got error %v, want %q", err, c.code)
			}
		})
	}
}

func TestValidHash(t *testing.T) {
	secrets := Secrets{"$slow$": slowHash{new([]string)}}
	sum := strings.TrimPrefix(HashSecret("secret"), hashPrefix)
	for hash, want := range map[string]bool{
		hashPrefix + sum:                  true,
		"$slow$terces":                    true,
		"":                                false,
		sum:                               false,
		hashPrefix:                        false,
		hashPrefix + sum[:62]:             false,
		hashPrefix + sum + "00":           false,
		hashPrefix + strings.ToUpper(sum): false,
		hashPrefix + strings.Repeat("-", len(sum)): false, // the hash for unknown clients
		"SHA256:" + sum:            false,
		hashPrefix + " " + sum[1:]: false,
		"secret":                   false,
		"$fast$secret":             false,
	} {
		if got := secrets.ValidHash(hash); got != want {
			t.Errorf("%q is valid: %v, want %v", hash, got, want)
		}
	}
}

// slowHash stands for the password hashes: its text is the reverse of the secret.
type slowHash struct{ compared *[]string }

func (h slowHash) Compare(hashed, secret []byte) (bool, error) {
	*h.compared = append(*h.compared, string(hashed))
	reversed := make([]byte, 0, len(secret))
	for i := range secret {
		reversed = append(reversed, secret[len(secret)-1-i])
	}
	return string(hashed) == "$slow$"+string(reversed), nil
}

func (slowHash) FakeHash() []byte { return []byte("$slow$fake") }

func TestKindsOfSecretHashes(t *testing.T) {
	var compared []string
	for _, tt := range []struct {
		name   string
		hashes []string
		secret string
		works  bool
	}{
		{"sha256", []string{HashSecret("secret")}, "secret", true},
		{"slow", []string{"$slow$terces"}, "secret", true},
		{"slow, wrong", []string{"$slow$terces"}, "other", false},
		{"slow, the fake hash", []string{"$slow$terces"}, "ekaf", false},
		{"the first of two", []string{HashSecret("old"), "$slow$wen"}, "old", true},
		{"the second of two", []string{HashSecret("old"), "$slow$wen"}, "new", true},
		{"none of two", []string{HashSecret("old"), "$slow$wen"}, "other", false},
		{"an unknown kind", []string{"$magic$secret"}, "secret", false},
		{"in clear", []string{"secret"}, "secret", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAuthenticator(Secrets{"$slow$": slowHash{&compared}}, throttle.Limits{}, map[string][]string{"billing": tt.hashes})
			if client, err := a.authenticate(t.Context(), "billing", tt.secret); (client != nil) != tt.works || tt.works != (err == nil) {
				t.Errorf("got %v and error %v", client, err)
			}
		})
	}
}

// A right secret is hashed with a slow hash only once. A wrong one is hashed each time, and an unknown client costs the same time.
func TestSlowHashOfARightSecretIsComputedOnce(t *testing.T) {
	var compared []string
	a := newAuthenticator(Secrets{"$slow$": slowHash{&compared}}, throttle.Limits{}, map[string][]string{
		"billing": {"$slow$terces"}, "webapp": {"$slow$rehtona"},
	})
	for _, step := range []struct {
		id, secret string
		works      bool
		slow       int
	}{
		{"billing", "secret", true, 1},
		{"billing", "secret", true, 0},
		{"billing", "wrong", false, 1},
		{"billing", "wrong", false, 1},
		{"billing", "secret", true, 0},
		{"webapp", "secret", false, 1},
		{"nobody", "secret", false, 1},
	} {
		compared = nil
		if client, err := a.authenticate(t.Context(), step.id, step.secret); (client != nil) != step.works {
			t.Errorf("%s with %s: %v, %v", step.id, step.secret, client, err)
		}
		if len(compared) != step.slow {
			t.Errorf("%s with %s: %d slow comparisons, want %d", step.id, step.secret, len(compared), step.slow)
		}
	}
}

// countedHash is a slow hash that knows how many comparisons were under way at once.
type countedHash struct {
	now, most atomic.Int32
	gather    chan struct{} // closed when there are enough
}

func (h *countedHash) Compare([]byte, []byte) (bool, error) {
	if n := h.now.Add(1); n > h.most.Load() {
		h.most.Store(n)
		if n == slowAtOnce {
			close(h.gather)
		}
	}
	<-h.gather
	h.now.Add(-1)
	return false, nil
}

func (*countedHash) FakeHash() []byte { return []byte("$slow$") }

// Parallel guesses can exceed the limit only by the number of secrets that are compared at the same time.
func TestParallelGuesses(t *testing.T) {
	hash := &countedHash{gather: make(chan struct{})}
	three := throttle.Limits{Clients: throttle.Limit{Burst: 3, Every: time.Hour}}
	a := newAuthenticator(Secrets{"$slow$": hash}, three, map[string][]string{"billing": {"$slow$x"}})
	var refused, throttled atomic.Int32
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			_, err := a.authenticate(t.Context(), "billing", "wrong")
			switch codeOf(err) {
			case "invalid_client":
				refused.Add(1)
			case "temporarily_unavailable":
				throttled.Add(1)
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n < 3 || n > 3+slowAtOnce || n+throttled.Load() != 200 {
		t.Errorf("%d guesses were compared, and %d throttled", n, throttled.Load())
	}
	if most := hash.most.Load(); most > slowAtOnce {
		t.Errorf("%d at once", most)
	}
}

// RFC 6749 §2.3.1: whatever a Basic header can mean is counted, for IDs with a plus sign or a percent sign too.
func TestWrongSecretsCountForEachClientThatIsMeant(t *testing.T) {
	basic := func(id, secret string) *http.Request {
		r := tokenRequest()
		r.SetBasicAuth(id, secret)
		return r
	}
	for _, tt := range []struct {
		name string
		id   string // in the header
		form string // its client_id
		hits []string
	}{
		{"a plain ID", "billing", "", []string{"billing"}},
		{"a plus sign, not encoded", "my+app", "", []string{"my+app", "my app"}},
		{"a plus sign, not encoded, and named", "my+app", "my+app", []string{"my+app"}},
		{"a plus sign, encoded", "my%2Bapp", "", []string{"my+app"}},
		{"a space, encoded as a plus sign", "my+app", "my app", []string{"my app"}},
		{"a percent sign, not encoded", "50%25off", "", []string{"50%25off", "50%off"}},
		{"a percent sign that encodes nothing", "50%off", "", []string{"50%off"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ids := []string{"billing", "my+app", "my app", "50%off", "50%25off"}
			hashes := make(map[string][]string)
			for _, id := range ids {
				hashes[id] = []string{HashSecret("right")}
			}
			three := throttle.Limits{Clients: throttle.Limit{Burst: 3, Every: time.Hour}}
			a := newAuthenticator(nil, three, hashes)
			form := url.Values{}
			if tt.form != "" {
				form.Set("client_id", tt.form)
			}
			for n := range 5 {
				want := grants.InvalidClient
				if n >= 3 {
					want = grants.TemporarilyUnavailable
				}
				_, _, err := a.Authenticate(t.Context(), basic(tt.id, "wrong"), form, mtls.Peer{Address: "198.51.100." + strconv.Itoa(n)})
				if got := codeOf(err); got != want {
					t.Errorf("guess %d gets %s, want %s", n, got, want)
				}
			}
			for _, id := range ids {
				_, _, err := a.Authenticate(t.Context(), tokenRequest(), url.Values{"client_id": {id}, "client_secret": {"right"}}, mtls.Peer{Address: "192.0.2.1"})
				if locked := err != nil; locked != slices.Contains(tt.hits, id) {
					t.Errorf("%s: %v", id, err)
				}
			}
		})
	}
}

// RFC 6749 §2.3.1: the client that authenticates is the one whose secret is right.
func TestEitherMeaningOfABasicHeaderAuthenticates(t *testing.T) {
	a := newAuthenticator(nil, throttle.Limits{}, map[string][]string{
		"my+app": {HashSecret("of plus")}, "my app": {HashSecret("of space")}, "pub+lic": nil,
	})
	for _, tt := range []struct{ id, secret, want string }{
		{"my+app", "of plus", "my+app"},
		{"my+app", "of+space", "my app"},
		{"my+app", "of space", "my app"},
		{"my%2Bapp", "of%20plus", "my+app"},
		{"my%20app", "of+space", "my app"},
		{"pub+lic", "", "pub+lic"},
		{"pub%2Blic", "", "pub+lic"},
		{"pub+lic", "x", ""},
		{"my+app", "", ""},
	} {
		r := tokenRequest()
		r.SetBasicAuth(tt.id, tt.secret)
		client, _, err := a.Authenticate(t.Context(), r, nil, mtls.Peer{Address: "192.0.2.1"})
		got := ""
		if client != nil {
			got = client.ID
		}
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s with %s: %q, %v", tt.id, tt.secret, got, err)
		}
	}
}

// Whatever stands in the header and in the body, there are credentials or an error; an ID that the body names is the one
// that authenticates; and nobody gets in without a secret.
func FuzzCredentials(f *testing.F) {
	encode := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, seed := range [][3]string{
		{encode("billing:secret"), "", ""},
		{encode("billing:s%65cret"), "client_id=billing", ""},
		{encode("b%69lling:secret"), "client_id=billing", ""},
		{encode("billing:"), "", ""},
		{encode(":"), "client_id=billing", ""},
		{encode("billing"), "", ""},
		{encode("spa:"), "", ""},
		{encode("billing:secret"), "client_id=spa", ""},
		{"Bearer x", "client_id=billing&client_secret=secret", ""},
		{"", "client_id=spa", ""},
		{"", "client_id=billing&client_secret=secret", ""},
		{encode("billing:correct+horse+battery+staple"), "", ""},
		{"", "client_id=billing&client_secret=correct+horse+battery+staple", ""},
		{"", "client_id=spa&client_secret=secret", ""},
		{"", "client_assertion=x&client_id=spa", ""},
		{"Basic", "", "client_secret=secret"},
		{"basic %%%", "", "client_secret"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	const secret = "correct horse battery staple"
	a := newAuthenticator(nil, throttle.Limits{Off: true}, map[string][]string{"billing": {HashSecret(secret)}, "spa": nil})
	f.Fuzz(func(t *testing.T, authorization, body, query string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		maps.DeleteFunc(form, func(_ string, values []string) bool { return len(values) > 1 || values[0] == "" }) // refused, absent
		r := tokenRequest()
		if authorization != "" {
			r = tokenRequest("Authorization", authorization)
		}
		r.URL.RawQuery = query
		found, err := readCredentials(r, form, "")
		if (found == nil) == (err == nil) || len(found) > 2 {
			t.Fatalf("got %q and error %v", found, err)
		}
		named := form.Get("client_id")
		for _, cred := range found {
			if named != "" && cred.id != named {
				t.Errorf("the body names %q, but %q authenticates", named, cred.id)
			}
		}
		client, _, err := a.Authenticate(t.Context(), r, form, mtls.Peer{})
		if (client == nil) == (err == nil) {
			t.Fatalf("got %v and error %v", client, err)
		}
		switch {
		case client == nil:
			if code := codeOf(err); code != grants.InvalidClient && code != grants.InvalidRequest {
				t.Errorf("got error %v", err)
			}
		case authorization != "" && form.Has("client_secret"):
			t.Error("RFC 6749 §2.3: two ways at once")
		case client.ID == "billing" && !slices.ContainsFunc(found, func(c credentials) bool { return c.id == "billing" && c.secret == secret }):
			t.Errorf("billing gets in with %q", found)
		case client.ID == "spa" && !slices.ContainsFunc(found, func(c credentials) bool { return c.id == "spa" && c.secret == "" }):
			t.Errorf("spa, which has no secret, gets in with %q", found)
		case r.URL.Query().Has("client_secret"):
			t.Errorf("RFC 6749 §2.3.1: the secret may be in the URL: %q", query)
		}
	})
}
