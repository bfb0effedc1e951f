package load

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Prover makes DPoP proofs (RFC 9449 §4.2) with an ES256 key of its own. Each is new to the server. It is not safe for concurrent use.
type Prover struct {
	key    *ecdsa.PrivateKey
	header string // encoded
	id     string // of the proofs, but for their number
	made   int

	// stock are proofs for the requests of a worker. They are made before the load begins, so that the load takes as little processor
	// time as without proofs: two processors may share one core.
	stock []string
}

// NewProver makes a Prover.
func NewProver() (*Prover, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes() // a byte, x and y
	if err != nil {
		return nil, err
	}
	encode := base64.RawURLEncoding.EncodeToString
	header := fmt.Sprintf(`{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":%q,"y":%q}}`, encode(point[1:33]), encode(point[33:]))
	return &Prover{key: key, header: encode([]byte(header)), id: rand.Text()}, nil
}

// Proof returns a proof for a request. ath is the hash of its access token (RFC 9449 §4.2), encoded, or "" if it has none.
func (p *Prover) Proof(method, target, ath string) (string, error) {
	p.made++
	claims := fmt.Sprintf(`{"jti":"%s-%d","htm":%q,"htu":%q,"iat":%d`, p.id, p.made, method, target, time.Now().Unix())
	if ath != "" {
		claims += `,"ath":"` + ath + `"`
	}
	text := p.header + "." + base64.RawURLEncoding.EncodeToString([]byte(claims+"}"))
	digest := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, digest[:])
	if err != nil {
		return "", err
	}
	var signature [64]byte // RFC 7518 §3.4
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(signature[:]), nil
}

// next returns a proof of the stock, or a new one if there are none left.
func (p *Prover) next(method, target, ath string) (string, error) {
	if len(p.stock) == 0 {
		return p.Proof(method, target, ath)
	}
	proof := p.stock[0]
	p.stock = p.stock[1:]
	return proof, nil
}

// fill makes a stock of proofs for the requests of a connection in some time.
func (p *Prover) fill(during time.Duration, method, target, ath string) error {
	const rate = 1500 // requests a second; a connection among eight has about half of them
	for range int(during.Seconds() * rate) {
		proof, err := p.Proof(method, target, ath)
		if err != nil {
			return err
		}
		p.stock = append(p.stock, proof)
	}
	return nil
}

// hashOf returns the hash of an access token for its proofs.
func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// provenRefresh is refresh with a new proof in each request.
func (w *worker) provenRefresh() (step func() error, err error) {
	if w.prover, err = NewProver(); err != nil {
		return nil, err
	}
	if err := w.prover.fill(w.plan.Warm+w.plan.Measure, http.MethodPost, "http://"+w.plan.Address+w.issuer().Token, ""); err != nil {
		return nil, err
	}
	return w.refresh()
}

// provenRoute requests a page with a token that is bound to a key, and a new proof in each request.
func (w *worker) provenRoute() (step func() error, err error) {
	if w.prover, err = NewProver(); err != nil {
		return nil, err
	}
	start, err := w.head(w.issuer().Token)
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {w.plan.Scope}}
	if err := w.conn.want(http.StatusOK, appendPost(nil, start, form.Encode())); err != nil {
		return nil, fmt.Errorf("getting a token to use: %w", err)
	}
	token := string(w.conn.member("access_token"))
	target, ath := "http://"+w.plan.Address+w.plan.Route, hashOf(token)
	if err := w.prover.fill(w.plan.Warm+w.plan.Measure, http.MethodGet, target, ath); err != nil {
		return nil, err
	}
	var request []byte
	return func() error {
		proof, err := w.prover.next(http.MethodGet, target, ath)
		if err != nil {
			return err
		}
		request = append(request[:0], "GET "+w.plan.Route+" HTTP/1.1\r\nHost: "+w.plan.Address+"\r\nAccept: */*\r\n"...)
		request = append(request, "Authorization: DPoP "+token+"\r\nDPoP: "+proof+"\r\n\r\n"...)
		return w.conn.want(http.StatusOK, request)
	}, nil
}

// head returns the beginning of a request of the client to an endpoint, up to the length of the form: with a proof, if the worker makes
// proofs.
func (w *worker) head(path string) (string, error) {
	start := head(w.plan.Address, path, w.client())
	if w.prover == nil {
		return start, nil
	}
	proof, err := w.prover.next(http.MethodPost, "http://"+w.plan.Address+path, "")
	first, rest, _ := strings.Cut(start, "\r\n")
	return first + "\r\nDPoP: " + proof + "\r\n" + rest, err
}
