package bearer

import (
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestAmbiguousTargets(t *testing.T) {
	for target, want := range map[string]bool{
		"/":                                    false,
		"/api/orders":                          false,
		"/projects/group%2Fname":               false,
		"/projects/group%2fname%5Cmore":        false,
		"/a//b":                                false,
		"/...":                                 false,
		"/.well-known/x":                       false,
		"/file.":                               false,
		"/a.b/..c/d..":                         false,
		"/100%25":                              false,
		"/100%25%2Fmore":                       false,
		"/search?q=../..%2f":                   false,
		"/a;b=c/d":                             false,
		"/caf%C3%A9":                           false,
		"http://shop.example/api":              false,
		"http://shop.example":                  true,
		"http:api/orders":                      true,
		"*":                                    true,
		"/../api":                              true,
		"/api/..":                              true,
		"/api/./orders":                        true,
		"/public/%2e%2e/api":                   true,
		"/public/.%2E/api":                     true,
		"/api/..%2f..%2fv1/orders":             true,
		"/api/orders/..%2f..%2f42":             true,
		"/public/..%5capi":                     true,
		"/public\\..\\api":                     true,
		"/public%2f..":                         true,
		"/public/..;/api":                      true,
		"/public/..;jsessionid=1/api":          true,
		"/public/.;/api":                       true,
		"/public/%2e%2e%3ba/api":               true,
		"/public/%252e%252e/api":               true,
		"/public/..%252fapi":                   true,
		"/public/%25252e%25252e%25252fapi":     true,
		"/x%25/%252e%252e/api":                 true,
		"/api%00":                              true,
		"/api%2500.html":                       true,
		"/public/" + strings.Repeat("%25", 99): false,
	} {
		u, err := url.ParseRequestURI(target)
		if target == "*" {
			u, err = &url.URL{Path: "*"}, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := Ambiguous(u); got != want {
			t.Errorf("%s: %t, want %t", target, got, want)
		}
	}
}

func TestReadings(t *testing.T) {
	for path, want := range map[string]string{
		"/api/orders":      "/api/orders",
		"/api;x/orders":    "/api;x/orders /api/orders /api/orders",
		"/api/;x/orders;y": "/api/;x/orders;y /api//orders /api//orders",
		`/api\orders`:      `/api\orders /api/orders`,
		`/api;x\orders`:    `/api;x\orders /api;x/orders /api /api/orders`,
		";":                ";  ",
	} {
		if got := strings.Join(slices.Collect(Readings(path)), " "); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

// No target takes more than linear work or panics. Decoding an ambiguous target does not make it unambiguous.
func FuzzAmbiguous(f *testing.F) {
	for _, path := range []string{"/a/..%2fb", "/%", "/%2", "/%zz/..;", "\\", "/\x00", "/é%C3"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u := &url.URL{Path: "/" + path}
		if strings.Contains(path, "/../") && !Ambiguous(u) {
			t.Errorf("%q", path)
		}
		if !Ambiguous(&url.URL{Path: "/" + path + "/%2e%2E"}) {
			t.Errorf("%q and an escaped dot segment", path)
		}
	})
}
