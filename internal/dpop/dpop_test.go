package dpop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

const api = "https://example.com/api/orders"

func newChecker() (*Checker, *testclock.Clock) {
	clock := testclock.New()
	return &Checker{Memory: NewMemory(), Now: clock.Now}, clock
}

// reason returns why a proof is refused, "" if it is not.
func reason(t *testing.T, err error) string {
	t.Helper()
	refused, ok := errors.AsType[*Error](err)
	if err != nil && (!ok || refused.Reason == "") {
		t.Fatalf("%v", err)
	}
	if err == nil {
		return ""
	}
	return refused.Reason
}

func TestProofsOfEachAlgorithm(t *testing.T) {
	c, clock := newChecker()
	for _, alg := range []string{"ES256", "ES384", "EdDSA", "RS256", "PS256"} {
		p := jwttest.NewProver(t, alg, clock.Now)
		for range 2 { // the key is read, and then known
			proof, err := c.Check(t.Context(), []string{p.Prove(t, "GET", api, "the token")}, Request{Method: "GET", URL: api, Token: "the token"})
			if err != nil || proof.Thumbprint != p.Thumbprint {
				t.Errorf("%s: %+v, %v; want the key %s", alg, proof, err, p.Thumbprint)
			}
		}
	}
}

// RFC 9449 §4.3, by its numbers.
func TestRefusedProofs(t *testing.T) {
	c, clock := newChecker()
	p, other := jwttest.NewProver(t, "ES256", clock.Now), jwttest.NewProver(t, "ES256", clock.Now)
	rsaKey := jwttest.NewProver(t, "RS256", clock.Now)
	header := func(edits ...string) string {
		return strings.NewReplacer(edits...).Replace(`{"typ":"dpop+jwt","alg":"ES256","jwk":` + p.JWK + `}`)
	}
	payload := func(pairs ...any) string {
		text, err := json.Marshal(p.Claims("POST", api, "", pairs...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	at := func(d time.Duration) int64 { return clock.Now().Add(d).Unix() }
	good := func(pairs ...any) string { return p.Prove(t, "POST", api, "", pairs...) }
	secret := jwttest.NewSecret(t, "", strings.Repeat("s", 32))
	confused, err := secret.SignAs("dpop+jwt", []byte(payload()))
	if err != nil {
		t.Fatal(err)
	}
	const key = "jwk must be a public key for the alg, without private members"
	parts := strings.Split(good(), ".")
	for _, tt := range []struct{ name, proof, reason string }{
		{"good", good(), ""},
		{"2 not a JWT", "nonsense", "not a JWT"},
		{"2 nothing", "", "not a JWT"},
		{"2 four parts", good() + ".x", "not a JWT"},
		{"2 a line break", good() + "\n", "not a JWT"},
		{"2 huge", strings.Repeat("a", maxLength+1), "too long"},
		{"2 a huge header", p.Sign(t, header("{\"typ", `{"x":"`+strings.Repeat("x", maxHeaderLength)+`","typ`), payload()), "too long"},
		{"3 no jti", good("jti", nil), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 no htm", good("htm", nil), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 no htu", good("htu", nil), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 no iat", good("iat", nil), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 a jti that is a number", good("jti", 7), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 an iat that is text", good("iat", "now"), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 a claim twice", p.Sign(t, header(), strings.Replace(payload(), `"htm"`, `"htm":"GET","htm"`, 1)), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 a claim in two spellings", p.Sign(t, header(), strings.Replace(payload(), `"htm"`, `"HTM":"GET","htm"`, 1)), "jti, htm, htu or iat is missing or of the wrong type"},
		{"3 a huge jti", good("jti", strings.Repeat("j", maxID+1)), "jti is too long"},
		{"4 no typ", p.Sign(t, header(`"typ":"dpop+jwt",`, ""), payload()), "typ must be dpop+jwt"},
		{"4 another typ", p.Sign(t, header("dpop+jwt", "JWT"), payload()), "typ must be dpop+jwt"},
		{"5 none", jwttest.Encode(header("ES256", "none")) + "." + parts[1] + ".", "alg is not supported"},
		{"5 HS256 with a secret", p.Sign(t, header("ES256", "HS256"), payload()), "alg is not supported"},
		{"5 HS256 with an oct key", p.Sign(t, `{"typ":"dpop+jwt","alg":"HS256","jwk":{"kty":"oct","k":"c2VjcmV0"}}`, payload()), "alg is not supported"},
		{"5 no jwk", confused, "alg is not supported"},
		{"5 an algorithm of another kind of key", p.Sign(t, header("ES256", "RS256"), payload()), key},
		{"5 an algorithm of another curve", p.Sign(t, header("ES256", "ES384"), payload()), key},
		{"6 of another key", p.Sign(t, header(p.JWK, other.JWK), payload()), "the key in its header has not signed it"},
		{"6 no signature", parts[0] + "." + parts[1] + ".", "the key in its header has not signed it"},
		{"6 a signature in another spelling", parts[0] + "." + parts[1] + "." + jwttest.Respell(parts[2]), "the key in its header has not signed it"},
		{"6 changed", parts[0] + "." + jwttest.Encode(payload("htm", "GET")) + "." + parts[2], "the key in its header has not signed it"},
		{"7 a private key", p.Sign(t, header(`"kty":"EC"`, `"kty":"EC","d":"AAAA"`), payload()), key},
		{"7 a private member", p.Sign(t, header(`"kty":"EC"`, `"kty":"EC","p":"AAAA"`), payload()), key},
		{"7 an oct key", p.Sign(t, header(p.JWK, `{"kty":"oct","k":"AAAA"}`), payload()), key},
		{"7 no key", p.Sign(t, header(`,"jwk":`+p.JWK, ""), payload()), key},
		{"7 a text", p.Sign(t, header(p.JWK, `"key"`), payload()), key},
		{"7 null", p.Sign(t, header(p.JWK, `null`), payload()), key},
		{"7 a member twice", p.Sign(t, header(`"kty":"EC"`, `"kty":"RSA","kty":"EC"`), payload()), key},
		{"7 for encryption", p.Sign(t, header(`"kty":"EC"`, `"kty":"EC","use":"enc"`), payload()), key},
		{"7 for another algorithm", p.Sign(t, header(`"kty":"EC"`, `"kty":"EC","alg":"ES384"`), payload()), key},
		{"7 no point on the curve", p.Sign(t, header(p.JWK, `{"kty":"EC","crv":"P-256","x":"`+strings.Repeat("A", 43)+`","y":"`+strings.Repeat("A", 43)+`"}`), payload()), key},
		{"7 a huge exponent", rsaKey.Sign(t, `{"typ":"dpop+jwt","alg":"RS256","jwk":`+strings.Replace(rsaKey.JWK, "AQAB", "AQ"+strings.Repeat("A", 1000)+"B", 1)+`}`, payload()), key},
		{"7 an exponent of one", rsaKey.Sign(t, `{"typ":"dpop+jwt","alg":"RS256","jwk":`+strings.Replace(rsaKey.JWK, "AQAB", "AQ", 1)+`}`, payload()), key},
		{"7 an exponent with zeros before it", rsaKey.Sign(t, `{"typ":"dpop+jwt","alg":"RS256","jwk":`+strings.Replace(rsaKey.JWK, "AQAB", "AAEAAQ", 1)+`}`, payload()), ""},
		{"7 a huge modulus", rsaKey.Sign(t, `{"typ":"dpop+jwt","alg":"RS256","jwk":{"kty":"RSA","e":"AQAB","n":"`+strings.Repeat("z", 1600)+`"}}`, payload()), key},
		{"7 a small modulus", rsaKey.Sign(t, `{"typ":"dpop+jwt","alg":"RS256","jwk":{"kty":"RSA","e":"AQAB","n":"`+strings.Repeat("z", 171)+`"}}`, payload()), key},
		{"7 crit", p.Sign(t, header(`{"typ`, `{"crit":["x"],"typ`), payload()), "crit, jku, x5u, x5c and b64 are not supported"},
		{"7 jku", p.Sign(t, header(`{"typ`, `{"jku":"https://evil.example","typ`), payload()), "crit, jku, x5u, x5c and b64 are not supported"},
		{"7 a parameter twice", p.Sign(t, header(`{"typ`, `{"alg":"none","typ`), payload()), "not a JWT"},
		{"7 the header in two spellings of base64", jwttest.Respell(parts[0]) + "." + parts[1] + "." + parts[2], "not a JWT"},
		{"8 another method", good("htm", "GET"), "htm is not the method of this request"},
		{"8 the method in lower case", good("htm", "post"), "htm is not the method of this request"},
		{"9 another path", good("htu", api+"/1"), "htu is not the URL of this request"},
		{"9 another host", good("htu", "https://evil.example/api/orders"), "htu is not the URL of this request"},
		{"11 clocks that differ by 8 s", good("iat", at(8*time.Second)), ""},
		{"11 clocks that differ by -8 s", good("iat", at(-8*time.Second)), ""},
		{"11 in the future", good("iat", at(11*time.Second)), "iat is in the future"},
		{"11 far in the future", good("iat", at(60*time.Second)), "iat is in the future"},
		{"11 59 s old", good("iat", at(-59*time.Second)), ""},
		{"11 60 s old", good("iat", at(-60*time.Second)), "iat is too old"},
	} {
		_, err := c.Check(t.Context(), []string{tt.proof}, Request{Method: "POST", URL: api})
		if got := reason(t, err); got != tt.reason {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.reason)
		}
	}
}

func TestOneHeader(t *testing.T) {
	c, clock := newChecker()
	p := jwttest.NewProver(t, "ES256", clock.Now)
	_, err := c.Check(t.Context(), []string{p.Prove(t, "POST", api, ""), p.Prove(t, "POST", api, "")}, Request{Method: "POST", URL: api})
	if reason(t, err) != "more than one DPoP header" {
		t.Error(err)
	}
}

func TestHashOfTheToken(t *testing.T) {
	c, clock := newChecker()
	p := jwttest.NewProver(t, "ES256", clock.Now)
	for name, proof := range map[string]string{
		"none": p.Prove(t, "GET", api, ""), "of another token": p.Prove(t, "GET", api, "another"),
		"empty": p.Prove(t, "GET", api, "", "ath", ""), "the token itself": p.Prove(t, "GET", api, "", "ath", "the token"),
	} {
		if _, err := c.Check(t.Context(), []string{proof}, Request{Method: "GET", URL: api, Token: "the token"}); reason(t, err) != "ath is not the hash of the access token" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// RFC 9449 §4.3 number 9, RFC 3986 §6.2.2 and §6.2.3.
func TestTargets(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"https://example.com", "https://example.com/", true},
		{"HTTPS://EXAMPLE.com/a", "https://example.com/a", true},
		{"https://example.com:443/a", "https://example.com/a", true},
		{"https://example.com:/a", "https://example.com/a", true},
		{"http://example.com:80/a", "http://example.com/a", true},
		{"https://example.com/a?x=1#y", "https://example.com/a", true},
		{"https://example.com/a", "https://example.com/a?x=1", true},
		{"https://example.com/%7Ea%2fb", "https://example.com/~a%2Fb", true},
		{"https://example.com/a/./b/../c", "https://example.com/a/c", true},
		{"https://example.com/a/b/..", "https://example.com/a/", true},
		{"https://example.com/../a", "https://example.com/a", true},
		{"https://example.com/%2e%2e/a", "https://example.com/a", true},
		{"https://example.com/a/.", "https://example.com/a/", true},
		{"https://[::1]:8443/a", "https://[::1]:8443/a", true},
		{"https://[2001:DB8::1]/a", "https://[2001:db8::1]:443/a", true},
		{"https://example.com/.well-known/x", "https://example.com/.well-known/x", true},
		{"https://example.com/%C3%BC", "https://example.com/%c3%bc", true},
		{"https://example.com/ü", "https://example.com/%C3%BC", true},

		{"https://example.com:80/a", "https://example.com/a", false},
		{"http://example.com/a", "https://example.com/a", false},
		{"https://example.com:8443/a", "https://example.com/a", false},
		{"https://example.com/A", "https://example.com/a", false},
		{"https://example.com/a/", "https://example.com/a", false},
		{"https://example.com//a", "https://example.com/a", false},
		{"https://example.com/a%2Fb", "https://example.com/a/b", false},
		{"https://example.com/a%2F..%2Fb", "https://example.com/b", false},
		{"https://user@example.com/a", "https://example.com/a", false},
		{"https://example.com@evil.example/a", "https://example.com/a", false},
		{`https://example.com\@evil.example/a`, "https://example.com/a", false},
		{"https://example.com./a", "https://example.com/a", false},
		{"https:example.com/a", "https://example.com/a", false},
		{"https:///a", "https://example.com/a", false},
		{"//example.com/a", "https://example.com/a", false},
		{"/a", "https://example.com/a", false},
		{"https://example.com:99999x/a", "https://example.com/a", false},
		{"https://example.com/%zz", "https://example.com/%zz", false},
		{"ftp://example.com/a", "ftp://example.com/a", false},
		{"", "", false},
	} {
		if got := sameTarget(tt.a, tt.b); got != tt.same {
			t.Errorf("%s and %s: %v", tt.a, tt.b, got)
		}
		if sameTarget(tt.a, tt.b) != sameTarget(tt.b, tt.a) {
			t.Errorf("%s and %s: it depends on the order", tt.a, tt.b)
		}
	}
}

// Whatever a URL is, its normal form is that of itself.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{api, "https://example.com/%2e%2e/a/./b/..", "https://[::1]:443/%7e", "https://a:b@c/", "https://a/..%2f..", "HTTP://A:80/../.."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		normal, ok := target(text)
		if !ok {
			return
		}
		again, ok := target(normal)
		if !ok || again != normal || strings.ContainsAny(normal, "?#") {
			t.Errorf("%q becomes %q, and then %q, %v", text, normal, again, ok)
		}
	})
}

func TestAProofIsGoodOnce(t *testing.T) {
	c, clock := newChecker()
	p, other := jwttest.NewProver(t, "ES256", clock.Now), jwttest.NewProver(t, "ES256", clock.Now)
	proof := p.Prove(t, "POST", api, "", "jti", "the same")
	want := Request{Method: "POST", URL: api}
	var good atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := c.Check(t.Context(), []string{proof}, want); err == nil {
				good.Add(1)
			}
		})
	}
	all.Wait()
	if good.Load() != 1 {
		t.Errorf("it is good %d times", good.Load())
	}
	if _, err := c.Check(t.Context(), []string{other.Prove(t, "POST", api, "", "jti", "the same")}, want); err != nil {
		t.Errorf("the same jti of another key: %v", err)
	}
	for _, later := range []time.Duration{30 * time.Second, 29 * time.Second, time.Second, 9 * time.Second, 3 * time.Minute} {
		clock.Advance(later)
		if _, err := c.Check(t.Context(), []string{proof}, want); err == nil {
			t.Errorf("it is good again at %v", clock.Now())
		}
	}
	if _, err := c.Check(t.Context(), []string{p.Prove(t, "POST", api, "", "jti", "the same")}, want); err != nil {
		t.Errorf("a new proof with a jti of long ago: %v", err)
	}
}

// A proof whose clock is ahead is refused for as long as it would be valid.
func TestAProofOfTheFutureIsGoodOnce(t *testing.T) {
	c, clock := newChecker()
	p := jwttest.NewProver(t, "ES256", clock.Now)
	want := Request{Method: "POST", URL: api}
	clock.Advance(time.Hour)
	if _, err := c.Check(t.Context(), []string{p.Prove(t, "POST", api, "")}, want); err != nil { // begins a half of the memory
		t.Fatal(err)
	}
	clock.Advance(remembered - time.Second)
	proof := p.Prove(t, "POST", api, "", "iat", clock.Now().Add(future).Unix())
	if _, err := c.Check(t.Context(), []string{proof}, want); err != nil {
		t.Fatal(err)
	}
	for range int(remembered / time.Second) {
		clock.Advance(time.Second)
		if _, err := c.Check(t.Context(), []string{p.Prove(t, "POST", api, "")}, want); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Check(t.Context(), []string{proof}, want); err == nil {
			t.Fatalf("it is good again at %v", clock.Now())
		}
	}
}

// A proof goes with its request from site to site of this process, and no further once the request has ended.
func TestAProofIsGoodForOneRequest(t *testing.T) {
	c, clock := newChecker()
	p := jwttest.NewProver(t, "ES256", clock.Now)
	for _, tt := range []struct {
		name  string
		hops  []string // one after the other
		ended int      // after how many of them the first request ends
		good  int      // how many are accepted
	}{
		{"in a row", []string{"", "8080", "8443"}, 3, 3},
		{"from this machine", []string{"80", "8080"}, 2, 2},
		{"after the request", []string{"", "8080"}, 1, 1},
		{"after the request, from this machine", []string{"80", "8080"}, 1, 1},
		{"between the second and the third", []string{"80", "8080", "8443"}, 2, 2},
		{"twice at one hop", []string{"", "8080", "8080"}, 3, 2},
		{"that nobody has passed on", []string{"8080", ""}, 2, 1},
	} {
		first, end := context.WithCancel(t.Context())
		defer end()
		proof := []string{p.Prove(t, "GET", api, "")}
		for n, hop := range tt.hops {
			if n == tt.ended {
				end()
			}
			of := t.Context()
			if n == 0 {
				of = first
			}
			if _, err := c.Check(of, proof, Request{Method: "GET", URL: api, Hop: hop}); (err == nil) != (n < tt.good) {
				t.Errorf("%s: request %d: %v", tt.name, n+1, err)
			}
		}
	}
}

// A request that has ended is forgotten, unlike its proof, and no other one with it.
func TestMemoryForgetsRequests(t *testing.T) {
	m, now := NewMemory(), time.Now()
	old, endOld := context.WithCancel(t.Context())
	again, endAgain := context.WithCancel(t.Context())
	defer endAgain()
	proof := &Proof{ID: "the same"}
	if !m.accept(old, proof, "", now) || !m.accept(again, proof, "", now.Add(3*remembered)) {
		t.Fatal("an ID of long ago is refused")
	}
	for n := range 100 {
		m.accept(old, &Proof{ID: fmt.Sprint(n)}, "", now.Add(3*remembered))
	}
	left := func() int {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.running)
	}
	wait := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); left() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it has %d requests, want %d", left(), want)
			}
		}
	}
	endOld()
	wait(1)
	if !m.accept(t.Context(), proof, "8080", now.Add(3*remembered)) {
		t.Error("the request in progress cannot be passed on")
	}
	endAgain()
	wait(0)
	if m.accept(context.WithoutCancel(t.Context()), &Proof{ID: "endless"}, "", now); left() != 0 {
		t.Error("it has a request that never ends")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m, now := NewMemory(), time.Now()
	for n := range 3*maxUsed + 1 {
		m.accept(t.Context(), &Proof{ID: fmt.Sprint(n)}, "", now)
	}
	if used := len(m.current) + len(m.before); used > 2*maxUsed || used < maxUsed {
		t.Errorf("it has %d proofs, want at most %d", used, 2*maxUsed)
	}
	clock := testclock.New()
	c := &Checker{Memory: m, Now: clock.Now}
	p := jwttest.NewProver(t, "ES256", clock.Now)
	for n := range maxKeys + 100 {
		header := fmt.Sprintf(`{"typ":"dpop+jwt","alg":"ES256","x":%d,"jwk":%s}`, n, p.JWK)
		if _, err := c.Memory.key(jwttest.Encode(header)); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.keys) != maxKeys {
		t.Errorf("it has %d keys, want %d", len(m.keys), maxKeys)
	}
}

// RFC 9449 §8.
func TestNonces(t *testing.T) {
	c, clock := newChecker()
	c.Nonces = &Nonces{Secret: func(context.Context) ([32]byte, error) { return [32]byte{7}, nil }}
	p := jwttest.NewProver(t, "ES256", clock.Now)
	want := Request{Method: "POST", URL: api}
	offered := func() string {
		h := make(http.Header)
		if err := c.Offer(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		return h.Get("DPoP-Nonce")
	}
	for name, pairs := range map[string][]any{"none": nil, "empty": {"nonce", ""}, "invented": {"nonce", "abc"}, "a number": {"nonce", 5}} {
		_, err := c.Check(t.Context(), []string{p.Prove(t, "POST", api, "", pairs...)}, want)
		refused, ok := errors.AsType[*Error](err)
		if code := grants.UseDPoPNonce; !ok || refused.Code != code && name != "a number" {
			t.Errorf("%s: %v", name, err)
		}
	}
	nonce := offered()
	for _, tt := range []struct {
		after time.Duration
		good  bool
	}{{0, true}, {time.Minute, true}, {2 * time.Minute, false}} {
		clock.Advance(tt.after)
		_, err := c.Check(t.Context(), []string{p.Prove(t, "POST", api, "", "nonce", nonce)}, want)
		if (err == nil) != tt.good {
			t.Errorf("a nonce after %v: %v", tt.after, err)
		}
	}
	if offered() == nonce {
		t.Error("the nonce never changes")
	}
}

// Whatever a client sends is a proof or an *Error.
func FuzzCheck(f *testing.F) {
	c, clock := newChecker()
	p := jwttest.NewProver(f, "ES256", clock.Now)
	f.Add(p.Prove(f, "POST", api, ""))
	f.Add("a.b.c")
	f.Add(jwttest.Encode(`{"typ":"dpop+jwt","alg":"RS256","jwk":{"kty":"RSA","n":"AQ","e":"AQ"}}`) + ".e30.AA")
	f.Add(jwttest.Encode(`{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":""}}`) + ".e30.AA")
	f.Fuzz(func(t *testing.T, text string) {
		proof, err := c.Check(t.Context(), []string{text}, Request{Method: "POST", URL: api})
		if _, refused := errors.AsType[*Error](err); (proof == nil) != refused {
			t.Errorf("%v, %v", proof, err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	c, clock := newChecker()
	p := jwttest.NewProver(b, "ES256", clock.Now)
	proofs := make([]string, 2000)
	for n := range proofs {
		proofs[n] = p.Prove(b, "GET", api, "the token")
	}
	want := Request{Method: "GET", URL: api, Token: "the token"}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if n%len(proofs) == 0 {
			c.Memory.current = make(map[[16]byte]struct{})
		}
		if _, err := c.Check(b.Context(), []string{proofs[n%len(proofs)]}, want); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
