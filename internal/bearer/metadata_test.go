package bearer

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

func TestRFC9728WhereTheMetadataIs(t *testing.T) {
	const root = "/.well-known/oauth-protected-resource"
	for _, tt := range []struct {
		resource, url string
		paths         []string
	}{
		{"https://api.example.com", "https://api.example.com" + root, []string{root}},
		{"https://api.example.com/", "https://api.example.com" + root, []string{root}},
		{"https://api.example.com/orders", "https://api.example.com" + root + "/orders", []string{root, root + "/orders"}},
		{"https://api.example.com:8443/a/b/", "https://api.example.com:8443" + root + "/a/b", []string{root, root + "/a/b"}},
		{"https://api.example.com/a%20b", "https://api.example.com" + root + "/a%20b", []string{root, root + "/a b"}},
		{"https://api.example.com/?tenant=1", "https://api.example.com" + root + "?tenant=1", []string{root}},
	} {
		m := &Metadata{Resource: tt.resource}
		if err := m.Prepare(); err != nil {
			t.Fatal(err)
		}
		if m.URL() != tt.url || !slices.Equal(m.Paths(), tt.paths) {
			t.Errorf("%s: at %s, served at %q; want %s, %q", tt.resource, m.URL(), m.Paths(), tt.url, tt.paths)
		}
	}
}

func TestRFC9728Document(t *testing.T) {
	m := &Metadata{Resource: testAPI + "/", Servers: []string{testIssuer}}
	if err := m.Prepare(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method string
		status int
		body   string
	}{
		// §2: the resource byte by byte; §3.2: no empty arrays
		{http.MethodGet, 200, `{"resource":"https://api.example.com/","authorization_servers":["https://example.com"]}`},
		{http.MethodHead, 200, ""},
		{http.MethodOptions, 204, ""},
		{http.MethodPost, 405, ""},
	} {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest(tt.method, m.Paths()[0], nil))
		if w.Code != tt.status || w.Body.String() != tt.body || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v %s", tt.method, w.Code, w.Header(), w.Body)
		}
		if tt.status == 200 && (w.Header().Get("Content-Type") != "application/json" || w.Header().Get("ETag") == "") {
			t.Errorf("%s: %v", tt.method, w.Header())
		}
		if tt.status == 405 && w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: %v", tt.method, w.Header())
		}
	}
}
