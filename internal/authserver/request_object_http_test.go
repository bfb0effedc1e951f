package authserver

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// signing is webapp with a key beside its secret, at a server.
type signing struct {
	*testServer
	key jwttest.Key
}

func newSigning(t *testing.T, edits ...func(*Config)) *signing {
	t.Helper()
	key := jwttest.NewKey(t, "ES256")
	edits = append([]func(*Config){client("webapp", func(c *storage.Client) { c.JWKS = setOf(key) })}, edits...)
	return &signing{newTestServer(t, edits...), key}
}

// objectClaims returns the claims of a good request object with these parameters, changed by pairs of names and values; nil removes one.
func (s *signing) objectClaims(params url.Values, pairs ...any) map[string]any {
	now := s.clock.Now().Unix()
	claims := map[string]any{"iss": params.Get("client_id"), "aud": testIssuer, "iat": now, "nbf": now, "exp": now + 60, "jti": "1"}
	for name := range params {
		claims[name] = params.Get(name)
	}
	for pair := range slices.Chunk(pairs, 2) {
		name := pair[0].(string)
		if claims[name] = pair[1]; pair[1] == nil {
			delete(claims, name)
		}
	}
	return claims
}

func (s *signing) sign(t *testing.T, key jwttest.Key, typ string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := key.SignAs(typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// object returns what the browser brings: a request object of webapp.
func (s *signing) object(t *testing.T, params url.Values, pairs ...any) url.Values {
	t.Helper()
	return url.Values{"client_id": {"webapp"}, "request": {s.sign(t, s.key, "oauth-authz-req+jwt", s.objectClaims(params, pairs...))}}
}

// RFC 9101 §6.3: only what the client has signed counts.
func TestRequestObject(t *testing.T) {
	s := newSigning(t)
	browser := merge(s.object(t, asks("webapp", "scope", "orders", "prompt", "consent")),
		"scope", "profile", "state", "other", "redirect_uri", "https://evil.example/", "prompt", "none", "response_type", "token")
	for name, send := range map[string]func(*testing.T, url.Values) answer{"GET": s.get, "POST": s.post} {
		t.Run(name, func(t *testing.T) {
			page := send(t, browser)
			page.check(t, http.StatusOK, "")
			if !strings.Contains(text(page), "your orders") || strings.Contains(text(page), "your name") {
				t.Errorf("the page asks for something else: %s", text(page))
			}
			got := s.decide(t, page, "allow")
			if got.Code != http.StatusSeeOther || got.location().Get("state") != "xyz" || !strings.HasPrefix(got.Header().Get("Location"), webRedirect) {
				t.Errorf("%d %s", got.Code, got.Header().Get("Location"))
			}
			s.token(t, redeems(got.location().Get("code"))).check(t, http.StatusOK, "")
		})
	}
	t.Run("pushed", func(t *testing.T) {
		page := s.get(t, s.pushed(t, merge(browser, "prompt", "none")))
		page.check(t, http.StatusOK, "")
		if !strings.Contains(text(page), "your orders") || strings.Contains(text(page), "your name") {
			t.Errorf("the page asks for something else: %s", text(page))
		}
		got := s.decide(t, page, "allow")
		if got.location().Get("state") != "xyz" {
			t.Errorf("%s", got.Header().Get("Location"))
		}
		s.token(t, redeems(got.location().Get("code"))).check(t, http.StatusOK, "")
	})
	t.Run("values that are no text", func(t *testing.T) {
		s := newSigning(t, openID(), withoutConsent("webapp"))
		s.site.user.AuthTime = s.clock.Now()
		browser := s.object(t, asks("webapp", "scope", "openid"), "max_age", 3600, "resource", []string{testIssuer, testAPI}, "prompt", nil,
			"claims", map[string]any{"id_token": map[string]any{"acr": nil}}, "nonce", nil)
		code := s.get(t, browser).location().Get("code")
		tokens := s.token(t, redeems(code))
		tokens.check(t, http.StatusOK, "")
		if claims := s.claims(t, tokens.json(t)["access_token"]); len(claims["aud"].([]any)) != 2 {
			t.Errorf("aud is %v", claims["aud"])
		}
	})
}

func TestRequestObjectRefusals(t *testing.T) {
	s := newSigning(t)
	other := jwttest.NewKey(t, "ES256")
	in := func(d time.Duration) int64 { return s.clock.Now().Add(d).Unix() }
	const fine, problem, fatal = "fine", "redirect", "page"
	for name, tt := range map[string]struct {
		typ    string
		key    *jwttest.Key
		change []any
		want   string
	}{
		"RFC 9101 §4":                         {want: fine},
		"no typ":                              {typ: "-", want: fine},
		"typ JWT":                             {typ: "JWT", want: fine},
		"RFC 9101 §10.8 its own typ in full":  {typ: "application/OAuth-AuthZ-Req+JWT", want: fine},
		"RFC 8725 §3.11 an access token":      {typ: "at+jwt", want: fatal},
		"RFC 8725 §3.11 an assertion":         {typ: "client-authentication+jwt", want: fatal},
		"RFC 9101 §6.2 another key":           {key: &other, want: fatal},
		"no iss":                              {change: []any{"iss", nil}, want: fine},
		"iss of another":                      {change: []any{"iss", "spa"}, want: problem},
		"RFC 9101 §10.8 sub is the client ID": {change: []any{"sub", "webapp"}, want: problem},
		"RFC 8725 §3.9 no aud":                {change: []any{"aud", nil}, want: problem},
		"aud of another":                      {change: []any{"aud", "https://other.example"}, want: problem},
		"aud of this and another":             {change: []any{"aud", []string{"https://other.example", testIssuer}}, want: fine},
		"aud that is no text":                 {change: []any{"aud", 1}, want: fatal},
		"RFC 9101 §5 client_id of another":    {change: []any{"client_id", "spa"}, want: problem},
		"RFC 9101 §5 no client_id":            {change: []any{"client_id", nil}, want: problem},
		"RFC 9101 §4 request inside":          {change: []any{"request", "x"}, want: problem},
		"RFC 9101 §4 request_uri inside":      {change: []any{"request_uri", "https://app.example.com/r"}, want: problem},
		"a pushed request inside":             {change: []any{"request_uri", "urn:ietf:params:oauth:request_uri:x"}, want: problem},
		"expired":                             {change: []any{"exp", in(-time.Minute)}, want: problem},
		"no exp":                              {change: []any{"exp", nil}, want: fine},
		"exp that is no number":               {change: []any{"exp", "soon"}, want: fatal},
		"made 8 s ahead":                      {change: []any{"iat", in(8 * time.Second), "nbf", in(8 * time.Second)}, want: fine},
		"made 61 s ahead":                     {change: []any{"iat", in(61 * time.Second)}, want: problem},
		"good from 61 s ahead":                {change: []any{"nbf", in(61 * time.Second)}, want: problem},
		"a redirect_uri that is not known":    {change: []any{"redirect_uri", "https://evil.example/"}, want: fatal},
		"a redirect_uri that is no text":      {change: []any{"redirect_uri", []string{webRedirect}}, want: fatal},
		"a scope that is not known":           {change: []any{"scope", "magic"}, want: problem},
		"a resource that is no text":          {change: []any{"resource", []any{1}}, want: fatal},
	} {
		t.Run(name, func(t *testing.T) {
			s.site.address = name // failures of one address are limited
			typ, key := tt.typ, s.key
			if typ == "" {
				typ = "oauth-authz-req+jwt"
			}
			if typ == "-" {
				typ = ""
			}
			if tt.key != nil {
				key = *tt.key
			}
			browser := merge(asks("webapp"), "request", s.sign(t, key, typ, s.objectClaims(asks("webapp"), tt.change...)))
			a, pushed := s.get(t, browser), s.push(t, browser)
			if (pushed.Code == http.StatusCreated) != (tt.want == fine) || pushed.page != nil {
				t.Errorf("pushed: %d %s", pushed.Code, pushed.Body)
			}
			switch tt.want {
			case fine:
				a.check(t, http.StatusOK, "")
			case problem:
				if a.Code != http.StatusSeeOther || a.location().Get("error") == "" || a.location().Get("state") != "xyz" ||
					!strings.HasPrefix(a.Header().Get("Location"), webRedirect) {
					t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
				}
			case fatal:
				if a.page == nil || a.Code != http.StatusBadRequest || a.Header().Get("Location") != "" {
					t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
				}
			}
		})
	}
}

func TestRequestObjectIsUnreadable(t *testing.T) {
	s := newSigning(t)
	good := s.object(t, asks("webapp")).Get("request")
	head, rest, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	text, err := json.Marshal(s.objectClaims(asks("webapp")))
	if err != nil {
		t.Fatal(err)
	}
	for name, object := range map[string]string{
		"no JWT":             "x",
		"dots":               "..",
		"RFC 7515 alg none":  jwttest.Encode(`{"alg":"none"}`) + "." + payload + ".",
		"RFC 7515 no alg":    jwttest.Encode(`{}`) + "." + payload + "." + signature,
		"HS256":              jwttest.Encode(`{"alg":"HS256"}`) + "." + payload + "." + signature,
		"encrypted":          "a.b.c.d.e",
		"no signature":       head + "." + payload + ".",
		"another signature":  head + "." + payload + "." + jwttest.Respell(signature),
		"a claim twice":      jwttest.Forge(t, s.key.JWK, `{"alg":"ES256"}`, []byte(`{"state":"a",`+string(text[1:]))),
		"a key of its own":   jwttest.Forge(t, s.key.JWK, `{"alg":"ES256","jwk":{}}`, text),
		"a critical header":  jwttest.Forge(t, s.key.JWK, `{"alg":"ES256","crit":["x"]}`, text),
		"an array of claims": jwttest.Forge(t, s.key.JWK, `{"alg":"ES256"}`, []byte(`["state"]`)),
		"too large":          s.object(t, asks("webapp", "state", strings.Repeat("x", 16<<10))).Get("request"),
	} {
		t.Run(name, func(t *testing.T) {
			s.site.address = name
			a := s.get(t, merge(asks("webapp"), "request", object))
			if a.page == nil || a.page.Err.Code != "invalid_request_object" || a.Code != http.StatusBadRequest {
				t.Errorf("%d %s %s", a.Code, a.Header().Get("Location"), a.Body)
			}
			s.push(t, merge(asks("webapp"), "request", object)).check(t, http.StatusBadRequest, "invalid_request_object")
		})
	}
	t.Run("RFC 9101 §5 with request_uri", func(t *testing.T) {
		s.site.address = "192.0.2.9"
		for _, browser := range []url.Values{
			merge(s.object(t, asks("webapp")), "request_uri", "https://app.example.com/r"),
			merge(s.object(t, asks("webapp")), "request_uri", s.pushed(t, asks("webapp")).Get("request_uri")),
		} {
			if a := s.get(t, browser); a.page == nil || a.page.Err.Code != "invalid_request" {
				t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
			}
		}
		s.push(t, merge(s.object(t, asks("webapp")), "request_uri", "https://app.example.com/r")).check(t, http.StatusBadRequest, "invalid_request")
	})
	t.Run("RFC 9101 §5 without client_id", func(t *testing.T) {
		if a := s.get(t, merge(s.object(t, asks("webapp")), "client_id", "")); a.page == nil || a.page.Err.Code != "invalid_client" {
			t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
		}
	})
	t.Run("an address that sends many", func(t *testing.T) {
		s.site.address = "192.0.2.8"
		forged := merge(asks("webapp"), "request", head+"."+payload+".AA")
		for range 600 {
			s.get(t, forged).check(t, http.StatusBadRequest, "invalid_request_object")
			s.get(t, merge(asks("webapp"), "request", "x")).check(t, http.StatusBadRequest, "invalid_request_object") // costs nothing
		}
		s.get(t, forged).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
		s.push(t, forged).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
		s.get(t, s.object(t, asks("webapp"))).check(t, http.StatusOK, "")
		s.push(t, s.object(t, asks("webapp"))).check(t, http.StatusCreated, "")
	})
}

// The keys at jwks_uri may take longer than a request may wait for the store.
func TestRequestObjectWithSlowKeys(t *testing.T) {
	const limit = time.Second
	for _, name := range []string{"brought", "pushed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := jwttest.NewKey(t, "ES256")
			site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(limit + limit/2)
				w.Header().Set("Content-Type", "application/jwk-set+json")
				_, _ = w.Write(setOf(key))
			}))
			t.Cleanup(site.Close)
			server, _ := newFaultyServer(t, limit, func(c *Config) { c.URL = "http://127.0.0.1" }, client("webapp", func(c *storage.Client) {
				c.JWKSURI = site.URL
			}))
			s := &signing{server, key}
			object := s.object(t, asks("webapp"), "aud", "http://127.0.0.1")
			if name == "pushed" {
				s.push(t, object).check(t, http.StatusCreated, "")
				return
			}
			s.get(t, object).check(t, http.StatusOK, "")
		})
	}
}

// A person may take longer to sign in, and to decide, than the object is good for.
func TestRequestObjectExpiresAtTheLogin(t *testing.T) {
	s := newSigning(t)
	alice := s.site.user
	s.site.user, s.site.login = nil, "https://example.com/login"
	browser := s.object(t, asks("webapp", "login_hint", "alice", "ui_locales", "de"))
	a := s.get(t, browser)
	a.check(t, http.StatusSeeOther, "")
	to, err := url.Parse(a.location().Get("return_to"))
	if err != nil || to.Path != "/oauth/authorize" || a.location().Get("login_hint") != "alice" {
		t.Fatalf("%v %s", err, a.Header().Get("Location"))
	}
	back := to.Query()
	if len(back) != 3 || back.Get("request") != browser.Get("request") || back.Get(afterLogin) == "" {
		t.Fatalf("it comes back with %v", back)
	}
	s.site.user = alice
	s.clock.Advance(50 * time.Minute)
	s.get(t, browser).check(t, http.StatusSeeOther, "invalid_request_object")
	other := s.object(t, asks("webapp", "state", "other"), "exp", s.clock.Now().Unix()-60)
	s.get(t, merge(other, afterLogin, back.Get(afterLogin))).check(t, http.StatusSeeOther, "invalid_request_object")
	page := s.get(t, back)
	page.check(t, http.StatusOK, "")
	if page.Header().Get("Content-Language") != "de" {
		t.Errorf("the page is in %s", page.Header().Get("Content-Language"))
	}
	s.site.user = nil // and once more, as somebody else
	again := s.get(t, back)
	again.check(t, http.StatusSeeOther, "")
	to, err = url.Parse(again.location().Get("return_to"))
	if err != nil {
		t.Fatal(err)
	}
	s.site.user = alice
	s.get(t, to.Query()).check(t, http.StatusOK, "")
	got := s.decide(t, page, "allow")
	if got.location().Get("code") == "" || s.browser["__Secure-oauth-login"] != nil {
		t.Errorf("%d %s, the browser has %v", got.Code, got.Header().Get("Location"), s.browser)
	}
	s.clock.Advance(10 * time.Minute)
	s.get(t, back).check(t, http.StatusSeeOther, "invalid_request_object")
	s.site.user = nil
	for range 2 { // it does not go on for ever
		s.clock.Advance(40 * time.Minute)
		if again = s.get(t, to.Query()); again.location().Get("error") != "" {
			break
		}
		to, _ = url.Parse(again.location().Get("return_to"))
	}
	again.check(t, http.StatusSeeOther, "invalid_request_object")
}

// OpenID Connect Core §3.1.2.1: prompt=none is in the object.
func TestRequestObjectWantsNoPage(t *testing.T) {
	s := newSigning(t)
	none, other := s.object(t, asks("webapp", "prompt", "none")), s.object(t, asks("webapp"))
	for _, tt := range []struct {
		params url.Values
		want   bool
	}{
		{none, true},
		{other, false},
		{merge(other, "prompt", "none"), false},
		{merge(none, "prompt", "login"), true},
		{url.Values{"request": {"x"}, "prompt": {"none"}}, true},
		{url.Values{"request": {"x"}}, false},
	} {
		if got := s.WantsNoPage(t.Context(), tt.params); got != tt.want {
			t.Errorf("%v: %v", tt.params, got)
		}
	}
	s.site.user, s.site.login = nil, "https://example.com/login"
	s.get(t, none).check(t, http.StatusSeeOther, "login_required")
}

// RFC 9101 §10.5.
func TestSignedRequestsAreRequired(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"of all clients": func(c *Config) { c.RequireSigned = true },
		"of the client":  client("webapp", func(c *storage.Client) { c.RequireSigned = true }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSigning(t, edit)
			s.get(t, asks("webapp")).check(t, http.StatusSeeOther, "invalid_request")
			s.push(t, asks("webapp")).check(t, http.StatusBadRequest, "invalid_request")
			s.get(t, s.object(t, asks("webapp"))).check(t, http.StatusOK, "")
			if s.decide(t, s.get(t, s.pushed(t, s.object(t, asks("webapp")))), "allow").location().Get("code") == "" {
				t.Error("no code for a signed request that was pushed")
			}
			if other := s.get(t, asks("spa")); (other.Code == http.StatusOK) != (name == "of the client") {
				t.Errorf("another client: %d %s", other.Code, other.Header().Get("Location"))
			}
			metadata := s.fetch(t, wellKnown).json(t)
			if (metadata["require_signed_request_object"] == true) != (name == "of all clients") {
				t.Errorf("%v", metadata)
			}
		})
	}
}

func TestRequestObjectAlgorithm(t *testing.T) {
	rsa := jwttest.NewKey(t, "PS256")
	s := newSigning(t, client("webapp", func(c *storage.Client) {
		c.RequestAlgorithm, c.JWKS = "PS256", json.RawMessage(strings.Replace(string(c.JWKS), "]", ","+string(rsa.Public)+"]", 1))
	}))
	s.get(t, s.object(t, asks("webapp"))).check(t, http.StatusBadRequest, "invalid_request_object")
	s.get(t, url.Values{"client_id": {"webapp"}, "request": {s.sign(t, rsa, "JWT", s.objectClaims(asks("webapp")))}}).check(t, http.StatusOK, "")
}

// The metadata names what clients can do, and nothing else.
func TestRequestObjectMetadata(t *testing.T) {
	for _, tt := range []struct {
		s    *testServer
		want bool
	}{
		{newTestServer(t), false},
		{newTestServer(t, openID()), false},
		{newSigning(t).testServer, true},
		{newTestServer(t, registers()), true},
	} {
		metadata := tt.s.fetch(t, wellKnown).json(t)
		algs, _ := metadata["request_object_signing_alg_values_supported"].([]any)
		if metadata["request_parameter_supported"] != tt.want || slices.Contains(algs, any("ES256")) != tt.want || slices.Contains(algs, any("none")) {
			t.Errorf("%v, want %v", metadata, tt.want)
		}
	}
}

// RFC 9449 §10.1: dpop_jkt of the object and the proof of the pushed request agree.
func TestRequestObjectWithAProof(t *testing.T) {
	s := newSigning(t)
	p, thief := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
	push := func(params url.Values) answer {
		r := postRequest("/oauth/par", params.Encode())
		r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
		r.Header.Set("DPoP", p.Prove(t, http.MethodPost, testIssuer+"/oauth/par", ""))
		return s.do(t, r)
	}
	push(s.object(t, asks("webapp", "dpop_jkt", thief.Thumbprint))).check(t, http.StatusBadRequest, "invalid_dpop_proof")
	push(s.object(t, asks("webapp", "dpop_jkt", p.Thumbprint))).check(t, http.StatusCreated, "")
}

func FuzzRequestObject(f *testing.F) {
	f.Add(`{"alg":"ES256"}`, `{"client_id":"webapp","aud":"https://example.com","scope":"orders","max_age":1,"claims":{},"resource":["https://api.example.com"]}`)
	f.Add(`{"alg":"ES256","typ":"JWT"}`, `{"redirect_uri":["x"],"state":null,"exp":1e300}`)
	f.Add(`{`, `[]`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		key := jwttest.NewKey(t, "ES256")
		s := newTestServer(t, client("webapp", func(c *storage.Client) { c.JWKS = setOf(key) }))
		object := jwttest.Forge(t, key.JWK, header, []byte(payload))
		for _, r := range []*http.Request{
			httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+url.Values{"client_id": {"webapp"}, "request": {object}}.Encode(), nil),
			postRequest("/oauth/par", url.Values{"client_id": {"webapp"}, "client_secret": {webSecret}, "request": {object}}.Encode()),
		} {
			if a := s.do(t, r); a.Code >= 500 {
				t.Errorf("%d %s", a.Code, a.Body)
			}
		}
	})
}
