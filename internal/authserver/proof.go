package authserver

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A proof that is sent twice is found at two places: the memory of a node refuses it in dpop.Checker.Check, and useProofOnce asks the
// store whether another node has accepted it.

// newProofs returns the checker of DPoP proofs of this issuer.
func (s *core) newProofs() *dpop.Checker {
	proofs := &dpop.Checker{Memory: s.config.Proofs, Now: s.now}
	if s.config.DPoPNonce {
		proofs.Nonces = &dpop.Nonces{Secret: s.keys.Secret}
	}
	return proofs
}

// checkPossession finds out which key and which certificate the client of a token request has: its tokens can be bound to them.
func (s *core) checkPossession(c *call) error {
	if err := s.proveKey(c); err != nil {
		return err
	}
	return c.proveCertificate()
}

// settingOf returns which setting of a client demands something: one of its own, or the profile that turns it on.
func settingOf(client *storage.Client, name string) string {
	if client.FAPI {
		name = "profile"
	}
	return "client " + client.ID + ": " + name
}

// proveKey checks the DPoP proof of a request, if it has one or must have one (RFC 9449 §5). It sets c.proof
// and c.proven. The proof must be for the URL that the issuer is configured with, whatever host the request names.
func (s *core) proveKey(c *call) error {
	values := c.r.Header[dpop.Header]
	if len(values) == 0 && !c.client.RequireDPoP {
		return nil
	}
	if err := s.offerNonce(c); err != nil {
		return err
	}
	if len(values) == 0 {
		return refuseProof(dpop.Missing("a DPoP proof with each token request", settingOf(c.client, "dpop_bound_access_tokens")))
	}
	proof, err := s.proofs.Check(c.ctx, values, s.provable(c, ""))
	if err != nil {
		return refuseProof(err)
	}
	if err := checkProfileOf(proof, c.client); err != nil {
		return err
	}
	c.proof, c.proven.Thumbprint = proof, proof.Thumbprint
	return nil
}

// checkProfileOf refuses a proof that is signed by an algorithm which the profile of the client does not have (FAPI 2.0 Security Profile
// §5.4.1). proof can be nil.
func checkProfileOf(proof *dpop.Proof, client *storage.Client) error {
	if proof == nil || !client.FAPI || slices.Contains(jwt.FAPIAlgorithms(), proof.Algorithm) {
		return nil
	}
	return grants.Refuse(grants.InvalidDPoPProof, "alg is not supported").
		Explain("alg "+proof.Algorithm, strings.Join(jwt.FAPIAlgorithms(), ", "), "client "+client.ID+": profile")
}

// provable returns what the proof of a request must be for. token is the access token that the request brings, "" for none.
func (s *core) provable(c *call, token string) dpop.Request {
	path := c.r.URL.EscapedPath()
	want := dpop.Request{Method: c.r.Method, URL: s.origin + path, Token: token}
	if s.config.MTLSAlias != "" {
		want.Alias = s.config.MTLSAlias + path
	}
	return want
}

// useProofOnce refuses the proof of a request if another node has accepted it before. It comes after the grant has decided: until then
// anybody could fill the store with proofs, and the memory of this node has refused what was sent to it twice.
func (s *core) useProofOnce(c *call) error {
	first, err := storage.Once(c.ctx, s.store, c.proof.Expires, "dpop", c.proof.Thumbprint, c.proof.ID)
	if err == nil && !first {
		return refuseProof(dpop.Replayed())
	}
	return err
}

// proveCertificate reads the certificate of a client that has one, or must have one (RFC 8705 §3.4). It sets
// c.proven.
func (c *call) proveCertificate() error {
	switch {
	case c.peer.Certificate != nil:
		c.proven.Certificate = c.peer.Certificate.Thumbprint()
		return nil
	case !c.client.BindToCertificate:
		return nil
	}
	sent := "no certificate"
	if c.peer.Problem != nil {
		sent = c.peer.Problem.Error()
	}
	return grants.Refuse(grants.InvalidRequest, "a TLS client certificate is missing").
		Explain(sent, "a certificate with each token request", "client "+c.client.ID+": tls_client_certificate_bound_access_tokens")
}

// proveToken checks that a request with an access token of this issuer proves what the token needs (RFC 9449 §7, RFC 8705 §3). scheme is
// that of the Authorization header. A proof is in c.proof then. The error is a jwt.InvalidToken, or a refusal for the client.
func (s *core) proveToken(c *call, claims *jwt.Claims, token, scheme string) error {
	if claims.Bound.Certificate != "" {
		if err := bearer.CheckCertificate(claims, c.peer.Certificate, c.peer.Problem); err != nil {
			return err
		}
	}
	needed, err := bearer.NeedsProof(claims, scheme)
	if !needed {
		return err
	}
	if err := s.offerNonce(c); err != nil {
		return err
	}
	values := c.r.Header[dpop.Header]
	if len(values) == 0 {
		return unauthorized(refuseProof(dpop.Missing("a DPoP proof, as the token is bound to a key", "")))
	}
	proof, err := s.proofs.Check(c.ctx, values, s.provable(c, token))
	if err != nil {
		return unauthorized(refuseProof(err))
	}
	c.proof = proof
	return bearer.CheckKey(claims, proof)
}

// unauthorized gives a refusal the status that it has where an access token is needed.
func unauthorized(err error) error {
	refusal, ok := errors.AsType[*grants.Error](err)
	if !ok {
		return err
	}
	refused := *refusal
	refused.Status = http.StatusUnauthorized
	return &refused
}

// offerNonce puts a nonce into the header of the answer, if proofs need one, where scripts can read it.
func (s *core) offerNonce(c *call) error {
	if s.proofs.Nonces == nil {
		return nil
	}
	c.w.Header().Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate")
	return s.proofs.Offer(c.ctx, c.w.Header())
}

// refuseProof returns the refusal of a token request because of its proof (RFC 9449 §5, §8). Unlike that of a client_assertion, it says
// what is wrong: that helps whoever writes the client, and nobody who has no key.
func refuseProof(err error) error {
	problem, ok := errors.AsType[*dpop.Error](err)
	if !ok {
		return err
	}
	refusal := &grants.Error{Code: problem.Code, Description: problem.Error(), Status: http.StatusBadRequest}
	return refusal.Explain(problem.Sent, problem.Expected, problem.Setting)
}
