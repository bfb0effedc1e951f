package authserver

import (
	"net/http"
	"net/url"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	deviceLife     = 10 * time.Minute // how long a person may take to decide
	deviceInterval = 5                // the seconds between two polls (RFC 8628 §3.2)
)

// deviceAuthorizationEndpoint is the device authorization endpoint (RFC 8628 §3.1). It gives a program that cannot show a browser a code
// that a person types on another device, see deviceEndpoint, and another code to get tokens with, see grants.DeviceCode.
type deviceAuthorizationEndpoint struct{ *core }

// deviceResponse is the response of RFC 8628 §3.2.
type deviceResponse struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int64  `json:"expires_in"`
	Interval                int    `json:"interval"`
}

// serve authenticates the client as the token endpoint does, and checks what it asks for as the authorization endpoint does.
func (e *deviceAuthorizationEndpoint) serve(c *call) error {
	form, err := wire.ReadForm(c.w, c.r, e.config.Wire.Bodies...)
	if err != nil {
		return err
	}
	if err := e.authenticate(c, form); err != nil {
		return err
	}
	c.setDeadline(e.config.StoreTimeout)
	if !c.client.MayUse(grants.DeviceCodeType) {
		return grants.Refuse(grants.UnauthorizedClient, "the client may not ask for access on other devices").
			Explain(grants.DeviceCodeType, list(c.client.GrantTypes), "client "+c.client.ID+": grant_types")
	}
	now := e.now()
	d := &storage.Device{
		Client: c.client.ID, Address: c.peer.Address, Started: now, Expires: now.Add(deviceLife), Interval: deviceInterval,
	}
	if d.Scopes, d.Audience, err = e.chooseFor(c.client, form); err != nil {
		return err
	}
	response, err := e.start(c, d)
	if err != nil {
		return err
	}
	e.events.record(&Event{Name: eventDeviceStarted, Address: c.peer.Address, Client: c.client.ID, Scopes: d.Scopes})
	return wire.WriteJSON(c.w, http.StatusOK, "application/json", response)
}

// start writes the records, the number of which is limited.
func (e *deviceAuthorizationEndpoint) start(c *call, d *storage.Device) (*deviceResponse, error) {
	count, wait := e.limiter.ReserveDevice(c.client.ID, c.peer.Address, c.isKnown())
	if count == nil {
		refusal := &grants.Error{
			Code: grants.TemporarilyUnavailable, Description: "too many device codes for this address or client, try again later",
			Status: http.StatusTooManyRequests, RetryAfter: wait,
		}
		return nil, refusal.Explain(c.peer.Address, "fewer device codes in that time", "throttle: devices")
	}
	deviceCode, userCode, err := e.write(c, d)
	if err != nil {
		count.Canceled()
		return nil, err
	}
	page := e.origin + e.config.Paths.Device
	return &deviceResponse{
		DeviceCode: deviceCode, UserCode: userCode, VerificationURI: page,
		VerificationURIComplete: page + "?" + url.Values{"user_code": {userCode}}.Encode(),
		ExpiresIn:               int64(deviceLife / time.Second), Interval: d.Interval,
	}, nil
}

// write writes the record of the device code, and then that of a user code that nobody has.
func (e *deviceAuthorizationEndpoint) write(c *call, d *storage.Device) (deviceCode, userCode string, err error) {
	deviceCode, key := d.IssueCode()
	record, err := d.Encode()
	if err == nil {
		err = e.store.Put(c.ctx, key, record, d.End())
	}
	if err != nil {
		return "", "", err
	}
	u := &storage.UserCode{Device: key.ID}
	if record, err = u.Encode(); err != nil {
		return "", "", err
	}
	for taken := true; taken; {
		userCode = storage.NewUserCode()
		letters, _ := storage.ReadUserCode(userCode)
		err := e.store.Update(c.ctx, storage.UserCodeKey(letters, d.End()), func(old []byte) ([]byte, time.Time, error) {
			if taken = old != nil; taken {
				return nil, time.Time{}, storage.ErrKeep
			}
			return record, d.End(), nil
		})
		if err != nil {
			return "", "", err
		}
	}
	return deviceCode, userCode, nil
}
