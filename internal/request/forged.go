package request

import (
	"net/http"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
)

// DropClientCert removes the headers by which a trusted proxy tells of certificates (RFC 9440), if anybody else has sent them, and those
// that many servers cannot tell from them. It removes all trailers too: some servers merge them into the headers (RFC 9110 §6.5.1).
func DropClientCert(r *http.Request) {
	trusted := fromTrustedProxy(r)
	for _, name := range []string{mtls.Header, mtls.ChainHeader} {
		DropHeader(r, name, trusted)
	}
	r.Trailer = nil
}

// DropHeader removes a header, unless it is to be kept, and those that [LookAlike]. A header of the name that comes later is not dropped
// as hop-by-hop.
func DropHeader(r *http.Request, name string, keep bool) {
	for sent := range r.Header {
		if LookAlike(sent, name) && !(keep && sent == name) {
			delete(r.Header, sent)
		}
	}
	keepFromConnection(r.Header, name)
}

// LookAlike reports whether the names of two headers differ only in case and in the characters between words.
func LookAlike(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c + 'a' - 'A'
	case c == '_' || c == '.':
		return '-'
	}
	return c
}

// keepFromConnection removes a header from the Connection header. A proxy would drop it otherwise, since the client said that
// it is hop-by-hop (RFC 9110 §7.6.1).
func keepFromConnection(h http.Header, name string) {
	values := h.Values("Connection")
	if len(values) == 0 {
		return
	}
	h.Del("Connection")
	for _, value := range values {
		for option := range strings.SplitSeq(value, ",") {
			if option = strings.TrimSpace(option); !strings.EqualFold(option, name) {
				h.Add("Connection", option)
			}
		}
	}
}
