package clients

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// ErrFailed is the refusal of a client that is unknown or whose secret is wrong. The answer does not say which; the log does,
// see explain.
var ErrFailed = refuse("client authentication failed")

var errTwoMethods = grants.Refuse(grants.InvalidRequest, "more than one way of client authentication")

// errBusy is the refusal of a client whose secret could not be compared in time: others have taken all the time there is for slow hashes.
// The server itself works, so that it is no error of the server in the log.
var errBusy = (&grants.Error{
	Code: grants.TemporarilyUnavailable, Description: "the server is busy, try again later",
	Status: http.StatusTooManyRequests, RetryAfter: slowWait,
}).Explain("a secret that is compared with a slow hash", fmt.Sprintf("at most %d such comparisons at once", slowAtOnce), "secret_hash")

func refuse(description string) *grants.Error {
	return &grants.Error{
		Code: grants.InvalidClient, Description: description, Status: http.StatusUnauthorized,
		Situation: grants.BadClient,
	}
}

// TooManyFailures returns the refusal of an attempt after too many failures, with the status of RFC 6585 §4. Of the
// error codes of RFC 6749, this is the one that tells the client to come back later.
func TooManyFailures(wait time.Duration) *grants.Error {
	return &grants.Error{
		Code: grants.TemporarilyUnavailable, Description: "too many failed attempts, try again later",
		Status: http.StatusTooManyRequests, RetryAfter: wait,
	}
}

// name returns the client that a candidate names.
func (a *Authenticator) name(ctx context.Context, meant candidate) NamedClient {
	if meant.client == nil && a.swapped(ctx, meant) {
		return NamedClient{}
	}
	return NamedClient{ID: meant.id, Client: meant.client}
}

// swapped reports whether the ID stands in the place of the secret. Then the secret stands in the place of the ID.
func (a *Authenticator) swapped(ctx context.Context, meant candidate) bool {
	client, err := a.directory.Find(ctx, meant.secret)
	return client != nil || err != nil
}

// explain says for the log why the client could not authenticate. No part of a secret is in it.
func (a *Authenticator) explain(named NamedClient, meant candidate) *grants.Error {
	setting := "client " + named.ID
	switch {
	case named.ID == "":
		return ErrFailed.Explain(meant.method+": a client ID in the place of the secret",
			"first the client ID, then the secret", "client "+meant.secret)
	case meant.client == nil:
		return ErrFailed.Explain(named.ID, a.directory.Missing(named.ID), "client")
	case !meant.client.HasSecrets() && meant.client.Certificate != nil && !meant.client.HasKeys():
		return ErrFailed.Explain(cmp.Or(sentSecret(meant), meant.method),
			"client_id in the body and nothing else, as the client authenticates with its TLS certificate", setting+": "+meant.client.Certificate.Method())
	case !meant.client.HasSecrets() && meant.client.HasKeys():
		return ErrFailed.Explain(cmp.Or(sentSecret(meant), "no client_assertion"),
			"a client_assertion, which the client signs with its key", setting+": jwks, jwks_uri")
	case meant.client.Public():
		return ErrFailed.Explain(meant.method+": a secret", "no secret, as the client is public", setting+": secret")
	case meant.secret == "":
		return ErrFailed.Explain("no secret", "the secret of the client", setting+": secret, secret_hash")
	case strings.TrimSpace(meant.secret) != meant.secret:
		return ErrFailed.Explain(meant.method+": a wrong secret, with a space or a line break around it",
			"the secret of the client", setting+": secret, secret_hash")
	}
	return ErrFailed.Explain(meant.method+": a wrong secret", "the secret of the client", setting+": secret, secret_hash")
}

// sentSecret says that there was a secret, "" if there was none.
func sentSecret(meant candidate) string {
	if meant.secret == "" {
		return ""
	}
	return meant.method + ": a secret"
}

// Missing says what a client ID that Find does not know should be, as far as this node knows.
func (d *Directory) Missing(id string) string {
	if x := d.latest.Load(); x != nil && x.overridesSources(id) {
		return x.missing(id)
	}
	for _, source := range d.Sources {
		if s, ok := source.(Explainer); ok {
			if expected := s.Missing(id); expected != "" {
				return expected
			}
		}
	}
	return "the ID of a client"
}

// missing says why a client with a stored record is not found.
func (x *index) missing(id string) string {
	switch r := x.stored[id]; {
	case r.BlocksDescribed:
		return "a client that is not blocked"
	case !r.Deleted.IsZero():
		return "a client that was not deleted"
	case !r.Disabled.IsZero():
		return "a client that is not disabled"
	}
	return "a client whose settings this issuer allows: " + x.problems[id]
}

// sentMethods names the methods of client authentication that a request tries.
func sentMethods(r *http.Request, form url.Values, secretHeader string) string {
	var methods []string
	for _, value := range r.Header.Values("Authorization") {
		methods = append(methods, "Authorization: "+scheme(value))
	}
	if secretHeader != "" && r.Header.Values(secretHeader) != nil {
		methods = append(methods, secretHeader)
	}
	if form.Has("client_secret") {
		methods = append(methods, inBody)
	}
	if form.Has("client_assertion") {
		methods = append(methods, storage.MethodKey)
	}
	return strings.Join(methods, ", ")
}

// scheme returns the scheme of an Authorization header. One that is not well known may be a secret without a scheme.
func scheme(value string) string {
	sent, _, _ := strings.Cut(value, " ")
	for _, known := range []string{"Basic", "Bearer", "Digest", "DPoP", "Negotiate", "OAuth"} {
		if strings.EqualFold(sent, known) {
			return known
		}
	}
	return "an unknown scheme"
}

// refuseAuthorization refuses an Authorization header that is not Basic, or not well-formed. A script that adds its access
// token to every request learns that it must not do so here.
func refuseAuthorization(r *http.Request) error {
	sent, expected := scheme(r.Header.Get("Authorization")), "Authorization: Basic, or the client_id in the body"
	switch sent {
	case "Basic":
		return refuse("the Authorization header is malformed").
			Explain("Authorization: Basic", "client ID, colon and secret, in base64 after Basic (RFC 7617)", "")
	case "Bearer":
		return refuse("the Authorization header has a Bearer token, but this endpoint takes Basic, or client_id in the body").
			Explain("Authorization: Bearer", expected, "")
	}
	return refuse("the Authorization header must have the scheme Basic").Explain("Authorization: "+sent, expected, "")
}
