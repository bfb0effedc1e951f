package caddyoauth

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestStranger(t *testing.T) {
	i := &Issuer{
		URL:    "https://shop.example",
		Page:   &PageSettings{Name: "Pineapple Shop"},
		Scopes: []Scope{{Name: "read"}, {Name: "admin", Private: true}, {Name: "write"}},
		Clients: map[string]*Client{
			"till": {Name: "The Till"},
		},
	}
	stranger := func(origin storage.ClientOrigin, metadata string, hashes ...string) *storage.Client {
		t.Helper()
		m, err := registration.Parse([]byte(metadata))
		if err != nil {
			t.Fatal(err)
		}
		client, err := i.described("id", m, origin, hashes...)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	c := stranger(storage.OriginRegistered, `{"redirect_uris":["cursor://cb"],"token_endpoint_auth_method":"none","client_name":"App",
		"grant_types":["authorization_code","refresh_token","client_credentials"],"scope":"admin"}`)
	switch {
	case c.ID != "id" || c.Name != "App" || c.Origin != storage.OriginRegistered:
		t.Errorf("got %+v", c)
	case !slices.Equal(c.Scopes, []string{"read", "write"}) || !slices.Equal(c.Audience, []string{"https://shop.example"}):
		t.Errorf("got scopes %q for %q", c.Scopes, c.Audience)
	case !slices.Equal(c.GrantTypes, []string{"authorization_code", "refresh_token"}):
		t.Errorf("got the grants %q", c.GrantTypes)
	case c.Consent != storage.ConsentAlways || !c.DropUnknownScopes || !c.RequirePKCE || !c.Public():
		t.Errorf("got %+v", c)
	case c.AccessTokenLifetime != 10*time.Minute || c.CodeLifetime != time.Minute ||
		c.RefreshToken != storage.RefreshPolicy{Lifetime: 30 * 24 * time.Hour, Idle: 14 * 24 * time.Hour, Retry: time.Minute}:
		t.Errorf("got %+v", c)
	}
	c = stranger(storage.OriginRegistered, `{"redirect_uris":["https://a.example"]}`, hashOfToken("x"))
	if c.Public() || !c.HasSecrets() || c.RefreshToken.Retry != storage.RetryUntilUsed || !slices.Equal(c.GrantTypes, []string{"authorization_code"}) {
		t.Errorf("got %+v", c)
	}
	c = stranger(storage.OriginDocument, `{"redirect_uris":["https://a.example"],"token_endpoint_auth_method":"private_key_jwt",
		"token_endpoint_auth_methods_supported":["none","private_key_jwt"],"jwks_uri":"https://a.example/jwks"}`)
	if !c.Public() || !c.HasKeys() || c.JWKSURI != "https://a.example/jwks" {
		t.Errorf("got %+v", c)
	}
	i.UnknownScopes, i.Dynamic = "refuse", &DynamicSettings{Consent: storage.ConsentOnce}
	if c = stranger(storage.OriginRegistered, `{"redirect_uris":["https://a.example"],"token_endpoint_auth_method":"none"}`); c.DropUnknownScopes || c.Consent != storage.ConsentOnce {
		t.Errorf("got %+v", c)
	}
	for name, want := range map[string]string{
		"App": "App", "pineapple shop": "", "Till": "", "THE  TILL": "", "shop.example": "", "www.Shop.example": "", "": "", "Рineapple Shop": "",
	} {
		if got := i.describedName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// Keys that can verify nothing are refused of a client that signs its requests, whatever else it authenticates with.
func TestStrangerThatSignsRequests(t *testing.T) {
	i := &Issuer{URL: "https://shop.example"}
	const useless = `"jwks":{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`
	for members, good := range map[string]bool{
		useless: true, useless + `,"require_signed_request_object":true`: false, useless + `,"request_object_signing_alg":"ES256"`: false,
		`"jwks_uri":"https://a.example/jwks","require_signed_request_object":true`: true,
	} {
		m, err := registration.Parse([]byte(`{"redirect_uris":["https://a.example"],"token_endpoint_auth_method":"none",` + members + `}`))
		if err != nil {
			t.Fatal(err)
		}
		_, err = i.described("id", m, storage.OriginRegistered)
		if problem, ok := errors.AsType[*registration.Error](err); ok == good || ok && problem.Member != "jwks" {
			t.Errorf("%s: %v", members, err)
		}
	}
}

// With openid { dynamic }, clients that describe themselves sign people in; without, they do not.
func TestStrangerThatSignsIn(t *testing.T) {
	i := &Issuer{URL: "https://shop.example", Scopes: []Scope{{Name: "read"}, {Name: "phone", Private: true}}, OpenID: &OpenIDSettings{PairwiseSalt: strings.Repeat("x", 32)}}
	stranger := func(origin storage.ClientOrigin, metadata string, hashes ...string) (*storage.Client, error) {
		m, err := registration.Parse([]byte(metadata))
		if err != nil {
			t.Fatal(err)
		}
		return i.described("id", m, origin, hashes...)
	}
	const plain = `{"redirect_uris":["https://a.example/1","https://b.example/2"],"id_token_signed_response_alg":"ES256"}`
	c, err := stranger(storage.OriginRegistered, plain, hashOfToken("x"))
	if err != nil || c.OpenID != nil || !slices.Equal(c.Scopes, []string{"read"}) || !c.RequirePKCE {
		t.Errorf("without dynamic: %+v, %v", c, err)
	}
	i.OpenID.Dynamic = true
	c, err = stranger(storage.OriginRegistered, plain, hashOfToken("x"))
	if err != nil || c.OpenID == nil || c.OpenID.IDTokenAlgorithm != "ES256" || !c.RequirePKCE ||
		!slices.Equal(c.Scopes, []string{"read", "openid", "profile", "email", "address", "offline_access"}) {
		t.Errorf("with a secret: %+v, %v", c, err)
	}
	const public = `{"redirect_uris":["https://a.example/1"],"token_endpoint_auth_method":"none","subject_type":"pairwise","default_max_age":60,
		"sector_identifier_uri":"https://elsewhere.example"}`
	for origin, sector := range map[storage.ClientOrigin]string{storage.OriginRegistered: "elsewhere.example", storage.OriginDocument: "a.example"} {
		c, err = stranger(origin, public)
		if err != nil || !c.RequirePKCE || c.OpenID.Sector != sector || c.OpenID.IDTokenAlgorithm != "RS256" || *c.OpenID.DefaultMaxAge != time.Minute {
			t.Errorf("%s: %+v, %v", origin, c, err)
		}
	}
	// What cannot be given costs the client the scopes of OpenID Connect, not its existence.
	for _, origin := range []storage.ClientOrigin{storage.OriginRegistered, storage.OriginDocument} {
		for _, impossible := range []string{
			`{"redirect_uris":["https://a.example/1","https://b.example/2"],"subject_type":"pairwise"}`,
			`{"redirect_uris":["https://a.example/1"],"id_token_signed_response_alg":"PS512"}`,
		} {
			c, err = stranger(origin, withoutSecret(impossible))
			if err != nil || c.OpenID != nil || !slices.Equal(c.Scopes, []string{"read"}) {
				t.Errorf("%s, %s: %+v, %v", origin, impossible, c, err)
			}
		}
		i.OpenID.SubjectType = "pairwise"
		for _, text := range []string{`{"redirect_uris":["https://a.example/1","https://b.example/2"]}`, `{"redirect_uris":["cursor:callback"]}`} {
			c, err = stranger(origin, withoutSecret(text))
			if err != nil || c.OpenID != nil || !slices.Equal(c.Scopes, []string{"read"}) {
				t.Errorf("%s, %s with pairwise by default: %+v, %v", origin, text, c, err)
			}
		}
		i.OpenID.SubjectType = ""
	}
	i.Scopes = append(i.Scopes, Scope{Name: "openid", Private: true})
	if c, err = stranger(storage.OriginRegistered, plain, hashOfToken("x")); err != nil || c.OpenID != nil || slices.Contains(c.Scopes, "openid") {
		t.Errorf("where openid is private: %+v, %v", c, err)
	}
	config := new(authserver.Config)
	if used := i.algorithms(config); !slices.Equal(used, []string{"RS256"}) || !slices.Equal(config.IDTokenAlgorithms, []string{"ES256", "RS256"}) || !slices.Equal(config.UserinfoAlgorithms, config.IDTokenAlgorithms) {
		t.Errorf("algorithms %q %q, and used %q", config.IDTokenAlgorithms, config.UserinfoAlgorithms, used)
	}
	i.Signing = &Signing{JWKSFile: "keys.json"}
	if got := i.offeredAlgorithms(); !slices.Equal(got, []string{"RS256"}) {
		t.Errorf("of a file with keys: %q", got)
	}
}

// withoutSecret returns metadata of a client that does not authenticate.
func withoutSecret(metadata string) string {
	return strings.Replace(metadata, "{", `{"token_endpoint_auth_method":"none",`, 1)
}

// A file of keys has one for the ID tokens of described clients, and a client that is added later names no other.
func TestAlgorithmsOfAFile(t *testing.T) {
	_, es256, err := jwt.MakeKey("ES256")
	if err != nil {
		t.Fatal(err)
	}
	algs := algorithmsOf(keyring.Policy{File: []byte(`{"keys":[` + string(es256) + `]}`)})
	if !slices.Equal(algs, fileAlgorithms{"ES256"}) {
		t.Fatalf("the file has keys for %q", algs)
	}
	i := &Issuer{URL: "https://shop.example", OpenID: new(OpenIDSettings)}
	add := func(more string) error {
		_, err := i.resolver(time.Hour, algs)(&storage.AddedClient{ID: "app", Settings: []byte(
			`{"redirect_uris":["https://a.example/1"],"scopes":["openid"]` + more + `}`)}, []string{hashOfToken("x")})
		return err
	}
	for more, want := range map[string]string{
		``: "id_token_signed_response_alg: expected ES256, of which jwks_file has a private key, not RS256",
		`,"id_token_signed_response_alg":"ES256"`:                                        "",
		`,"id_token_signed_response_alg":"ES256","userinfo_signed_response_alg":"EdDSA"`: "userinfo_signed_response_alg: expected ES256",
	} {
		if err := add(more); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", more, err, want)
		}
	}
	algs = nil // the server makes its keys
	if err := add(""); err != nil {
		t.Error(err)
	}
}

func TestDynamicSettings(t *testing.T) {
	for want, d := range map[string]*DynamicSettings{
		"":                          {Mode: "token", Tokens: []InitialToken{{Token: "{env.TOKEN}", Uses: 1, Until: "2027-01-01"}, {Token: hashOfToken("x"), Until: "2027-01-01T12:00:00+01:00"}, {Token: strings.Repeat("x", 20)}}},
		"expected at least one":     {Mode: "token"},
		"the mode token only":       {Tokens: []InitialToken{{Token: "{env.TOKEN}"}}},
		"expected open, token or o": {Mode: "on"},
		"at least 20 random":        {Mode: "token", Tokens: []InitialToken{{Token: "short"}}},
		"64 hex digits":             {Mode: "token", Tokens: []InitialToken{{Token: "sha256:x"}}},
		"from 1 to 1000":            {Mode: "token", Tokens: []InitialToken{{Token: "{env.TOKEN}", Uses: 1001}}},
		"expected a date such as":   {Mode: "token", Tokens: []InitialToken{{Token: "{env.TOKEN}", Until: "1.1.2027"}}},
		"expected any or known":     {Redirects: "all"},
		"a number from 1":           {Max: -1},
		"at least 24h":              {Unused: Never},
		"not never":                 {Consent: storage.ConsentNever},
	} {
		err := d.check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %s", d, err, want)
		}
	}
}

// A client that describes itself may sign with every algorithm that the metadata advertises.
func TestStrangerSigns(t *testing.T) {
	i := &Issuer{URL: "https://shop.example"}
	for _, alg := range jwt.AssertionAlgorithms() {
		m, err := registration.Parse([]byte(`{"redirect_uris":["https://a.example"],"token_endpoint_auth_method":"private_key_jwt",
			"jwks_uri":"https://a.example/jwks","token_endpoint_auth_signing_alg":"` + alg + `"}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, origin := range []storage.ClientOrigin{storage.OriginRegistered, storage.OriginDocument} {
			if client, err := i.described("id", m, origin); err != nil || !client.HasKeys() {
				t.Errorf("%s, %s: %v", origin, alg, err)
			}
		}
	}
}
