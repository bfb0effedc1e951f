package bearer

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// ask asks a catalog for a document.
func ask(c Catalog, method, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	for ; len(header) > 0; header = header[2:] {
		r.Header.Set(header[0], header[1])
	}
	w := httptest.NewRecorder()
	w.Code = 0
	if IsMetadata(path) {
		c.Serve(w, r, path)
	}
	return w
}

func TestRFC9728WhereTheMetadataIs(t *testing.T) {
	const root = "/.well-known/oauth-protected-resource"
	for _, tt := range []struct {
		resource, url string
		paths         []string
	}{
		{"https://api.example.com", "https://api.example.com" + root, []string{root, root + "/"}},
		{"https://api.example.com/", "https://api.example.com" + root, []string{root}},
		{"https://api.example.com/orders", "https://api.example.com" + root + "/orders", []string{root, root + "/orders", root + "/orders/"}},
		{"https://api.example.com:8443/a/b/", "https://api.example.com:8443" + root + "/a/b", []string{root, root + "/a/b"}},
		{"https://api.example.com/a%20b", "https://api.example.com" + root + "/a%20b", []string{root, root + "/a b"}},
		{"https://api.example.com/?tenant=1", "https://api.example.com" + root + "?tenant=1", []string{root}},
	} {
		m := &Metadata{Resource: tt.resource}
		if err := m.Prepare(); err != nil || m.URL() != tt.url {
			t.Fatalf("%s: at %s, want %s, %v", tt.resource, m.URL(), tt.url, err)
		}
		c, err := NewCatalog([]*Metadata{m})
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range tt.paths {
			if w := ask(c, http.MethodGet, path); w.Code != http.StatusOK {
				t.Errorf("%s: %s: %d", tt.resource, path, w.Code)
			}
		}
	}
}

func TestRFC9728Document(t *testing.T) {
	const path = "/.well-known/oauth-protected-resource"
	c, err := NewCatalog([]*Metadata{{Resource: testAPI + "/", Servers: []string{testIssuer}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		// §2: the resource byte by byte; §3.2: no empty arrays
		{http.MethodGet, path, 200, `{"resource":"https://api.example.com/","authorization_servers":["https://example.com"]}`},
		{http.MethodHead, path, 200, ""},
		{http.MethodOptions, path, 204, ""},
		{http.MethodPost, path, 405, ""},
		{http.MethodGet, path + "/other", 404, `{"error":"not_found","error_description":"no protected resource has its metadata here"}`},
		{http.MethodOptions, path + "/other", 204, ""},
		{http.MethodGet, path + "-x", 0, ""},
		{http.MethodGet, "/", 0, ""},
	} {
		w := ask(c, tt.method, tt.path, "Access-Control-Request-Headers", "mcp-protocol-version, x-any")
		if w.Code != tt.status || w.Body.String() != tt.body {
			t.Errorf("%s %s: %d %v %s", tt.method, tt.path, w.Code, w.Header(), w.Body)
		}
		if origin := w.Header().Get("Access-Control-Allow-Origin"); (origin == "*") != (tt.status != 0) {
			t.Errorf("%s %s: scripts of %q may read it", tt.method, tt.path, origin)
		}
		if tt.status == 200 && (w.Header().Get("Content-Type") != "application/json" || w.Header().Get("ETag") == "") {
			t.Errorf("%s: %v", tt.method, w.Header())
		}
		if tt.status == 204 && w.Header().Get("Access-Control-Allow-Headers") != "mcp-protocol-version, x-any" {
			t.Errorf("%s: %v", tt.method, w.Header())
		}
		if tt.status == 405 && w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: %v", tt.method, w.Header())
		}
	}
}

// Guards of several routes can be for the same resource. A client learns of all scopes that the resource has.
func TestCatalogOfSeveralGuards(t *testing.T) {
	const path = "/.well-known/oauth-protected-resource"
	c, err := NewCatalog([]*Metadata{
		{Resource: testAPI + "/orders", Servers: []string{testIssuer}, Scopes: []string{"admin", "read"}, Methods: []string{"header"}},
		{Resource: testAPI + "/stock", Servers: []string{"https://other.example"}},
		{Resource: testAPI + "/orders", Servers: []string{testIssuer}, Scopes: []string{"read", "write"}, Methods: []string{"header"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const orders = `{"resource":"https://api.example.com/orders","authorization_servers":["https://example.com"],` +
		`"scopes_supported":["admin","read","write"],"bearer_methods_supported":["header"]}`
	for p, want := range map[string]string{
		path + "/orders": orders,
		path + "/stock":  `{"resource":"https://api.example.com/stock","authorization_servers":["https://other.example"]}`,
	} {
		if w := ask(c, http.MethodGet, p); w.Body.String() != want {
			t.Errorf("%s: %s", p, w.Body)
		}
	}
	if w := ask(c, http.MethodGet, path); w.Code != http.StatusNotFound {
		t.Errorf("where no resource of several has its document, there is %s", w.Body)
	}
	c, err = NewCatalog([]*Metadata{{Resource: testAPI + "/orders"}, {Resource: testAPI + "/orders", Name: "Orders"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + "/orders"} {
		if w := ask(c, http.MethodGet, p); w.Body.String() != `{"resource":"https://api.example.com/orders","resource_name":"Orders"}` {
			t.Errorf("%s: %s", p, w.Body)
		}
	}
	c, err = NewCatalog([]*Metadata{{Resource: testAPI + "/orders"}, {Resource: testAPI}})
	if err != nil {
		t.Fatal(err)
	}
	if w := ask(c, http.MethodGet, path); w.Body.String() != `{"resource":"https://api.example.com"}` {
		t.Errorf("where the resource without a path has its document, there is %s", w.Body)
	}
}
