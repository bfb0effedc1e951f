package authserver

import (
	"context"
	"errors"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// foreignAssertions implements grants.Assertions: it checks what issuers elsewhere say about their users (RFC 7523 §2.1).
type foreignAssertions struct{ *core }

// Check implements grants.Assertions.
func (f foreignAssertions) Check(ctx context.Context, text string, trusted []grants.AssertionIssuer) (*grants.Assertion, error) {
	sent, err := assertion.ParseGrant(text)
	if err != nil {
		return nil, refuseAssertion(err, "")
	}
	n := slices.IndexFunc(trusted, func(t grants.AssertionIssuer) bool { return t.URL == sent.Issuer })
	if n < 0 {
		return nil, refuseAssertion(&assertion.Error{Sent: "iss " + sent.Issuer, Expected: "an issuer that is trusted here", Setting: "issuer"}, "")
	}
	from := trusted[n]
	claims, err := f.assertions.CheckGrant(ctx, sent, &assertion.Trusted{
		Issuer: from.URL, JWKS: from.JWKS, JWKSURI: from.JWKSURI, IDJAG: from.IDJAG,
	})
	if err != nil {
		return nil, refuseAssertion(err, from.URL)
	}
	if claims.Bound.Other {
		return nil, refuseAssertion(&assertion.Error{Sent: "a cnf that nobody here can check", Expected: "none, or one with jkt or x5t#S256"}, from.URL)
	}
	return &grants.Assertion{
		Issuer: from.URL, Subject: claims.Subject, Client: claims.ClientID, ID: claims.ID, Expires: claims.Expires, Claims: claims.Raw,
		Bound: storage.Confirmation{Thumbprint: claims.Bound.Thumbprint, Certificate: claims.Bound.Certificate},
	}, nil
}

// Accept implements grants.Assertions.
func (f foreignAssertions) Accept(ctx context.Context, a *grants.Assertion, subject string) error {
	if err := f.checkSubject(ctx, subject); err != nil {
		if refusal, ok := errors.AsType[*grants.Error](err); ok {
			return refuseAssertion(&assertion.Error{Sent: "the subject " + subject, Expected: refusal.Error(), Setting: "map"}, a.Issuer)
		}
		return err
	}
	return refuseAssertion(f.assertions.SpendGrant(ctx, a.Issuer, a.ID, a.Expires), a.Issuer)
}

// refuseAssertion returns the refusal of an assertion, which is always the same for the client (RFC 7523 §3.1), with the reason for the
// log. Any other error stays as it is, and so does none.
func refuseAssertion(err error, issuer string) error {
	problem, ok := errors.AsType[*assertion.Error](err)
	if !ok {
		return err
	}
	return grants.RefuseAssertion(problem.Sent, problem.Expected, issuer, problem.Setting)
}
