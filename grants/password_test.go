package grants_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(testProvider{})
}

// testProvider is a third-party authentication provider that accepts one password, and another one for carol.
type testProvider struct{}

func (testProvider) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.authentication.providers.test", New: func() caddy.Module { return new(testProvider) }}
}

func (testProvider) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return nil }

func (testProvider) Authenticate(_ http.ResponseWriter, r *http.Request) (caddyauth.User, bool, error) {
	name, password, _ := r.BasicAuth()
	switch name {
	case "nobody":
		return caddyauth.User{}, true, nil
	case "carol":
		return caddyauth.User{ID: name}, password == "wonder:land", nil
	case "broken":
		return caddyauth.User{}, false, errors.New("the directory does not answer")
	}
	return caddyauth.User{ID: "id of " + name, Metadata: map[string]string{"email": name + "@example.com"}}, password == "wonderland", nil
}

// newPassword provisions the grant of a Caddyfile and returns who knows its passwords.
func newPassword(t *testing.T, text string) grants.Verifier {
	t.Helper()
	p := new(grants.Password)
	if err := p.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	if err := p.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	return p.ProvideVerifier()
}

// The accounts' passwords are "wonderland", hashed in as little time as the formats allow.
const (
	bcryptAccount   = "basic_auth {\n alice $2a$04$nMe91aFlftbP5AZP0jSfQuOObF2aQP9Nz0iRVGMEC4veEcB11HgF6\n}"
	argon2idAccount = "basic_auth argon2id {\n alice $argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$C5Z1zLUrv0MKCDyajGFCGK2l2rz+9oH525aZPyhcXzQ\n}"
)

func TestPasswordsOfAccounts(t *testing.T) {
	for name, accounts := range map[string]string{"bcrypt": bcryptAccount, "argon2id": argon2idAccount} {
		v := newPassword(t, "password {\n"+accounts+"\n}")
		for _, tt := range []struct {
			name, username, password string
			right                    bool
		}{
			{"right", "alice", "wonderland", true},
			{"right again", "alice", "wonderland", true},
			{"wrong", "alice", "looking glass", false},
			{"in another case", "alice", "Wonderland", false},
			{"a name in another case", "Alice", "wonderland", false},
			{"nobody", "bob", "wonderland", false},
			{"the hash itself", "alice", "$2a$04$nMe91aFlftbP5AZP0jSfQuOObF2aQP9Nz0iRVGMEC4veEcB11HgF6", false},
			{"a line break", "alice\r\n", "wonderland", false},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				person, err := v.Verify(t.Context(), tt.username, tt.password)
				if tt.right {
					if err != nil || person.Subject != "alice" || len(person.Claims) > 0 {
						t.Errorf("got %+v and error %v", person, err)
					}
					return
				}
				if person != nil || !errors.Is(err, grants.ErrBadUser) {
					t.Errorf("got %+v and error %v", person, err)
				}
			})
		}
	}
}

func TestPasswordsOfAProvider(t *testing.T) {
	v := newPassword(t, "password {\n provider test\n}")
	want := &grants.Person{Subject: "id of alice", Claims: map[string]any{"email": "alice@example.com"}}
	if got, err := v.Verify(t.Context(), "alice", "wonderland"); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v and error %v", got, err)
	}
	if got, err := v.Verify(t.Context(), "carol", "wonder:land"); err != nil || got.Subject != "carol" {
		t.Errorf("a colon in the password: got %+v and error %v", got, err)
	}
	for name, refused := range map[string]bool{
		"bob":          true,
		"carol:wonder": true, // RFC 7617 §2: within Basic, the password begins at the first colon
		"nobody":       false,
		"broken":       false,
	} {
		person, err := v.Verify(t.Context(), name, "land")
		if person != nil || err == nil || errors.Is(err, grants.ErrBadUser) != refused {
			t.Errorf("%s: got %+v and error %v", name, person, err)
		}
	}
}

// knows is a Verifier that knows one person and counts the names that it was asked for.
type knows struct {
	person *grants.Person
	err    error
	asked  *int
}

func (k knows) Verify(_ context.Context, username, password string) (*grants.Person, error) {
	*k.asked++
	if k.err == nil && (username != "alice" || password != "wonderland") {
		return nil, grants.ErrBadUser
	}
	return k.person, k.err
}

func TestPasswordGrant(t *testing.T) {
	down := errors.New("the site does not answer")
	for _, tt := range []struct {
		name     string
		more     params // with user name and password; an empty list deletes
		verifier knows
		code     string
		asked    int
	}{
		{"RFC 6749 §4.3.2 right", nil, knows{}, "", 1},
		{"RFC 6749 §5.2 wrong password", params{"password": {"x"}}, knows{}, "invalid_grant", 1},
		{"RFC 6749 §5.2 wrong name", params{"username": {"bob"}}, knows{}, "invalid_grant", 1},
		{"RFC 6749 §4.3.2 no username", params{"username": nil}, knows{}, "invalid_request", 0},
		{"RFC 6749 §4.3.2 no password", params{"password": nil}, knows{}, "invalid_request", 0},
		{"RFC 6749 §4.3.2 scope", params{"scope": {"orders"}}, knows{}, "", 1},
		{"RFC 6749 §5.2 scope that is not the client's", params{"scope": {"admin"}}, knows{}, "invalid_scope", 0},
		{"RFC 8707 §2 resource that is not the client's", params{"resource": {"https://other.example"}}, knows{}, "invalid_target", 0},
		{"nobody knows", nil, knows{err: down}, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			tt.verifier.asked, tt.verifier.person = new(int), &grants.Person{Subject: "17", Claims: map[string]any{"name": "Alice"}}
			form := url.Values{"username": {"alice"}, "password": {"wonderland"}}
			maps.Copy(form, tt.more)
			maps.DeleteFunc(form, func(_ string, values []string) bool { return values == nil })
			now := time.Now()
			auth, err := new(grants.Password).Exchange(t.Context(), &grants.Request{
				Client: s.client, Form: form, Store: s.store, Verifier: tt.verifier, Now: now,
			})
			if *tt.verifier.asked != tt.asked {
				t.Errorf("asked %d times, want %d", *tt.verifier.asked, tt.asked)
			}
			if tt.code != "" || tt.verifier.err != nil {
				if auth != nil || err == nil || codeOf(err) != tt.code || !errors.Is(err, tt.verifier.err) && tt.verifier.err != nil {
					t.Errorf("got %+v and error %v, want %q", auth, err, tt.code)
				}
				return
			}
			want := &grants.Authorization{
				Subject: "17", Scopes: []string{"profile", "orders"}, Audience: []string{api, files},
				Claims: map[string]any{"name": "Alice"}, AuthTime: now, Offline: true,
			}
			if form.Has("scope") {
				want.Scopes = []string{"orders"}
			}
			if err != nil || !reflect.DeepEqual(auth, want) {
				t.Errorf("got %+v and error %v, want %+v", auth, err, want)
			}
		})
	}
	t.Run("RFC 6749 §4.3.3 no refresh token for a client without that grant type", func(t *testing.T) {
		s := newSite(t).reconfigured(func(c *storage.Client) { c.GrantTypes = []string{"password"} })
		auth, err := new(grants.Password).Exchange(t.Context(), &grants.Request{
			Client: s.client, Form: url.Values{"username": {"alice"}, "password": {"wonderland"}}, Now: time.Now(),
			Verifier: knows{asked: new(int), person: &grants.Person{Subject: "17"}},
		})
		if err != nil || auth.Offline {
			t.Errorf("got %+v and error %v", auth, err)
		}
	})
}

func TestPasswordConfig(t *testing.T) {
	for name, p := range map[string]*grants.Password{
		"neither": {},
		"both":    {ProviderRaw: []byte(`{"provider":"test"}`), Verify: &grants.SiteLogin{URL: "http://app/login"}},
		"no URL":  {Verify: &grants.SiteLogin{}},
		"unknown": {ProviderRaw: []byte(`{"provider":"nonsense"}`)},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			if err := p.Provision(ctx); err == nil {
				t.Error("accepted")
			}
		})
	}
}
