package clients

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// byCertificate is Authenticate for a client with a certificate that names itself and sends nothing else (RFC 8705 §2).
func (a *Authenticator) byCertificate(
	ctx context.Context, client *storage.Client, peer mtls.Peer,
) (*storage.Client, NamedClient, error) {
	named := NamedClient{ID: client.ID, Client: client}
	attempt, wait := a.limiter.Check(throttle.Key, peer.Address, client.ID)
	if attempt == nil {
		return nil, named, TooManyFailures(wait)
	}
	sent, expected, err := a.checkCertificate(ctx, client, peer)
	switch {
	case err != nil:
		return nil, named, err
	case expected != "":
		attempt.Failed()
		refusal := ErrFailed.Explain(sent, expected, "client "+client.ID+": "+client.Certificate.Method())
		refusal.Cause = errWrongCertificate
		return nil, named, refusal
	}
	attempt.Succeeded(client.ID)
	named.Method = client.Certificate.Method()
	return client, named, nil
}

// checkCertificate says what the peer of a client has sent and what it should have, which is "" if it is the client.
func (a *Authenticator) checkCertificate(ctx context.Context, client *storage.Client, peer mtls.Peer) (sent, expected string, err error) {
	registered := client.Certificate
	kind, name := registered.Name()
	expected = kind + " " + name
	if registered.SelfSigned {
		expected = "a certificate that the client is registered with"
	}
	certificate := peer.Certificate
	switch {
	case peer.Problem != nil:
		return peer.Problem.Error(), expected, nil //nolint:nilerr // what the peer sent is no certificate: a refusal
	case certificate == nil:
		return "no TLS client certificate", expected, nil
	}
	sent = certificate.String()
	if registered.SelfSigned {
		known, err := a.isRegistered(ctx, client, certificate)
		if problem, refused := errors.AsType[*assertion.Error](err); refused {
			return sent, problem.Expected, nil
		}
		if !known || err != nil {
			return sent, expected, err
		}
	}
	now := a.directory.Now() // a connection can be older than the end of its certificate
	switch {
	case now.Before(certificate.NotBefore) || now.After(certificate.NotAfter):
		return sent, "a certificate that is valid now, not from " + formatTime(certificate.NotBefore) + " to " + formatTime(certificate.NotAfter), nil
	case registered.SelfSigned:
	case !certificate.HasName(kind, name):
		return sent, expected, nil
	case !certificate.Verified:
		return sent, "a certificate of a CA that the site trusts: tls { client_auth { trust_pool … } } with mode verify_if_given or require_and_verify", nil
	}
	return sent, "", nil
}

// isRegistered reports whether a client is registered with a certificate itself.
func (a *Authenticator) isRegistered(ctx context.Context, client *storage.Client, certificate *mtls.Certificate) (bool, error) {
	if len(client.JWKS) > 0 || client.JWKSURI != "" {
		return a.keys.HasCertificate(ctx, client, certificate.Raw)
	}
	return slices.ContainsFunc(client.Certificate.Certificates, func(der []byte) bool { return bytes.Equal(der, certificate.Raw) }), nil
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

var errWrongCertificate = errors.New("the TLS client certificate was refused")
