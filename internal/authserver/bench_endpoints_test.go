package authserver

import (
	"net/http"
	"net/url"
	"testing"
)

// The cost of the endpoints without net/http and Caddy. Compare it with BenchmarkNetHTTP and BenchmarkRawSignature.

func BenchmarkClientCredentials(b *testing.B) {
	for _, algorithm := range benchAlgorithms {
		b.Run(algorithm, func(b *testing.B) {
			s := newBenchServer(b, algorithm)
			benchSame(b, s, s.credentialsForm(), http.StatusOK)
		})
	}
}

// benchSame sends the same request in a loop.
func benchSame(b *testing.B, s *benchServer, r *benchRequest, status int) {
	b.Helper()
	if err := s.send(r, status); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.send(r, status); err != nil {
			b.Fatal(err)
		}
	}
}

// Each refresh presents the token that the previous one returned.
func BenchmarkRefresh(b *testing.B) {
	for _, algorithm := range []string{"ES256", "EdDSA"} {
		b.Run(algorithm, func(b *testing.B) {
			s := newBenchServer(b, algorithm)
			r := newFormWith(s.config.Paths.Token, refreshes(""), "refresh_token", s.newRefreshToken(b))
			if err := s.send(r, http.StatusOK); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				put(r, s.answer.cut(`"refresh_token":"`, '"'))
				if err := s.send(r, http.StatusOK); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// An authorization request of a person who has approved the app before.
func BenchmarkAuthorize(b *testing.B) {
	s := newBenchServer(b, "ES256")
	benchSame(b, s, s.newAuthorization(), http.StatusSeeOther)
}

func BenchmarkCodeExchange(b *testing.B) {
	s := newBenchServer(b, "ES256")
	r := newFormWith(s.config.Paths.Token, redeems(""), "code", "")
	benchBatches(b, func() string { return s.newCode(b) }, func(code string) {
		put(r, code)
		if err := s.send(r, http.StatusOK); err != nil {
			b.Fatal(err)
		}
	})
}

// batch is how many codes or tokens are made in advance. So few do not expire before they are used.
const batch = 500

// benchBatches measures use, each time with the result of fresh, but does not measure fresh.
func benchBatches(b *testing.B, fresh func() string, use func(string)) {
	b.Helper()
	var made []string
	b.ReportAllocs()
	for b.Loop() {
		if len(made) == 0 {
			b.StopTimer()
			for range batch {
				made = append(made, fresh())
			}
			b.StartTimer()
		}
		use(made[len(made)-1])
		made = made[:len(made)-1]
	}
}

// The authorization request and the exchange of the code.
func BenchmarkCodeFlow(b *testing.B) {
	s := newBenchServer(b, "ES256")
	ask, exchange := s.newAuthorization(), newFormWith(s.config.Paths.Token, redeems(""), "code", "")
	b.ReportAllocs()
	for b.Loop() {
		if err := s.send(ask, http.StatusSeeOther); err != nil {
			b.Fatal(err)
		}
		put(exchange, s.answer.codeSent())
		if err := s.send(exchange, http.StatusOK); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIntrospect(b *testing.B) {
	for _, algorithm := range []string{"ES256", "EdDSA"} {
		s := newBenchServer(b, algorithm)
		r := newFormWith(s.config.Paths.Introspect, nil, "token", s.newAccessToken(b))
		b.Run(algorithm+"/seen", func(b *testing.B) { benchSame(b, s, r, http.StatusOK) })
		b.Run(algorithm+"/new", func(b *testing.B) {
			benchBatches(b, func() string { return s.newAccessToken(b) }, func(token string) {
				put(r, token)
				if err := s.send(r, http.StatusOK); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkDocuments(b *testing.B) {
	s := newBenchServer(b, "ES256")
	for name, path := range map[string]string{"metadata": "/.well-known/oauth-authorization-server", "JWKS": s.config.Paths.JWKS} {
		b.Run(name, func(b *testing.B) {
			r := &benchRequest{Request: &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}}}
			benchSame(b, s, r, http.StatusOK)
		})
	}
}
