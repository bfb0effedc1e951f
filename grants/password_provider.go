package grants

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oauth/caddy-oauth/internal/recall"
)

// provider asks a Caddy authentication provider, with a request that holds nothing but the credentials.
type provider struct{ caddyauth.Authenticator }

// Verify implements Verifier.
func (p provider) Verify(ctx context.Context, username, password string) (*Person, error) {
	if strings.Contains(username, ":") { // within Basic, the password would begin there (RFC 7617 §2)
		return nil, ErrBadUser
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(username, password)
	user, ok, err := p.Authenticate(nowhere{}, req)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrBadUser
	case user.ID == "":
		return nil, errors.New("asking the authentication provider about a password: it said yes, but not to whom")
	}
	person := &Person{Subject: user.ID}
	for name, value := range user.Metadata {
		if person.Claims == nil {
			person.Claims = make(map[string]any, len(user.Metadata))
		}
		person.Claims[name] = value
	}
	return person, nil
}

// maxRecalled is how many passwords a provider that has to compute slow hashes remembers to be right.
const maxRecalled = 10_000

// accounts is a provider that knows people by nothing but names and slow hashes that never change: what was right once
// is right for good, and takes no time again.
type accounts struct {
	provider
	right *recall.Memory
}

// Verify implements Verifier.
func (a accounts) Verify(ctx context.Context, username, password string) (*Person, error) {
	if a.right.Has(username, password) {
		return &Person{Subject: username}, nil
	}
	person, err := a.provider.Verify(ctx, username, password)
	if err == nil {
		a.right.Add(username, password)
	}
	return person, err
}

// nowhere is a ResponseWriter for the challenge that a provider writes when it says no.
type nowhere struct{}

func (nowhere) Header() http.Header         { return make(http.Header) }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}
