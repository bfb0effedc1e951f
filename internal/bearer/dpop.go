package bearer

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
)

// schemeDPoP is the authentication scheme of tokens that are bound to a key (RFC 9449 §7.1).
const schemeDPoP = "DPoP"

// NeedsProof reports whether a request with a token must prove that the client has the key which the token is bound to. A token of this
// kind is never accepted as one that whoever has it may use (RFC 9449 §7.2). scheme is that of the Authorization header, "" for a token in
// a header of its own. The error is a [jwt.InvalidToken].
func NeedsProof(claims *jwt.Claims, scheme string) (bool, error) {
	asDPoP := strings.EqualFold(scheme, schemeDPoP)
	switch {
	case claims.Bound.Other:
		return false, jwt.ErrBound.Explain("a token that is bound in a way that this server does not know",
			"cnf with nothing but jkt and x5t#S256 (RFC 9449 section 6, RFC 8705 section 3.1)", "").Of(claims)
	case claims.Bound.Thumbprint == "" && asDPoP:
		return false, jwt.ErrBound.Explain("a token that is bound to no key, with the scheme DPoP", "the scheme Bearer", "").Of(claims)
	case claims.Bound.Thumbprint == "":
		return false, nil
	case scheme != "" && !asDPoP:
		return false, jwt.ErrBound.Explain("a token that is bound to a key, as a Bearer token", "the scheme DPoP and a DPoP proof", "").Of(claims)
	}
	return true, nil
}

// CheckKey returns a [jwt.InvalidToken] unless the proof is of the key that a token is bound to.
func CheckKey(claims *jwt.Claims, proof *dpop.Proof) error {
	if proof.Thumbprint == claims.Bound.Thumbprint {
		return nil
	}
	return jwt.ErrBound.Explain("a DPoP proof of the key "+proof.Thumbprint, "of the key "+claims.Bound.Thumbprint, "").Of(claims)
}

// CheckCertificate returns a [jwt.InvalidToken] unless the certificate of the client is the one that a token is bound to (RFC 8705 §3).
// problem says what is wrong with what was sent for a certificate.
func CheckCertificate(claims *jwt.Claims, certificate *mtls.Certificate, problem error) error {
	sent := "no TLS client certificate"
	switch {
	case problem != nil:
		sent = problem.Error()
	case certificate == nil:
	case certificate.Thumbprint() == claims.Bound.Certificate:
		return nil
	default:
		sent = certificate.String()
	}
	return jwt.ErrBound.Explain(sent, "the certificate x5t#S256 "+claims.Bound.Certificate+", which the token is bound to", "").Of(claims)
}

// checkBound checks that a request proves what its token needs.
func (p *Resource) checkBound(r *http.Request, t *Tokens, claims *jwt.Claims, token, scheme string) error {
	if claims.Bound.Certificate != "" {
		certificate, problem := p.Certificate(r)
		if err := CheckCertificate(claims, certificate, problem); err != nil {
			return err
		}
	}
	needed, err := NeedsProof(claims, scheme)
	if !needed {
		return err
	}
	if t.proven == nil {
		t.proven, _ = r.Context().Value(provenKey{}).(*proven)
	}
	if t.proven == nil || t.proven.token != token {
		proof, err := p.proof(r, t, token)
		if err != nil {
			return err
		}
		t.proven = &proven{proof, token}
	}
	return CheckKey(claims, t.proven.proof)
}

// proven is a proof that was valid for a request with a token. A proof is good for one Check, and one request can pass several resources.
type proven struct {
	proof *dpop.Proof
	token string
}

// provenKey is the key of what a request has proven before it started again, in its context.
type provenKey struct{}

// Again returns a context for handling the same request a second time, so that its DPoP proof is not refused as a replay.
func (t *Tokens) Again(ctx context.Context) context.Context {
	if t.proven == nil {
		return ctx
	}
	return context.WithValue(ctx, provenKey{}, t.proven)
}

// proof checks the proof of a request.
func (p *Resource) proof(r *http.Request, t *Tokens, token string) (*dpop.Proof, error) {
	values := t.values(r, dpop.Header)
	if len(values) == 0 {
		return nil, dpop.Missing("a DPoP proof, as the token is bound to a key", "")
	}
	return p.Proofs.Check(r.Context(), values, dpop.Request{Method: r.Method, URL: p.Target(r), Token: token, Hop: hop(r)})
}

// hop returns the address at which a request has arrived that comes from this machine: a guarded site may have passed it on to another
// guarded site of the same process, and both check its proof. It returns "" for a request from elsewhere, which none of them has passed on.
// A proxy on this machine can have it from elsewhere too.
func hop(r *http.Request) string {
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return local.Name
	case interface{ AddrPort() netip.AddrPort }: // of TCP or UDP
		here := local.AddrPort()
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		if err == nil && (peer.Addr().IsLoopback() || peer.Addr().Unmap() == here.Addr().Unmap()) {
			return strconv.Itoa(int(here.Port()))
		}
	}
	return ""
}

// usesDPoP reports whether a request has a token with the scheme DPoP.
func (p *Resource) usesDPoP(r *http.Request, t *Tokens) bool {
	return p.Header == "" && slices.ContainsFunc(t.values(r, "Authorization"), func(value string) bool { return isScheme(value, schemeDPoP) })
}

func isProofError(err error) bool {
	_, ok := errors.AsType[*dpop.Error](err)
	return ok
}

// refuseProof returns the refusal of a request whose proof is wrong (RFC 9449 §7.1, §9).
func (p *Resource) refuseProof(err error) *Error {
	problem, _ := errors.AsType[*dpop.Error](err)
	refusal := &Error{Status: http.StatusUnauthorized, Code: problem.Code, Cause: err}
	refusal.Challenge = `DPoP error="` + problem.Code + `", error_description="` + quotable(problem.Error()) + `", algs="` + algorithms + `"`
	if p.MetadataURL != "" {
		refusal.Challenge += `, resource_metadata="` + p.MetadataURL + `"`
	}
	return refusal.explain(problem.Sent, problem.Expected, cmp.Or(problem.Setting, "oauth_guard"))
}

var algorithms = strings.Join(dpop.Algorithms(), " ")

// offer returns the challenge that says that tokens may be bound to a key.
func (p *Resource) offer(status int) string {
	if status != http.StatusUnauthorized || p.Proofs == nil {
		return ""
	}
	return schemeDPoP + ` algs="` + algorithms + `"`
}
