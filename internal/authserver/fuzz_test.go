package authserver

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// checkParsed checks what holds for the parameters of every request: there are some or an error, none is empty and none
// but resource is there twice (RFC 6749 §3.2).
func checkParsed(t *testing.T, form url.Values, err error) {
	t.Helper()
	if (form == nil) == (err == nil) {
		t.Fatalf("got %q and error %v", form, err)
	}
	if err != nil && (asRefusal(err).Code != grants.InvalidRequest || asRefusal(err).HTTPStatus() != http.StatusBadRequest) {
		t.Errorf("got error %v", err)
	}
	for name, values := range form {
		if len(values) == 0 || len(values) > 1 && name != "resource" || len(values) == 1 && values[0] == "" {
			t.Errorf("%q is %q", name, values)
		}
	}
}

func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"", "code=x&code=y", "resource=a&resource=&resource=b", "a=%zz", "a=b;c=d", "=x", "&&&", "a&b=&c==", "%00=%ff", "scope=a+b",
		"client_secret=x&client%5fsecret=y",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := parseForm(body)
		checkParsed(t, form, err)
		if err != nil {
			return
		}
		again, err := parseForm(form.Encode())
		if err != nil || again.Encode() != form.Encode() {
			t.Errorf("%q is %q, which is %q with error %v", body, form, again, err)
		}
	})
}

func FuzzJSONBody(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"code":"x","code":"y"}`, `{"resource":["a",null,1]}`, `{"resource":[]}`, `{"a":[1]}`, `{"a":{}}`, `{"a":1}{}`,
		`{"a":1,}`, `{"a"}`, `{"a":"\ud800"}`, `{1:2}`, `{"a":1e999}`, "\xff", `{"resource":[}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		form, err := parseJSON(body)
		if err == nil {
			form, err = tidyForm(form)
		}
		checkParsed(t, form, err)
		if err != nil {
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(body, &object); err != nil {
			t.Fatalf("%q is no JSON object, but gives %q", body, form)
		}
		for name, value := range object {
			var text string
			if json.Unmarshal(value, &text) == nil && text != form.Get(name) {
				t.Errorf("%q of %q is %q", name, body, form.Get(name))
			}
		}
	})
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
		{"", "client_id=billing&client_secret=secret", ""},
		{"", "client_id=spa&client_secret=secret", ""},
		{"", "client_assertion=x&client_id=spa", ""},
		{"Basic", "", "client_secret=secret"},
		{"basic %%%", "", "client_secret"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	const secret = "correct horse battery staple"
	server, err := New(Config{
		Name: "fuzz", URL: testIssuer, Paths: DefaultPaths(new(url.URL)), Store: storage.OpenMemory(), Logger: zap.NewNop(),
		Audit: zap.NewNop(), Keys: keyring.Policy{Lifetime: time.Hour}, Limits: throttle.Limits{Off: true},
		Clients: map[string]*storage.Client{
			"billing": {ID: "billing", SecretHashes: []string{HashSecret(secret)}},
			"spa":     {ID: "spa"},
		},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, authorization, body, query string) {
		form, err := parseForm(body)
		if err != nil {
			return
		}
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
		client, err := server.clients.authenticate(newCall(t.Context(), r, ""), form)
		if (client == nil) == (err == nil) {
			t.Fatalf("got %v and error %v", client, err)
		}
		switch {
		case client == nil:
			if code := asRefusal(err).Code; code != grants.InvalidClient && code != grants.InvalidRequest {
				t.Errorf("got error %v", err)
			}
		case authorization != "" && form.Has("client_secret"):
			t.Error("RFC 6749 §2.3: two ways at once")
		case client.ID == "billing" && !slices.Contains(found, credentials{"billing", secret}):
			t.Errorf("billing gets in with %q", found)
		case client.ID == "spa" && !slices.Contains(found, credentials{"spa", ""}):
			t.Errorf("spa gets in with %q", found)
		case r.URL.Query().Has("client_secret"):
			t.Errorf("RFC 6749 §2.3.1: the secret may be in the URL: %q", query)
		}
	})
}
