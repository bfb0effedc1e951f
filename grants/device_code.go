package grants

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(new(DeviceCode))
}

// DeviceCode gives tokens to a program that cannot show a browser, such as a command line tool on a server, once a person has approved
// it on another device (RFC 8628). Until then, the program polls with its device code.
//
// A device code works once and for the client it was given to. A program that lost the answer polls again and gets the same refresh
// token, under the conditions under which it could repeat a refresh. Any other second use revokes all that came of the code.
//
// A poll in time reads one record and writes none.
type DeviceCode struct{ polls polls }

// CaddyModule returns the Caddy module information.
func (*DeviceCode) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.device_code",
		New: func() caddy.Module { return new(DeviceCode) },
	}
}

// DeviceCodeType is the grant_type of DeviceCode.
const DeviceCodeType = "urn:ietf:params:oauth:grant-type:device_code"

// Type implements Grant.
func (*DeviceCode) Type() string { return DeviceCodeType }

// Error codes of RFC 8628 §3.5.
const (
	AuthorizationPending = "authorization_pending"
	SlowDown             = "slow_down"
	ExpiredToken         = "expired_token"
)

var (
	errBadDeviceCode = &Error{Code: InvalidGrant, Description: "device code is invalid or was used before", Situation: BadCode}
	errExpiredDevice = &Error{Code: ExpiredToken, Description: "the device code has expired: start again"}
	errDeniedDevice  = &Error{Code: AccessDenied, Description: "the user denied access"}
	errPending       = &Error{Code: AuthorizationPending, Description: "the user has not decided yet"}
	errSlowDown      = &Error{Code: SlowDown, Description: "wait 5 seconds longer between requests from now on"}
)

const (
	// slowDown is what a program must wait longer after it was told to slow down (RFC 8628 §3.5), in seconds.
	slowDown = 5
	// slowest is the longest polling interval, in seconds. Each increase is a write, so it also bounds the writes that a program
	// causes by polling too fast.
	slowest = 60
)

// Exchange implements Grant.
func (g *DeviceCode) Exchange(ctx context.Context, req *Request) (*Authorization, error) {
	code, err := req.token("device_code", "", "", errBadDeviceCode)
	if err != nil {
		return nil, err
	}
	key, ok := storage.DeviceKey(code)
	if !ok {
		return nil, errBadDeviceCode.because(neverIssued(code))
	}
	record, err := req.Store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, errExpiredDevice.because(explainMissing(key, req.Now))
	}
	var d *storage.Device
	if err == nil {
		d, err = storage.DecodeDevice(record)
	}
	switch {
	case errors.Is(err, storage.ErrDamaged): // A damaged record stays damaged, so the program must start again.
		refusal := *errExpiredDevice
		refusal.Cause = err
		return nil, &refusal
	case err != nil:
		return nil, err
	case d.Client != req.Client.ID:
		return nil, errBadDeviceCode.because("issued to another client").Explain("client "+req.Client.ID, "client "+d.Client, "")
	case !d.HasCode(code):
		return nil, errBadDeviceCode.because("never issued here, or damaged on its way")
	case !d.Denied.IsZero():
		return nil, errDeniedDevice
	case d.Approval != nil:
		e := &deviceExchange{req: req, key: key, code: code}
		return e.run(ctx)
	case !d.Pending(req.Now):
		return nil, errExpiredDevice.Explain("a device code that expired at "+formatTime(d.Expires), "", "")
	case g.polls.early(key.ID, time.Duration(d.Interval)*time.Second, req.Now):
		if d.Interval < slowest {
			if err := req.Store.Update(ctx, key, slower); err != nil {
				return nil, err
			}
		}
		return nil, errSlowDown
	}
	return nil, errPending
}

// slower is a change of a Device that makes the interval of the program longer, for good and on all nodes.
func slower(record []byte) ([]byte, time.Time, error) {
	if record == nil {
		return nil, time.Time{}, storage.ErrKeep
	}
	d, err := storage.DecodeDevice(record)
	if err != nil {
		return nil, time.Time{}, err
	}
	if d.Approval != nil || !d.Denied.IsZero() {
		return nil, time.Time{}, storage.ErrKeep // the program learns it with its next poll
	}
	d.Interval = min(d.Interval+slowDown, slowest)
	value, err := d.Encode()
	return value, d.End(), err
}

// deviceExchange is the exchange of a device code that a person has approved.
type deviceExchange struct {
	req  *Request
	key  storage.Key // of the Device
	code string

	device *storage.Device
	auth   *Authorization
	again  bool // the program has had an answer before, which may be lost

	family       storage.Key // of the tokens, if there are refresh tokens
	refreshToken string      // the first one
}

// run redeems the code, and then writes the family. If the process dies between the two, the program repeats its poll, and the family
// is written then.
func (e *deviceExchange) run(ctx context.Context) (*Authorization, error) {
	err := e.req.Store.Update(ctx, e.key, e.redeem)
	if err != nil {
		return nil, err
	}
	if e.device.Family == "" {
		return e.auth, nil
	}
	e.family = storage.Key{Kind: storage.KindFamily, ID: e.device.Family}
	if e.refreshToken, err = e.device.RefreshToken(e.code); err != nil {
		return nil, err
	}
	if err := e.req.Store.Update(ctx, e.family, e.startFamily); err != nil {
		return nil, err
	}
	policy := e.req.Client.RefreshToken
	e.auth.Family, e.auth.RefreshToken = e.family.ID, policy.Prefix+e.refreshToken
	e.auth.RefreshEnds = e.device.NewFamily().RefreshEnds(e.device.Redeemed, policy)
	return e.auth, nil
}

// redeem is a change of the Device that marks the code as used, or finds that this request is the repeat of the one that used it.
func (e *deviceExchange) redeem(record []byte) ([]byte, time.Time, error) {
	req := e.req
	refuse := func(err error) ([]byte, time.Time, error) { return nil, time.Time{}, err }
	if record == nil {
		return refuse(errExpiredDevice.because("expired"))
	}
	d, err := storage.DecodeDevice(record)
	if err != nil {
		return refuse(err)
	}
	e.device, e.again = d, !d.Redeemed.IsZero()
	f := d.NewFamily()
	family := storage.Key{Kind: storage.KindFamily, ID: d.Family}
	switch {
	case storage.Expired(f.Until, req.Now): // then Ends is over too
		return refuse(errExpiredDevice.Explain("an approval that ended at "+formatTime(f.Until), "", "client "+req.Client.ID+": consent_lifetime"))
	case !f.Ends.IsZero() && !req.Now.Before(f.Ends):
		return refuse(errExpiredDevice.Explain("a device code whose tokens would have expired at "+formatTime(f.Ends), "",
			"client "+req.Client.ID+": refresh_token lifetime"))
	case req.IsVoid != nil && req.IsVoid(family.ID, f):
		return refuse(errBadDeviceCode.because("void: all tokens of its user or its client were revoked").about(family.ID, f.Subject))
	}
	if e.auth, err = authorizationFor(req, f, family, ""); err != nil {
		return refuse(err)
	}
	switch {
	case e.again && !d.Bound.ProvenBy(req.Proven):
		return refuse(refuseOtherKey(errBadDeviceCode, req, d.Bound))
	case e.again && e.mayRepeat():
		return refuse(storage.ErrKeep)
	case e.again:
		return refuse(e.replayed())
	}
	d.Redeemed = req.Now
	if !req.Authenticated {
		d.Bound = req.Client.Binding(req.Proven)
	}
	if req.Client.MayUse("refresh_token") {
		refreshToken, key := f.Start(req.Client.RefreshToken.Length)
		if err := d.Redeem(e.code, refreshToken, key, req.Now); err != nil {
			return refuse(err)
		}
	}
	value, err := d.Encode()
	return value, d.End(), err
}

// mayRepeat reports whether a program may get the answer to its last poll again, as it could get that to a refresh.
func (e *deviceExchange) mayRepeat() bool {
	retry := e.req.Client.RefreshToken.Retry
	if e.device.Family == "" && retry == storage.RetryUntilUsed { // nothing shows that the answer was used
		retry = repeatWithoutFamily
	}
	return retry == storage.RetryUntilUsed || e.req.Now.Sub(e.device.Redeemed) < retry
}

const repeatWithoutFamily = time.Minute

// replayed returns the refusal of a code that was used and is presented again.
func (e *deviceExchange) replayed() error {
	refusal := errBadDeviceCode.because("already used")
	if e.device.Family != "" {
		key := storage.Key{Kind: storage.KindFamily, ID: e.device.Family}
		refusal = replayed(e.device.NewFamily(), key, ReplayedDeviceCode, errBadDeviceCode)
	}
	return refusal.Explain("a device code that was used at "+formatTime(e.device.Redeemed), "one answer with tokens for each device code",
		"client "+e.req.Client.ID+": refresh_token retry").about(e.device.Family, e.device.Approval.Subject)
}

// startFamily is a change that writes the family, unless it is there. A family that was revoked stays so, and one whose refresh token was
// used shows that the answer was not lost.
func (e *deviceExchange) startFamily(record []byte) ([]byte, time.Time, error) {
	req := e.req
	refuse := func(err error) ([]byte, time.Time, error) { return nil, time.Time{}, err }
	if record != nil {
		f, err := storage.DecodeFamily(record)
		switch {
		case err != nil:
			return refuse(err)
		case !f.Revoked.IsZero():
			ended := errBadDeviceCode.about(e.family.ID, f.Subject)
			ended.Cause = &AlreadyRevoked{Family: e.family.ID, Revoked: f.Revoked, Reason: f.Reason}
			return refuse(ended)
		case !f.Bound.ProvenBy(req.Proven):
			return refuse(refuseOtherKey(errBadDeviceCode, req, f.Bound).about(e.family.ID, f.Subject))
		case f.Refreshed():
			return refuse(e.replayed())
		}
		return refuse(storage.ErrKeep)
	}
	f := e.device.NewFamily()
	f.Authenticated = req.Authenticated && req.Client.Public()
	bind(f, req)
	f.Resume(e.refreshToken)
	value, err := f.Encode()
	return value, f.Expires(req.Now, req.Client.RefreshToken.Idle), err
}

// polls remembers when programs last polled this node. It is bounded, and forgetting a poll does no harm.
type polls struct {
	mu   sync.Mutex
	last map[string]time.Time // by the ID of the Device
}

const (
	maxPolls = 10_000

	// jitter is how much too early a poll may arrive: network delay varies from one request to the next.
	jitter = time.Second
)

// early notes a poll, and reports whether it came before the interval was over.
func (p *polls) early(id string, interval time.Duration, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, known := p.last[id]
	if p.last == nil {
		p.last = make(map[string]time.Time)
	}
	if !known && len(p.last) >= maxPolls {
		for other := range p.last {
			delete(p.last, other)
			break
		}
	}
	p.last[id] = now
	return known && now.Sub(last) < interval-jitter
}
