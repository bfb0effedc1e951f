package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// deviceEndpoint is the page on which a person types the code that another device shows, and decides whether the program there gets
// access (RFC 8628 §3.3).
//
// Whoever started the program may be somebody else, who sent the person a link or a code (§5.4). So a link only fills in the code, the
// person always has to decide on a page that says who asks, from where and since when, and a GET changes nothing.
type deviceEndpoint struct{ *core }

// serve shows the page, or handles what the person has posted from it.
func (e *deviceEndpoint) serve(c *call) error {
	params, user, err := e.readPage(c)
	switch {
	case err != nil:
		return err
	case user == nil:
		return e.signInTo(c, e.pageURL(params.Get("user_code")))
	case c.r.Method != http.MethodPost:
		return e.show(c, user, params)
	case params.Has("decision"):
		return e.answer(c, user, params)
	}
	return e.find(c, user, params)
}

// pageURL returns the path and query of the page with a code filled in.
func (e *deviceEndpoint) pageURL(typed string) string {
	if code, ok := storage.ReadUserCode(typed); ok {
		return e.config.Paths.Device + "?" + url.Values{"user_code": {storage.ShowUserCode(code)}}.Encode()
	}
	return e.config.Paths.Device
}

// show asks for the code, or says what the person has just decided.
func (e *deviceEndpoint) show(c *call, user *User, params url.Values) error {
	page := pages.DevicePage{}
	if sealed := params.Get("done"); sealed != "" {
		done, err := e.sealer.open(c.ctx, donePurpose(user), sealed)
		if err != nil && !errors.Is(err, errStale) {
			return err
		}
		page.Decision, page.Client, _ = strings.Cut(done, "\n")
	}
	if code, ok := storage.ReadUserCode(params.Get("user_code")); ok {
		page.Code = storage.ShowUserCode(code)
	}
	return e.write(c, user, page)
}

// write writes the page with a form for this user.
func (e *deviceEndpoint) write(c *call, user *User, page pages.DevicePage) (err error) {
	page.User, page.SwitchURL, page.Action = displayName(user), c.site.LoginURL(LoginRequest{ReturnTo: e.pageURL(page.Code)}), e.config.Paths.Device
	if page.Request == "" {
		if page.Request, err = e.sealer.seal(c.ctx, codePurpose(user), "", maxAsk); err != nil {
			return err
		}
	}
	return e.pages.Device(c.w, c.r, page)
}

func codePurpose(user *User) string { return "device code\x00" + user.Subject }

func askPurpose(user *User) string { return "device\x00" + user.Subject }

func donePurpose(user *User) string { return "device done\x00" + user.Subject }

// find looks for what the code that the person typed is for. Wrong codes are counted: nobody can try many (§5.1).
func (e *deviceEndpoint) find(c *call, user *User, form url.Values) error {
	_, err := e.sealer.open(c.ctx, codePurpose(user), form.Get("request"))
	if errors.Is(err, errStale) || !e.fromThisSite(c.r) {
		redirect(c.w, e.pageURL(form.Get("user_code")))
		return nil
	}
	if err != nil {
		return err
	}
	guess, wait := e.limiter.Reserve(throttle.UserCode, c.peer.Address, storage.HashID(user.Subject))
	if guess == nil {
		return clients.TooManyFailures(wait).Explain("a code of a device",
			"fewer wrong codes of this person (5 in 10 minutes), or from this address (throttle: addresses)", "")
	}
	code, ok := storage.ReadUserCode(form.Get("user_code"))
	var id string
	var d *storage.Device
	if ok {
		id, d, err = e.pending(c.ctx, code)
	}
	if err != nil || d != nil {
		guess.Canceled()
	}
	if err != nil {
		return err
	}
	if d == nil {
		e.log.Info("no device has this code", zap.String("issuer", e.config.Name), zap.String("endpoint", "device"),
			zap.String("client_ip", c.peer.Address), zap.String("sub", user.Subject))
		return e.write(c, user, pages.DevicePage{Wrong: true})
	}
	return e.ask(c, user, code, id, d)
}

// pending returns what a user code is for, nil if it is for nothing that anybody can decide on now, and the ID of its record.
func (e *deviceEndpoint) pending(ctx context.Context, code string) (string, *storage.Device, error) {
	for _, key := range storage.UserCodeKeys(code, e.now(), deviceLife) {
		record, err := e.store.Get(ctx, key)
		if errors.Is(err, storage.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		u, err := storage.DecodeUserCode(record)
		if err != nil {
			return "", nil, bounded.NameRecord(key, err)
		}
		d, err := e.device(ctx, u.Device)
		if d == nil || err != nil || !d.Pending(e.now()) {
			return "", nil, err
		}
		return u.Device, d, nil
	}
	return "", nil, nil
}

// device returns the Device with the record of that ID, nil if there is none.
func (e *deviceEndpoint) device(ctx context.Context, id string) (*storage.Device, error) {
	key := storage.Key{Kind: storage.KindDevice, ID: id}
	record, err := e.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	d, err := storage.DecodeDevice(record)
	return d, bounded.NameRecord(key, err)
}

// client returns the client of a Device, if it may still ask.
func (e *deviceEndpoint) client(c *call, d *storage.Device) error {
	client, err := e.clients.Find(c.ctx, d.Client)
	switch {
	case err != nil:
		return err
	case client == nil || !client.MayUse(grants.DeviceCodeType):
		return errStale
	}
	c.client = client
	return nil
}

// ask shows who asks for what. The form carries what the person decides on, sealed for this person.
func (e *deviceEndpoint) ask(c *call, user *User, code, id string, d *storage.Device) error {
	if err := e.client(c, d); err != nil {
		return err
	}
	if unmet := e.unmetLogin(c, user, d); unmet != nil {
		if unmet == errOldLogin {
			login := c.site.LoginURL(LoginRequest{ReturnTo: e.pageURL(storage.ShowUserCode(code)), Again: true, Hints: url.Values{"prompt": {"login"}}})
			if login != "" {
				redirect(c.w, login)
				return nil
			}
		}
		return unmet
	}
	// A revocation after this page voids an answer to it.
	began := e.cutoffs.Begin(user.Subject, d.Client, e.now())
	sealed, err := e.sealer.seal(c.ctx, askPurpose(user), strings.Join([]string{
		strconv.FormatInt(began.UnixMilli(), 10), id, code, offered(c.client),
	}, "\n"), maxAsk)
	if err != nil {
		return err
	}
	consents, err := e.consents.of(c.ctx, user.Subject)
	if err != nil {
		return err
	}
	before := consents.Approved(d.Client, e.now())
	ask := &pages.DeviceAsk{
		Access:  e.access(c.client, d.Scopes, d.Audience, before),
		Address: d.Address, Own: c.peer.Address, Started: d.Started, Now: e.now(),
	}
	return e.write(c, user, pages.DevicePage{Code: storage.ShowUserCode(code), Request: sealed, Ask: ask})
}

// answer handles what the person has decided.
func (e *deviceEndpoint) answer(c *call, user *User, form url.Values) error {
	if !e.fromThisSite(c.r) {
		return errOtherSite
	}
	sealed, err := e.sealer.open(c.ctx, askPurpose(user), form.Get("request"))
	if err != nil {
		return err
	}
	shownAt, rest, _ := strings.Cut(sealed, "\n")
	id, rest, _ := strings.Cut(rest, "\n")
	code, choices, _ := strings.Cut(rest, "\n")
	began, err := strconv.ParseInt(shownAt, 10, 64)
	if err != nil {
		return err
	}
	d, err := e.device(c.ctx, id)
	switch {
	case err != nil:
		return err
	case d == nil || !d.Pending(e.now()):
		return errStale
	}
	// The configuration may have changed since the program asked.
	if err := e.client(c, d); err != nil {
		return err
	}
	if choices != offered(c.client) {
		return errStale
	}
	decision := "deny"
	if form.Get("decision") == "allow" {
		decision = "allow"
		err = e.approve(c, user, id, d, time.UnixMilli(began), form)
	} else {
		err = e.deny(c, user, id)
	}
	if err != nil {
		return err
	}
	done, err := e.sealer.seal(c.ctx, donePurpose(user), decision+"\n"+appOf(c.client).Name, maxAsk)
	if err != nil {
		return err
	}
	for _, key := range storage.UserCodeKeys(code, e.now(), deviceLife) {
		_ = e.store.Delete(c.ctx, key) // it is worth nothing any more, and expires
	}
	redirect(c.w, e.config.Paths.Device+"?"+url.Values{"done": {done}}.Encode())
	return nil
}

// unmetLogin returns what the client demands of the login of those whom it signs in, and the user has not done; nil if there is nothing.
// Whoever has signed in since the program asked has signed in anew.
func (e *deviceEndpoint) unmetLogin(c *call, user *User, d *storage.Device) *grants.Error {
	policy := c.client.OpenID
	if policy == nil || !slices.Contains(d.Scopes, grants.OpenID) {
		return nil
	}
	switch maxAge := policy.DefaultMaxAge; {
	case user.AuthTime.IsZero() && (maxAge != nil || policy.RequireAuthTime):
		return errNoAuthTime
	case maxAge != nil && e.now().Sub(user.AuthTime) > *maxAge && user.AuthTime.Before(d.Started.Truncate(time.Second)):
		return errOldLogin
	}
	return nil
}

// approve lets the program get tokens for the user with its next poll. The form says for how long.
func (e *deviceEndpoint) approve(c *call, user *User, id string, d *storage.Device, began time.Time, form url.Values) error {
	if unmet := e.unmetLogin(c, user, d); unmet != nil {
		return unmet
	}
	until, err := chosenUntil(c.client, form, e.now())
	if err != nil {
		return err
	}
	if err := checkSubjectFor(c.client, d.Scopes, user.Subject); err != nil {
		return err
	}
	if err := e.cutoffs.Sync(c.ctx); err != nil { // load the cutoffs of other nodes first, so that the new family starts after all of them
		return err
	}
	if e.cutoffs.Voids(user.Subject, d.Client, began) { // see Revoker.Revoke
		return errStale
	}
	if err := e.cutoffs.Cover(c.ctx, lifetimesOf(c.client)); err != nil {
		return err
	}
	count, wait := e.limiter.ReserveFamily(throttle.Code, familyAccount(d.Client, user.Subject))
	if count == nil {
		return e.tooManyCodes(wait)
	}
	now := e.now()
	err = e.remember(c.ctx, user.Subject, approval{client: c.client, scopes: d.Scopes, audience: d.Audience, until: until})
	if err == nil {
		session := user.Session
		session.ID = "" // the person's browser has that session, and not the device, which stays connected after a logout
		approval := &storage.Approval{
			Subject: user.Subject, Claims: user.Claims, AuthTime: user.AuthTime, Session: session,
			Started: e.cutoffs.Begin(user.Subject, d.Client, now), Until: until,
		}
		if c.client.MayUse("refresh_token") {
			approval.Ends = c.client.RefreshToken.Ends(now)
		}
		err = e.decide(c.ctx, id, func(d *storage.Device) { d.Approval = approval })
	}
	if err != nil {
		count.Canceled()
		return err
	}
	e.events.record(&Event{Name: eventConsentGiven, Address: c.peer.Address, Client: d.Client, Subject: user.Subject, Scopes: d.Scopes, Until: until})
	return nil
}

// deny refuses the program.
func (e *deviceEndpoint) deny(c *call, user *User, id string) error {
	now := e.now()
	if err := e.decide(c.ctx, id, func(d *storage.Device) { d.Denied = now }); err != nil {
		return err
	}
	e.events.record(&Event{Name: eventDeviceDenied, Address: c.peer.Address, Client: c.client.ID, Subject: user.Subject})
	return nil
}

// decide records a decision, unless somebody else was faster.
func (e *deviceEndpoint) decide(ctx context.Context, id string, change func(d *storage.Device)) error {
	return e.store.Update(ctx, storage.Key{Kind: storage.KindDevice, ID: id}, func(record []byte) ([]byte, time.Time, error) {
		if record == nil {
			return nil, time.Time{}, errStale
		}
		d, err := storage.DecodeDevice(record)
		if err != nil {
			return nil, time.Time{}, err
		}
		if !d.Pending(e.now()) {
			return nil, time.Time{}, errStale
		}
		change(d)
		value, err := d.Encode()
		return value, d.End(), err
	})
}
