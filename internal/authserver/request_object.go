package authserver

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A client can sign its authorization request, so that nobody can change it on the way (RFC 9101): a browser brings the request object, or
// the client pushes it. Then its parameters are those of the object alone.

// errRequestObject is the refusal of a request object. Which check has failed is for the log only.
var errRequestObject = grants.Refuse("invalid_request_object", "the request object is not valid")

// errTwoRequests refuses what RFC 9101 §5 forbids.
var errTwoRequests = grants.Refuse(grants.InvalidRequest, "request and request_uri cannot be together").
	Explain("request and request_uri", "one of them", "")

// requestObject is a request object that a browser has brought. It must be good when it is first seen: a person who was sent to the login
// page with it may come back after it has expired.
type requestObject struct {
	object string // "": none
	seen   time.Time
}

// maxSeen is how long a person may take to sign in and to decide, with an object that has expired meanwhile.
const maxSeen = maxLogin + maxAsk

// openRequest returns the parameters in the request object that a browser has brought, and the proof that it comes from the login page. A
// problem is for the client to see. A fatal error is for the person to see, since the client has signed no redirect URI.
func (e *authorizeEndpoint) openRequest(
	c *call, client *storage.Client, sent url.Values,
) (params url.Values, brought requestObject, problem, fatal error) {
	if sent.Has("request_uri") {
		return nil, brought, nil, errTwoRequests
	}
	brought = requestObject{sent.Get("request"), e.now()}
	request, err := e.readRequest(c, client, brought.object)
	if err != nil {
		return nil, brought, nil, err
	}
	params = request.Params
	params.Del(afterLogin)
	if proof := sent.Get(afterLogin); proof != "" {
		params.Set(afterLogin, proof)
		came, err := e.cameFromLogin(c, &authorizeRequest{params: sent, requestObject: brought})
		if err != nil {
			return nil, brought, nil, err
		}
		if came != nil && brought.seen.Sub(came.seen) < maxSeen {
			brought.seen = came.seen
		}
	}
	err = e.assertions.CheckRequest(request, client, brought.seen)
	c.speak(params)
	return params, brought, explainRequest(err, client), nil
}

// openPushed returns the parameters in the request object that a client has pushed (RFC 9126 §3).
func (e *parEndpoint) openPushed(c *call, sent url.Values) (url.Values, error) {
	request, err := e.readRequest(c, c.client, sent.Get("request"))
	if err != nil {
		return nil, err
	}
	if err := e.assertions.CheckRequest(request, c.client, e.now()); err != nil {
		return nil, explainRequest(err, c.client)
	}
	return pushable(request.Params, c.client.ID), nil
}

// readRequest reads a request object that the client has signed. Objects with a wrong signature are counted after the fact: any web page can
// make a browser bring them, and must not keep the people at its address from signing in.
func (e *authorizeEndpoint) readRequest(c *call, client *storage.Client, object string) (*assertion.Request, error) {
	request, err := e.assertions.ReadRequest(c.ctx, object, client)
	refusal := explainRequest(err, client)
	if problem, refused := errors.AsType[*assertion.Error](err); refused && problem.Forged {
		if wait := e.limiter.Invalid(throttle.Request, client.ID, c.peer.Address); wait > 0 {
			tooMany := clients.TooManyFailures(wait)
			tooMany.Cause = refusal
			return nil, tooMany
		}
	}
	return request, refusal
}

// WantsNoPage reports whether the authorization request with these parameters must be answered without a page (OpenID Connect Core
// §3.1.2.1, prompt=none). Of a pushed request, that is in its record.
func (s *core) WantsNoPage(ctx context.Context, params url.Values) bool {
	prompt := promptOf(params)
	if uri := params.Get("request_uri"); storage.IsPushedURI(uri) {
		ctx, cancel := context.WithTimeout(ctx, s.config.StoreTimeout)
		defer cancel()
		p, err := s.findPushed(ctx, uri)
		if err != nil { // the endpoint finds the same, and has no redirect URI
			return false
		}
		prompt = p.Params.Get("prompt")
	}
	return slices.Contains(strings.Fields(prompt), "none")
}

// promptOf returns the prompt of a request that is not verified yet. It only decides whether somebody sees a page, which whoever has the
// browser can decide anyway.
func promptOf(params url.Values) string {
	if object := params.Get("request"); object != "" {
		if signed := assertion.PeekRequest(object); signed != nil {
			params = signed
		}
	}
	return params.Get("prompt")
}

// explainRequest returns the refusal of a request object, with the reason for the log.
func explainRequest(err error, client *storage.Client) error {
	problem, ok := errors.AsType[*assertion.Error](err)
	if !ok {
		return err
	}
	setting := problem.Setting
	if setting != "" && !strings.HasPrefix(setting, "client ") {
		setting = "client " + client.ID + ": " + setting
	}
	return errRequestObject.Explain(problem.Sent, problem.Expected, setting)
}

// checkSigned refuses a request that had to be signed (RFC 9101 §10.5). A pushed one was checked when it was pushed.
func (e *authorizeEndpoint) checkSigned(client *storage.Client, signed bool) error {
	setting := ""
	switch {
	case signed:
	case e.config.RequireSigned:
		setting = "require_signed_request_object"
	case client.RequireSigned:
		setting = "client " + client.ID + ": require_signed_request_object"
	}
	if setting == "" {
		return nil
	}
	return grants.Refuse(grants.InvalidRequest, "the request must be signed").
		Explain("the parameters themselves", "a request object in the parameter request", setting)
}
