package clients

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/secretcache"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Authenticator authenticates clients. Safe for concurrent use.
type Authenticator struct {
	directory *Directory
	limiter   *throttle.Limiter
	keys      *assertion.Checker
	header    string              // that may carry a secret, "" for none
	slow      *semaphore.Weighted // held to compare with a hash that is slow on purpose
	verified  *secretcache.Cache  // the secrets that a slow hash was computed for, and that were right
}

const (
	slowAtOnce  = 16              // comparisons with slow hashes that run at once
	slowWait    = 5 * time.Second // how long a request waits until it may compute one
	maxVerified = 10_000          // secrets to remember
)

// NewAuthenticator returns an Authenticator for the clients of a directory, which checks the signatures of clients with keys.
// secretHeader names a header that may carry a secret, "" for none.
func NewAuthenticator(directory *Directory, limiter *throttle.Limiter, keys *assertion.Checker, secretHeader string) *Authenticator {
	return &Authenticator{
		directory: directory, limiter: limiter, keys: keys, header: secretHeader,
		slow: semaphore.NewWeighted(slowAtOnce), verified: secretcache.New(maxVerified),
	}
}

// NamedClient is the client that a request says it comes from, whether it can authenticate or not.
type NamedClient struct {
	ID     string          // as it was sent; "" if it was not, or if it may be a secret
	Client *storage.Client // nil if there is no client with this ID
	Method string          // by which it has authenticated; "" if it has not
}

// credentials are what a request says of its client: an ID, a secret unless it is public, and the method of client
// authentication.
type credentials struct{ id, secret, method string }

const (
	byBasic = storage.MethodBasic
	inBody  = storage.MethodPost
)

// candidate is what the credentials of a request can mean.
type candidate struct {
	credentials

	client *storage.Client // nil if there is none of that ID
	hashes []string        // that the secret is compared with
}

// Authenticate returns the client of a request, given the parameters of its body and who has sent it: client_secret_basic,
// client_secret_post, private_key_jwt, tls_client_auth, self_signed_tls_client_auth or none, and exactly one of them (RFC 6749 §2.3). A
// certificate beside a secret or an assertion is no second method: programs send it on each connection, and it authenticates a request
// that brings nothing else. named is the client that the request names, even if it could not authenticate.
func (a *Authenticator) Authenticate(
	ctx context.Context, r *http.Request, form url.Values, peer mtls.Peer,
) (client *storage.Client, named NamedClient, err error) {
	if form.Has("client_assertion") || form.Has("client_assertion_type") {
		return a.byKey(ctx, r, form, peer.Address)
	}
	found, err := readCredentials(r, form, a.header)
	if err != nil {
		return nil, NamedClient{ID: form.Get("client_id")}, err
	}
	candidates := make([]candidate, 0, 2)
	for _, cred := range found {
		client, err := a.directory.Find(ctx, cred.id)
		if err != nil {
			return nil, named, err
		}
		candidates = append(candidates, candidate{cred, client, a.hashes(client)})
		if client != nil && client.Public() && cred.secret == "" {
			return client, NamedClient{ID: cred.id, Client: client}, nil
		}
		if client != nil && client.Certificate != nil && cred.method == inBody && cred.secret == "" {
			return a.byCertificate(ctx, client, peer)
		}
	}
	if client, err = a.compare(ctx, candidates, peer.Address); client != nil {
		return client, NamedClient{client.ID, client, candidates[0].method}, nil
	}
	meant := candidates[max(0, slices.IndexFunc(candidates, func(c candidate) bool { return c.client != nil }))]
	named = a.name(ctx, meant)
	if errors.Is(err, ErrFailed) {
		err = a.explain(named, meant)
	}
	return nil, named, err
}

// readCredentials returns what the credentials of a request can mean, the likeliest first.
func readCredentials(r *http.Request, form url.Values, secretHeader string) ([]credentials, error) {
	if err := checkURL(r); err != nil {
		return nil, err
	}
	var headerSecrets []string
	if secretHeader != "" {
		headerSecrets = r.Header.Values(secretHeader)
	}
	authorization := r.Header.Values("Authorization")
	methods := len(authorization) + len(headerSecrets)
	if form.Has("client_secret") {
		methods++
	}
	switch {
	case methods > 1:
		return nil, errTwoMethods.Explain(sentMethods(r, form, secretHeader), "one of them", "")
	case len(authorization) == 1:
		return readBasic(r, form.Get("client_id"))
	case !form.Has("client_id"):
		return nil, refuse("client authentication is missing").
			Explain("", "client_id, or the Authorization header with Basic", "")
	case len(headerSecrets) == 1:
		return []credentials{{form.Get("client_id"), headerSecrets[0], secretHeader}}, nil
	}
	return []credentials{{form.Get("client_id"), form.Get("client_secret"), inBody}}, nil
}

// checkURL refuses a secret in the URL (RFC 6749 §2.3.1).
func checkURL(r *http.Request) error {
	if r.URL.RawQuery != "" && r.URL.Query().Has("client_secret") {
		return grants.Refuse(grants.InvalidRequest, "client_secret must not be in the URL")
	}
	return nil
}

// readBasic reads client_secret_basic: ID and secret are form-encoded within Basic (RFC 6749 §2.3.1). Many clients do not
// encode them, so they are tried as they are too. A client_id in the body must be the same.
func readBasic(r *http.Request, clientID string) ([]credentials, error) {
	id, secret, ok := r.BasicAuth()
	if !ok {
		return nil, refuseAuthorization(r)
	}
	raw := credentials{id, secret, byBasic}
	candidates := make([]credentials, 0, 2)
	decodedID, err1 := url.QueryUnescape(id)
	decodedSecret, err2 := url.QueryUnescape(secret)
	if decoded := (credentials{decodedID, decodedSecret, byBasic}); err1 == nil && err2 == nil && decoded != raw {
		candidates = append(candidates, decoded)
	}
	candidates = append(candidates, raw)
	if clientID == "" {
		return candidates, nil
	}
	same := candidates[:0]
	for _, cred := range candidates {
		if cred.id == clientID {
			same = append(same, cred)
		}
	}
	if len(same) == 0 {
		return nil, grants.Refuse(grants.InvalidRequest, "client_id is not the one that authenticates").
			Explain(clientID+" in the body", "the client ID of the Authorization header", "")
	}
	return same, nil
}

// hashes returns the hashes of a client's secrets. For nil, a client that does not exist, it returns hashes that match nothing, so that it
// takes as long to refuse it. A client that does not authenticate with a secret has none.
func (a *Authenticator) hashes(client *storage.Client) []string {
	switch {
	case client == nil:
		return a.directory.unknown().SecretHashes
	case !client.HasSecrets():
		return nil
	}
	return client.SecretHashes
}

// compare authenticates with a secret, unless there were too many wrong ones of the client or from the address. secretLimits in
// internal/throttle says which of the two limits holds. A wrong secret for a client that has none, or that does not exist, counts for the address only.
//
// Failures are counted after the comparison, see [throttle.Limiter.Check]. So guesses that are compared at the same time
// can exceed the limit: by slowAtOnce where hashes are slow, else by the number of processors.
func (a *Authenticator) compare(ctx context.Context, candidates []candidate, address string) (*storage.Client, error) {
	var ids []string
	for _, meant := range candidates {
		if c := meant.client; c != nil && len(meant.hashes) > 0 && !slices.Contains(ids, c.ID) {
			ids = append(ids, c.ID)
		}
	}
	attempt, wait := a.limiter.Check(throttle.Client, address, ids...)
	if attempt == nil {
		return nil, TooManyFailures(wait)
	}
	right, slow := a.compareFast(candidates)
	if right == nil && slow {
		if err := a.waitForSlow(ctx); err != nil {
			return nil, err
		}
		defer a.slow.Release(1)
		if attempt, wait = a.limiter.Check(throttle.Client, address, ids...); attempt == nil { // others have failed meanwhile
			return nil, TooManyFailures(wait)
		}
		right = a.compareSlow(candidates)
	}
	if right == nil {
		attempt.Failed() // Here a wrong secret counts.
		return nil, ErrFailed
	}
	attempt.Succeeded(right.ID)
	return right, nil
}

// compareFast returns the client whose secret is right, as far as fast hashes and the memory of verified secrets tell, for all that the
// request can mean: it costs a client with a verified secret nothing that the other meaning is wrong. slow reports whether there are other
// hashes.
func (a *Authenticator) compareFast(candidates []candidate) (right *storage.Client, slow bool) {
	for _, meant := range candidates {
		for _, hash := range meant.hashes {
			var match bool
			if a.directory.Secrets.kind(hash) == nil {
				match = matchesPlain(hash, meant.secret)
			} else if match = a.verified.Has(hash, meant.secret); !match {
				slow = true
			}
			if match && right == nil {
				right = meant.client
			}
		}
	}
	return right, slow
}

// waitForSlow waits until a slow hash may be computed. The caller releases slow.
func (a *Authenticator) waitForSlow(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, slowWait)
	defer cancel()
	switch err := a.slow.Acquire(limited, 1); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errBusy
}

// compareSlow returns the client whose secret is right, as slow hashes tell. It remembers right secrets.
func (a *Authenticator) compareSlow(candidates []candidate) (right *storage.Client) {
	for _, meant := range candidates {
		for _, hash := range meant.hashes {
			if kind := a.directory.Secrets.kind(hash); kind != nil && a.matchesSlow(kind, hash, meant.secret) && right == nil {
				right = meant.client
			}
		}
		if right != nil {
			break
		}
	}
	return right
}

// matchesSlow reports whether hash is the hash of secret. Another request may have found that out while this one waited.
func (a *Authenticator) matchesSlow(kind SecretHash, hash, secret string) bool {
	if a.verified.Has(hash, secret) {
		return true
	}
	match, err := kind.Compare([]byte(hash), []byte(secret))
	if !match || err != nil {
		return false
	}
	a.verified.Add(hash, secret)
	return true
}
