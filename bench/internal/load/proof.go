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
	ath := hashOf(token)
	var request []byte
	return func() error {
		proof, err := w.prover.Proof(http.MethodGet, "http://"+w.plan.Address+w.plan.Route, ath)
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
	proof, err := w.prover.Proof(http.MethodPost, "http://"+w.plan.Address+path, "")
	first, rest, _ := strings.Cut(start, "\r\n")
	return first + "\r\nDPoP: " + proof + "\r\n" + rest, err
}
