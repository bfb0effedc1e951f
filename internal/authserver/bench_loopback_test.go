package authserver

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"testing"
)

// loopback is a client with one connection to a server in this process. It allocates nothing, so that all allocations are the server's
// and net/http's.
type loopback struct {
	net.Conn
	request []byte // as on the wire
	next    []byte // the end of the request, which the answer replaces; nil if the request stays the same
	answer  [8 << 10]byte
}

func newLoopback(tb testing.TB, handler http.HandlerFunc, r *benchRequest) *loopback {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	conn, err := new(net.Dialer).DialContext(tb.Context(), "tcp", server.Listener.Addr().String())
	must(tb, err)
	tb.Cleanup(func() { _ = conn.Close() }) // it has done its work
	l := &loopback{Conn: conn}
	l.request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: example.com\r\nAuthorization: %s\r\nContent-Length: %d\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n%s",
		r.URL.Path, r.Header.Get("Authorization"), len(r.form), r.form)
	if r.fixed < len(r.form) {
		l.next = l.request[len(l.request)-(len(r.form)-r.fixed):]
	}
	return l
}

// roundTrip sends the request. If that is a refresh, the next one presents the token in the answer.
func (l *loopback) roundTrip() error {
	_, err := l.Write(l.request)
	n, length := 0, -1
	for err == nil && (length < 0 || n < length) {
		var more int
		more, err = l.Read(l.answer[n:])
		n += more
		length = answerLength(l.answer[:n])
	}
	if err != nil || !bytes.HasPrefix(l.answer[:n], []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("%w %s", err, l.answer[:n])
	}
	if _, token, found := bytes.Cut(l.answer[:n], []byte(`"refresh_token":"`)); found {
		copy(l.next, token)
	}
	return nil
}

// answerLength returns the length of an answer, or -1 if its headers are incomplete.
func answerLength(answer []byte) int {
	headers, _, found := bytes.Cut(answer, []byte("\r\n\r\n"))
	if !found {
		return -1
	}
	_, rest, _ := bytes.Cut(headers, []byte("\r\nContent-Length: "))
	digits, _, _ := bytes.Cut(rest, []byte("\r\n"))
	length := 0
	for _, digit := range digits {
		length = 10*length + int(digit-'0')
	}
	return len(headers) + len("\r\n\r\n") + length
}

// tokenRequests are token requests. Each may allocate a number of times as much as net/http and the signature alone.
var tokenRequests = []struct {
	grant, algorithm string
	most             float64
}{
	{"client_credentials", "ES256", 1.5},
	{"client_credentials", "EdDSA", 1.7},
	{"client_credentials", "RS256", 1.7},
	{"refresh_token", "ES256", 1.7},
	{"refresh_token", "EdDSA", 2.3},
}

// overLoopback returns clients of a token endpoint and of a plain handler, each behind net/http's server and with the same request.
func overLoopback(tb testing.TB, grant, algorithm string) (ours, plain *loopback) {
	tb.Helper()
	s := newBenchServer(tb, algorithm)
	r := s.credentialsForm()
	if grant == "refresh_token" {
		r = newFormWith(s.config.Paths.Token, refreshes(""), grant, s.newRefreshToken(tb))
	}
	ours = newLoopback(tb, func(w http.ResponseWriter, r *http.Request) {
		if err := serveAt(s.Server, w, r, s.site, here); err != nil {
			tb.Error(err)
		}
	}, r)
	key := newRawBenchKey(tb, algorithm)
	plain = newLoopback(tb, func(w http.ResponseWriter, r *http.Request) {
		if _, err := key.sign(plainSigned); err != nil {
			tb.Error(err)
		}
		servePlain(w, r)
	}, r)
	return ours, plain
}

func BenchmarkLoopback(b *testing.B) {
	for _, c := range tokenRequests {
		ours, plain := overLoopback(b, c.grant, c.algorithm)
		b.Run(c.grant+"/"+c.algorithm+"/ours", func(b *testing.B) { benchLoopback(b, ours) })
		b.Run(c.grant+"/"+c.algorithm+"/plain", func(b *testing.B) { benchLoopback(b, plain) })
	}
}

func benchLoopback(b *testing.B, l *loopback) {
	b.Helper()
	must(b, l.roundTrip())
	b.ReportAllocs()
	for b.Loop() {
		if err := l.roundTrip(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAllocationsOfATokenRequest(t *testing.T) {
	if raceDetector() {
		t.Skip("the race detector allocates too")
	}
	for _, c := range tokenRequests {
		t.Run(c.grant+"/"+c.algorithm, func(t *testing.T) {
			ours, plain := overLoopback(t, c.grant, c.algorithm)
			// What the garbage collector and other goroutines add differs from run to run, so the least of some counts.
			count := func(l *loopback) float64 {
				least := math.Inf(1)
				for range 5 {
					least = min(least, testing.AllocsPerRun(60, func() { must(t, l.roundTrip()) }))
				}
				return least
			}
			got, least := count(ours), count(plain)
			t.Logf("%.0f allocations, %.2f times the %.0f of net/http and the signature", got, got/least, least)
			if got > c.most*least {
				t.Errorf("%.0f allocations, more than %.1f times %.0f", got, c.most, least)
			}
		})
	}
}

func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
