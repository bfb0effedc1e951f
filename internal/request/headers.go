package request

import (
	"net/http"
	"reflect"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// lasting are the headers of an endpoint that no `header` directive may change: pages do not work with the policy that a site has
// for its own, no cache may keep a token, and scripts of other origins need what CORS says.
var lasting = []string{
	"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
	"Cache-Control", "Content-Security-Policy", "Content-Type", "Location", "Pragma", "Referrer-Policy", "WWW-Authenticate",
	"X-Content-Type-Options", "X-Frame-Options",
}

// KeepHeaders returns a writer for the response of an endpoint, whose lasting headers stay as the endpoint sets them. A `header`
// directive before the endpoint that removes a header, or has a condition, changes the response when it begins, after the endpoint.
// So what it has changed is undone beneath its writer.
func KeepHeaders(w http.ResponseWriter) http.ResponseWriter {
	var kept *keptHeaders
	for outer := w; outer != nil; {
		if changes := headerWriter(outer); changes != nil {
			if kept == nil {
				kept = &keptHeaders{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
			}
			changes.ResponseWriter = restorer{&caddyhttp.ResponseWriterWrapper{ResponseWriter: changes.ResponseWriter}, kept}
		}
		inner, _ := outer.(interface{ Unwrap() http.ResponseWriter })
		if inner == nil {
			break
		}
		outer = inner.Unwrap()
	}
	if kept == nil {
		return w
	}
	return kept
}

var headersPackage = reflect.TypeFor[headers.Handler]().PkgPath()

// headerWriter returns what a writer of the `header` directive writes to, and nil for any other writer. The type of that writer is
// not exported, but its field is.
func headerWriter(w http.ResponseWriter) *caddyhttp.ResponseWriterWrapper {
	v := reflect.Indirect(reflect.ValueOf(w))
	if v.Kind() != reflect.Struct || v.Type().PkgPath() != headersPackage {
		return nil
	}
	field := v.FieldByName("ResponseWriterWrapper")
	if !field.IsValid() {
		return nil
	}
	inner, _ := reflect.TypeAssert[*caddyhttp.ResponseWriterWrapper](field)
	return inner
}

// keptHeaders remembers the lasting headers when the response begins.
type keptHeaders struct {
	*caddyhttp.ResponseWriterWrapper

	values http.Header // nil: it has not begun
}

// WriteHeader implements http.ResponseWriter.
func (k *keptHeaders) WriteHeader(status int) {
	if k.values == nil {
		k.values = make(http.Header)
		for _, name := range lasting {
			if values := k.Header().Values(name); len(values) > 0 {
				k.values[http.CanonicalHeaderKey(name)] = slices.Clone(values) // which the directive may change in place
			}
		}
	}
	k.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (k *keptHeaders) Write(b []byte) (int, error) {
	if k.values == nil {
		k.WriteHeader(http.StatusOK)
	}
	return k.ResponseWriterWrapper.Write(b)
}

// restorer restores the headers that were kept.
type restorer struct {
	*caddyhttp.ResponseWriterWrapper

	kept *keptHeaders
}

// WriteHeader implements http.ResponseWriter.
func (r restorer) WriteHeader(status int) {
	for name, values := range r.kept.values {
		r.Header()[name] = slices.Clone(values)
	}
	r.ResponseWriterWrapper.WriteHeader(status)
}
