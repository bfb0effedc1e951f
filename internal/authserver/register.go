package authserver

import (
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// newRegistrations returns the clients that have registered themselves, nil if they cannot.
func (s *core) newRegistrations() *registration.Registrations {
	if s.config.Registration == nil {
		return nil
	}
	config := s.config.Registration.Clients
	config.Issuer, config.Store, config.Logger, config.Now = s.config.Name, s.store, s.log, s.now
	return registration.New(config)
}

// registerEndpoint is the client registration endpoint (RFC 7591 §3). A client with a secret can read, change and delete its
// registration at the same path, with its client_id in the query (RFC 7592 §2).
type registerEndpoint struct{ *core }

var registerMethods = []string{http.MethodPost, http.MethodGet, http.MethodPut, http.MethodDelete}

// maxMetadata is the size limit of a registration, in bytes.
const maxMetadata = 8 << 10

func (e *registerEndpoint) serve(c *call) error {
	c.w.Header().Set("Cache-Control", "no-store")
	if c.r.Method == http.MethodPost {
		return e.register(c)
	}
	return e.manage(c)
}

// register registers a client.
func (e *registerEndpoint) register(c *call) error {
	token, err := e.initialToken(c)
	if err != nil {
		return err
	}
	asked, err := e.read(c)
	if err != nil {
		return err
	}
	if err := e.checkSector(c, asked); err != nil {
		return err
	}
	c.setDeadline(e.config.StoreTimeout)
	admitted := func() error {
		return e.admit(c)
	}
	registered, err := e.registrations.Register(c.ctx, asked, token, admitted)
	if err != nil {
		return registrationRefusal(err, asked)
	}
	switch found, err := e.clients.Find(c.ctx, registered.ID); {
	case err != nil:
		return err
	case found == nil:
		return grants.Refuse(registration.InvalidClientMetadata, "this client cannot be registered here").
			Explain(registered.ID, "a client that is not blocked", "caddy oauth clients unblock")
	}
	c.client = registered.Client
	if registered.New {
		e.events.record(&Event{Name: eventClientRegistered, Client: registered.ID, Address: c.peer.Address})
		e.log.Info("client has registered itself", zap.String("issuer", e.config.Name), zap.String("client_id", registered.ID),
			zap.String("client_ip", c.peer.Address), zap.String("name", registered.Metadata.ClientName),
			zap.Strings("redirect_uris", registered.Metadata.RedirectURIs))
	}
	return e.answer(c, http.StatusCreated, registered)
}

// initialToken returns the initial access token of a request, nil if none is needed.
func (e *registerEndpoint) initialToken(c *call) (found *registration.InitialToken, err error) {
	tokens := e.config.Registration.Tokens
	if len(tokens) == 0 {
		return nil, nil //nolint:nilnil // everybody can register
	}
	hash := clients.HashSecret(bearerToken(c.r))
	for n := range tokens {
		if subtle.ConstantTimeCompare([]byte(tokens[n].Hash), []byte(hash)) == 1 {
			found = &tokens[n]
		}
	}
	switch {
	case found == nil:
		return nil, errRegistrationToken.Explain("", "one of the tokens as Authorization: Bearer", "dynamic: token")
	case !found.Until.IsZero() && !e.now().Before(found.Until):
		return nil, errInitialTokenEnded.Explain("a token that ended at "+found.Until.UTC().Format(time.RFC3339), "one that has not ended", "dynamic: token: until")
	}
	return found, nil
}

// admit counts something that an address can do ten times a minute.
func (e *registerEndpoint) admit(c *call) error {
	if attempt, wait := e.limiter.ReserveRegistration(c.peer.Address); attempt == nil {
		return &grants.Error{
			Code: grants.TemporarilyUnavailable, Description: "too many registrations from this address, try again later",
			Status: http.StatusTooManyRequests, RetryAfter: wait, Sent: c.peer.Address, Expected: "10 new clients a minute",
		}
	}
	return nil
}

// checkSector fetches the document at the sector_identifier_uri of a registration, which must list the redirect URIs (OpenID Connect
// Registration §5).
func (e *registerEndpoint) checkSector(c *call, asked *registration.Metadata) error {
	if e.config.Registration.Sector == nil || asked.SectorIdentifierURI == "" {
		return nil
	}
	if err := asked.Check(); err != nil {
		return registrationRefusal(err, asked)
	}
	if err := e.admit(c); err != nil { // nobody makes this server ask others as often as they like
		return err
	}
	document, err := e.config.Registration.Sector(c.r.Context(), asked.SectorIdentifierURI)
	if err != nil { // the log has the cause: it says what this server can reach
		return grants.Refuse(registration.InvalidClientMetadata, "sector_identifier_uri: the document there could not be read").
			Explain(asked.SectorIdentifierURI, err.Error(), "openid: dynamic")
	}
	if err := asked.CheckSector(document); err != nil {
		return registrationRefusal(err, asked)
	}
	return nil
}

// read reads the metadata in the body.
func (e *registerEndpoint) read(c *call) (*registration.Metadata, error) {
	body, err := wire.ReadJSON(c.w, c.r, maxMetadata)
	if refusal, ok := errors.AsType[*grants.Error](err); ok && refusal.Code == grants.InvalidRequest {
		refused := *refusal
		refused.Code = registration.InvalidClientMetadata
		return nil, &refused
	}
	if err != nil {
		return nil, err
	}
	asked, err := registration.Parse(body)
	if err != nil {
		return nil, registrationRefusal(err, asked)
	}
	return asked, nil
}

// manage is for the client itself, which has the registration access token.
func (e *registerEndpoint) manage(c *call) error {
	id := c.r.URL.Query().Get("client_id")
	c.setDeadline(e.config.StoreTimeout)
	registered, err := e.registrations.Manage(c.ctx, id, bearerToken(c.r))
	if err != nil {
		return registrationRefusal(err, nil)
	}
	switch found, err := e.clients.Find(c.ctx, id); {
	case err != nil:
		return err
	case found == nil: // the owner has blocked it
		return errRegistrationToken
	}
	c.client = registered.Client
	switch c.r.Method {
	case http.MethodPut:
		return e.change(c, registered)
	case http.MethodDelete:
		return e.remove(c, id)
	}
	return e.answer(c, http.StatusOK, registered)
}

// remove deletes a registration, and voids the tokens of its client. A client that was never used has none, and a revocation is kept
// for long: anybody could fill the store with them.
func (e *registerEndpoint) remove(c *call, id string) error {
	used, err := e.registrations.Delete(c.ctx, id)
	if err != nil {
		return registrationRefusal(err, nil)
	}
	if used {
		if err := e.revoker.Revoke(c.ctx, "", id, "client has deleted its registration", c.peer.Address); err != nil {
			return err
		}
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// change replaces the metadata of a registration.
func (e *registerEndpoint) change(c *call, before *registration.Registered) error {
	asked, err := e.read(c)
	if err != nil {
		return err
	}
	switch {
	case asked.ClientID != before.ID:
		err = &registration.Error{Code: registration.InvalidClientMetadata, Member: "client_id", Problem: "expected that of the registration"}
	case asked.ClientSecret != "" && subtle.ConstantTimeCompare([]byte(asked.ClientSecret), []byte(before.Secret)) != 1:
		err = &registration.Error{Code: registration.InvalidClientMetadata, Member: "client_secret", Problem: "expected that of the registration"}
	}
	if err != nil {
		return registrationRefusal(err, asked)
	}
	if err := e.checkSector(c, asked); err != nil {
		return err
	}
	changed, err := e.registrations.Change(c.ctx, before.ID, asked)
	if err != nil {
		return registrationRefusal(err, asked)
	}
	return e.answer(c, http.StatusOK, changed)
}

// registrationAnswer is what a client gets to know of its registration (RFC 7591 §3.2.1, RFC 7592 §3). The first members hide those
// with the same name in the metadata.
type registrationAnswer struct {
	ClientID  string `json:"client_id"`
	IssuedAt  int64  `json:"client_id_issued_at"`
	Scope     string `json:"scope,omitempty"`
	Secret    string `json:"client_secret,omitempty"`
	ExpiresAt *int64 `json:"client_secret_expires_at,omitempty"`

	AccessToken string `json:"registration_access_token,omitempty"`
	ClientURI   string `json:"registration_client_uri,omitempty"`

	*registration.Metadata
}

func (e *registerEndpoint) answer(c *call, status int, r *registration.Registered) error {
	answer := registrationAnswer{
		ClientID: r.ID, IssuedAt: r.Created.Unix(), Scope: strings.Join(r.Client.Scopes, " "), Metadata: r.Metadata,
	}
	if r.Secret != "" {
		answer.Secret, answer.ExpiresAt = r.Secret, new(int64) // 0 is never
	}
	if r.Token != "" {
		answer.AccessToken = r.Token
		answer.ClientURI = e.origin + e.config.Paths.Register + "?client_id=" + url.QueryEscape(r.ID)
	}
	return wire.WriteJSON(c.w, status, "application/json", answer)
}

// errRegistrationToken is the refusal of a missing or wrong token (RFC 7591 §3, RFC 7592 §2). It also stands for a registration that
// is not there.
var errRegistrationToken = &grants.Error{
	Code: "invalid_token", Description: "the access token for registrations is missing or wrong", Status: http.StatusUnauthorized,
}

// The refusals of initial access tokens that were right once.
var (
	errInitialTokenEnded = &grants.Error{
		Code: "invalid_token", Description: "the access token for registrations has expired", Status: http.StatusUnauthorized,
	}
	errInitialTokenUsed = &grants.Error{
		Code: "invalid_token", Description: "the access token for registrations is used up", Status: http.StatusUnauthorized,
	}
)

// registrationRefusal returns what the client may know of an error. asked is nil if it is about no metadata.
func registrationRefusal(err error, asked *registration.Metadata) error {
	if full, ok := errors.AsType[*registration.FullError](err); ok {
		return &grants.Error{
			Code: grants.TemporarilyUnavailable, Description: "too many clients are registered here, try again later",
			Status: http.StatusTooManyRequests, RetryAfter: full.After, Expected: strconv.Itoa(full.Max), Setting: "dynamic: max",
		}
	}
	if used, ok := errors.AsType[*registration.UsedUpError](err); ok {
		return errInitialTokenUsed.Explain(used.Error(), "at most "+strconv.Itoa(used.Uses), "dynamic: token: uses")
	}
	if refused, ok := errors.AsType[*registration.Error](err); ok {
		refusal := grants.Refuse(refused.Code, describable(refused.Error())).Explain("", refused.Error(), "dynamic")
		if asked != nil && refused.Member == "redirect_uris" {
			refusal.Sent, refusal.Setting = list(asked.RedirectURIs), "dynamic: redirects"
		}
		return refusal
	}
	if errors.Is(err, registration.ErrGone) {
		return errRegistrationToken
	}
	return err
}

// describable returns a text as an error_description can have it (RFC 6749 §5.2).
func describable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, text)
}

// bearerToken returns the Bearer token of a request, "" if it has none.
func bearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
