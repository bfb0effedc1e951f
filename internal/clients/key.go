package clients

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// byKey is Authenticate for a request with a client_assertion (private_key_jwt).
//
// How long a refusal takes can tell whether a client exists, which is no secret: the ID of a client with keys is in its assertions, and
// often a public URL.
func (a *Authenticator) byKey(
	ctx context.Context, r *http.Request, form url.Values, address string,
) (*storage.Client, NamedClient, error) {
	if err := a.onlyKey(r, form); err != nil {
		return nil, NamedClient{ID: form.Get("client_id")}, err
	}
	sent, problem := readAssertion(form)
	if problem != nil {
		return a.refuseKey(problem, NamedClient{ID: form.Get("client_id")}, address)
	}
	client, err := a.directory.Find(ctx, sent.ClientID)
	if err != nil {
		return nil, NamedClient{}, err
	}
	named := NamedClient{ID: sent.ClientID, Client: client}
	switch {
	case client == nil:
		return a.refuseKey(&assertion.Error{Sent: named.ID, Expected: a.directory.Missing(named.ID), Setting: "client"}, named, address)
	case !client.HasKeys():
		return a.refuseKey(&assertion.Error{
			Sent: "a client_assertion", Expected: "none, as the client does not authenticate with a key", Setting: "jwks, jwks_uri",
		}, named, address)
	}
	attempt, wait := a.limiter.Check(throttle.Key, address, client.ID)
	if attempt == nil {
		return nil, named, TooManyFailures(wait)
	}
	if err := a.keys.Check(ctx, sent, client); err != nil {
		if _, refused := errors.AsType[*assertion.Error](err); refused {
			attempt.Failed()
		}
		return nil, named, explainKey(err, named)
	}
	attempt.Succeeded(client.ID)
	named.Method = storage.MethodKey
	return client, named, nil
}

// onlyKey refuses a request that has another method of client authentication beside the assertion.
func (a *Authenticator) onlyKey(r *http.Request, form url.Values) error {
	secret := form.Has("client_secret") || len(r.Header.Values("Authorization")) > 0 ||
		a.header != "" && len(r.Header.Values(a.header)) > 0
	if secret {
		return errTwoMethods.Explain(sentMethods(r, form, a.header), "one of them", "")
	}
	return checkURL(r)
}

// readAssertion returns the assertion of a request.
func readAssertion(form url.Values) (*assertion.Assertion, error) {
	if typ := form.Get("client_assertion_type"); typ != assertion.Type {
		return nil, &assertion.Error{Sent: "client_assertion_type " + typ, Expected: assertion.Type}
	}
	sent, err := assertion.Parse(form.Get("client_assertion"))
	if err != nil {
		return nil, err
	}
	if id := form.Get("client_id"); id != "" && id != sent.ClientID { // RFC 7521 §4.2
		return nil, &assertion.Error{
			Sent: "client_id " + id + " beside an assertion of " + sent.ClientID, Expected: "the same client in both, or no client_id",
		}
	}
	return sent, nil
}

// refuseKey refuses an assertion that no client can have made. It counts as a failure of the address.
func (a *Authenticator) refuseKey(problem error, named NamedClient, address string) (*storage.Client, NamedClient, error) {
	attempt, wait := a.limiter.Check(throttle.Key, address)
	if attempt == nil {
		return nil, named, TooManyFailures(wait)
	}
	attempt.Failed()
	return nil, named, explainKey(problem, named)
}

// explainKey returns the refusal that the client gets, which is always the same, with the reason for the log.
func explainKey(err error, named NamedClient) error {
	problem, ok := errors.AsType[*assertion.Error](err)
	if !ok {
		return err
	}
	setting := problem.Setting
	if strings.HasPrefix(setting, "jwks") || setting == "profile" {
		setting = "client " + named.ID + ": " + setting
	}
	refusal := ErrFailed.Explain(problem.Sent, problem.Expected, setting)
	refusal.Cause = errWrongAssertion
	return refusal
}

var errWrongAssertion = errors.New("the client_assertion was refused")
