package authserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	pushedLife = 90 * time.Second  // until a browser must come
	askedLife  = maxLogin + maxAsk // more, for a person who has signed in
	usedLife   = 10 * time.Second  // of a form that is posted twice
	maxPushed  = 16 << 10          // bytes of the parameters
)

// parEndpoint is the pushed authorization request endpoint (RFC 9126 §2). A client sends its authorization request here, and learns at
// once what is wrong with it; the browser brings only a reference.
type parEndpoint struct{ *authorizeEndpoint }

// pushedResponse is the response of RFC 9126 §2.2.
type pushedResponse struct {
	RequestURI string `json:"request_uri"`
	ExpiresIn  int64  `json:"expires_in"`
}

// serve authenticates the client as the token endpoint does, and checks the request as the authorization endpoint does.
func (e *parEndpoint) serve(c *call) error {
	form, err := wire.ReadForm(c.w, c.r)
	if err != nil {
		return err
	}
	if err := e.authenticate(c, form); err != nil {
		return err
	}
	params := pushable(form, c.client.ID)
	signed := params.Has("request") && c.client.SignsRequests()
	if signed && !params.Has("request_uri") {
		if params, err = e.openPushed(c, params); err != nil {
			return err
		}
	}
	c.setDeadline(e.config.StoreTimeout) // after the keys of the request object were fetched
	if err := e.checkSigned(c.client, signed); err != nil {
		return err
	}
	switch size := len(params.Encode()); {
	case params.Has("request_uri"): // RFC 9126 §2.1
		return grants.Refuse(grants.InvalidRequest, "request_uri cannot be pushed").Explain("request_uri", "the parameters themselves", "")
	case size > maxPushed:
		refusal := &grants.Error{
			Code: grants.InvalidRequest, Description: "the request is too large", Status: http.StatusRequestEntityTooLarge,
		}
		return refusal.Explain(strconv.Itoa(size)+" bytes", "up to "+strconv.Itoa(maxPushed), "")
	}
	if err := e.bindKey(c, params); err != nil {
		return err
	}
	if err := e.check(c, params); err != nil {
		if refusal, ok := errors.AsType[*redirectError](err); ok { // RFC 9126 §2.3: there is no browser here
			return refusal.refusal
		}
		return err
	}
	reference, err := e.push(c, params)
	if err != nil {
		return err
	}
	if c.proof != nil {
		if err := e.useProofOnce(c); err != nil {
			return err
		}
	}
	return wire.WriteJSON(c.w, http.StatusCreated, "application/json", pushedResponse{reference, int64(pushedLife / time.Second)})
}

// pushable returns the parameters of the authorization request: all but those by which the client authenticates.
func pushable(form url.Values, client string) url.Values {
	params := maps.Clone(form)
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type", afterLogin} {
		params.Del(name)
	}
	params.Set("client_id", client)
	return params
}

// bindKey binds the code to the key of a DPoP proof that comes with the request: it stands for dpop_jkt (RFC 9449 §10.1).
func (e *parEndpoint) bindKey(c *call, params url.Values) error {
	if len(c.r.Header[dpop.Header]) == 0 {
		return nil
	}
	if err := e.proveKey(c); err != nil {
		return err
	}
	key := c.proof.Thumbprint
	if named := params.Get("dpop_jkt"); named != "" && named != key {
		return grants.Refuse(grants.InvalidDPoPProof, "dpop_jkt is another key than that of the proof").Explain("dpop_jkt "+named, key, "")
	}
	params.Set("dpop_jkt", key)
	return nil
}

// check checks all that does not depend on the person.
func (e *parEndpoint) check(c *call, params url.Values) error {
	to, err := e.findRedirectTarget(c.client, params)
	if err != nil {
		return err
	}
	req, err := e.checkAuthorizeRequest(c.client, to, params)
	if err != nil {
		return err
	}
	return e.readHint(c.ctx, req)
}

// push writes the record. The number of records is limited.
func (e *parEndpoint) push(c *call, params url.Values) (reference string, err error) {
	count, wait := e.limiter.ReservePush(c.client.ID, c.peer.Address, c.isKnown())
	if count == nil {
		return "", tooManyPushed(wait).Explain(c.peer.Address, "fewer pushed requests in that time", "throttle: pushed")
	}
	now := e.now()
	p := &storage.Pushed{Client: c.client.ID, Params: params, Expires: now.Add(pushedLife)}
	reference, key := p.IssueReference(p.Expires.Add(askedLife))
	if e.sweeps && !e.config.Codes.addPushed(e.config.Name, key, p.Expires, c.isKnown()) {
		count.Canceled()
		return "", tooManyPushed(pushedLife).Explain("a pushed request", fmt.Sprintf("fewer that no browser has come with: this node keeps %d for such a client", roomForPushed(c.isKnown())), "")
	}
	record, err := p.Encode()
	if err == nil {
		err = e.store.Put(c.ctx, key, record, p.Expires)
	}
	if err != nil {
		count.Canceled()
		return "", err
	}
	return reference, nil
}

func tooManyPushed(wait time.Duration) *grants.Error {
	return &grants.Error{
		Code: grants.TemporarilyUnavailable, Description: "too many pushed requests, try again later",
		Status: http.StatusTooManyRequests, RetryAfter: wait,
	}
}

var errRequestURI = grants.Refuse("invalid_request_uri", "request_uri has expired, was used before or is another client's")

// findPushed returns what a reference is for.
func (s *core) findPushed(ctx context.Context, uri string) (*storage.Pushed, error) {
	key, ok := storage.PushedKey(uri)
	if !ok {
		return nil, errRequestURI.Explain("a request_uri that was never issued here", "", "")
	}
	record, err := s.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errRequestURI
	}
	if err != nil {
		return nil, err
	}
	p, err := storage.DecodePushed(record)
	if errors.Is(err, storage.ErrDamaged) || err == nil && (p.Used != "" || !s.now().Before(p.Expires.Add(p.Kept))) {
		return nil, errRequestURI
	}
	return p, err
}

// pushed returns the parameters of the request that a client has pushed. All others of the browser's request are ignored (RFC 9126 §4),
// but for the proof that it comes from the login page. An error is for the person to see: there is no redirect URI.
func (e *authorizeEndpoint) pushed(c *call, sent url.Values) (url.Values, error) {
	p, err := e.findPushed(c.ctx, sent.Get("request_uri"))
	switch {
	case err != nil:
		return nil, err
	case sent.Has("request"): // RFC 9101 §5
		return nil, errTwoRequests
	case p.Client != sent.Get("client_id"):
		return nil, errRequestURI.Explain("client_id "+sent.Get("client_id"), "client_id "+p.Client, "")
	}
	params := maps.Clone(p.Params)
	if proof := sent.Get(afterLogin); proof != "" {
		params.Set(afterLogin, proof)
	}
	c.speak(params)
	return params, nil
}

// speak has the pages speak the languages that the parameters ask for, which are not those of the URL: pages read them there.
func (c *call) speak(params url.Values) {
	if locales := params.Get("ui_locales"); locales != "" {
		r, u := c.r.WithContext(c.r.Context()), *c.r.URL
		u.RawQuery = url.Values{"ui_locales": {locales}}.Encode()
		r.URL = &u
		c.r = r
	}
}

// keepPushed keeps a pushed request for a person who signs in or decides, so that the page can be loaded again. Without a user, anybody can
// make the record stay: the address of the browser has the limit of pushes. Beyond it, the person must sign in while the record lives.
func (e *authorizeEndpoint) keepPushed(c *call, req *authorizeRequest, user *User) error {
	key, ok := storage.PushedKey(req.pushed)
	if !ok {
		return nil
	}
	keep, kept := askedLife, false
	var count *throttle.Attempt
	if user == nil {
		keep = maxLogin
	}
	err := e.store.Update(c.ctx, key, func(record []byte) ([]byte, time.Time, error) {
		if record == nil {
			return nil, time.Time{}, errRequestURI
		}
		p, err := storage.DecodePushed(record)
		if err != nil {
			return nil, time.Time{}, err
		}
		if p.Used != "" {
			return nil, time.Time{}, errRequestURI
		}
		if kept = p.Kept >= keep; kept {
			return nil, time.Time{}, storage.ErrKeep
		}
		if user == nil && count == nil {
			if count, _ = e.limiter.ReserveVisit(c.peer.Address); count == nil {
				return nil, time.Time{}, storage.ErrKeep
			}
		}
		p.Kept, kept = keep, true
		value, err := p.Encode()
		return value, p.Expires.Add(keep), err
	})
	if err != nil && count != nil {
		count.Canceled()
	}
	if err == nil && kept {
		e.config.Codes.redeemed(e.config.Name, key)
	}
	return err
}

// usePushed uses a pushed request up: of many answers to it, one gets a code. The same form of the consent page gets another one within
// seconds: a double click sends it twice, and the browser only sees the second answer.
func (e *authorizeEndpoint) usePushed(ctx context.Context, req *authorizeRequest) error {
	key, ok := storage.PushedKey(req.pushed)
	if !ok {
		return nil
	}
	now := e.now()
	used := &storage.Pushed{Client: req.client.ID, Expires: now.Add(usedLife), Used: req.form}
	err := e.store.Update(ctx, key, func(record []byte) ([]byte, time.Time, error) {
		if record == nil {
			return nil, time.Time{}, errRequestURI
		}
		p, err := storage.DecodePushed(record)
		switch {
		case err != nil:
			return nil, time.Time{}, err
		case p.Used != "" && (p.Used != req.form || !now.Before(p.Expires)):
			return nil, time.Time{}, errRequestURI
		case p.Used != "":
			return nil, time.Time{}, storage.ErrKeep
		case req.form == "":
			return nil, time.Time{}, nil
		}
		value, err := used.Encode()
		return value, used.Expires, err
	})
	switch {
	case err != nil:
	case req.form == "":
		e.config.Codes.redeemed(e.config.Name, key)
	case e.sweeps: // it has no place any more
		e.config.Codes.add(e.config.Name, key, used.Expires)
	}
	return err
}

// inURL returns the parameters by which a browser comes back with the request.
func (r *authorizeRequest) inURL() url.Values {
	switch id := r.params.Get("client_id"); {
	case r.pushed != "":
		return url.Values{"client_id": {id}, "request_uri": {r.pushed}}
	case r.object != "":
		return url.Values{"client_id": {id}, "request": {r.object}}
	}
	return withoutProof(r.params)
}

// checkPushed refuses a request that had to be pushed (RFC 9126 §5, §6).
func (e *authorizeEndpoint) checkPushed(client *storage.Client, pushed string) error {
	setting := ""
	switch {
	case pushed != "":
	case e.config.RequirePushed:
		setting = "require_pushed_authorization_requests"
	case client.RequirePushed:
		setting = settingOf(client, "require_pushed_authorization_requests")
	}
	if setting == "" {
		return nil
	}
	return grants.Refuse(grants.InvalidRequest, "the request must be pushed").
		Explain("the parameters themselves", "client_id and a request_uri of "+e.origin+e.config.Paths.PAR, setting)
}
