// Package adminapi is the part of Caddy's admin API that is about the issuers of the running configuration. `caddy oauth …`
// (package cli) is its client.
//
// Start reading at api.Routes, which lists what is where. An App gives the API its issuers, so that this package does not
// know the configuration.
package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(new(api))
}

// App is the Caddy app `oauth`, as far as this API needs it.
type App interface {
	// AdminIssuers returns the issuers of the app, by their names.
	AdminIssuers() map[string]*Issuer

	// Trail returns the last failures of this process.
	Trail() *trail.Trail
}

// Issuer is an issuer of the running configuration.
type Issuer struct {
	URL      string
	ReadOnly bool
	Server   *authserver.Server

	// Clients returns the clients of the configuration, by their IDs.
	Clients func() map[string]Client

	// ParseSettings reads the settings of a client that is not in the configuration, as strictly as those of one that is. A public
	// client has no secret.
	ParseSettings func(settings json.RawMessage, public bool) (ClientSettings, error)
}

// ClientSettings are the settings of a client in the form that they have in Caddy's JSON configuration.
type ClientSettings struct {
	Stored json.RawMessage // as the store keeps them
	Shown  json.RawMessage // with the grant types that the client has by default

	HasKeys bool // the client authenticates with keys or a certificate
}

// api implements the endpoints:
//
//	GET    /oauth                                 the issuers
//	GET    /oauth/@all/failures                   the last failures of all issuers and guards, newest first
//	GET    /oauth/@all/failures/<id>              the failure with an error ID
//	GET    /oauth/@all/watch                      each request from now on, a line of JSON for each, until the configuration changes
//	GET    /oauth/<issuer>/clients                the clients
//	POST   /oauth/<issuer>/clients                add one
//	GET    /oauth/<issuer>/clients/<id>           a client
//	PATCH  /oauth/<issuer>/clients/<id>           change its settings (RFC 7396)
//	DELETE /oauth/<issuer>/clients/<id>           remove it
//	POST   /oauth/<issuer>/clients/<id>/secret    give it another secret
//	POST   /oauth/<issuer>/clients/<id>/disable   refuse it, and void its tokens
//	POST   /oauth/<issuer>/clients/<id>/enable    end that
//	GET    /oauth/<issuer>/described              the clients that describe themselves, and which hosts are blocked
//	POST   /oauth/<issuer>/block                  refuse such a client, or all with a redirect host, and void their tokens
//	POST   /oauth/<issuer>/unblock                end that
//	GET    /oauth/<issuer>/users/<sub>/grants     which clients have access to a user's account
//	GET    /oauth/<issuer>/users/<sub>/sessions   where a user has signed in with OpenID Connect
//	POST   /oauth/<issuer>/sessions/<sid>         end a session of the site: sign its user out of all clients
//	POST   /oauth/<issuer>/revoke                 revoke tokens: of a user, a client, both, a family, or one
//	POST   /oauth/<issuer>/inspect                whether an access token is valid, and its claims
//	GET    /oauth/<issuer>/keys                   the signing keys
//	POST   /oauth/<issuer>/keys/rotate            make one
//	POST   /oauth/<issuer>/keys/<kid>/retire      remove one
//	GET    /oauth/<issuer>/stats                  figures of this node
//	POST   /oauth/<issuer>/export                 all records, private keys among them
//	POST   /oauth/<issuer>/encrypt                encrypt all records with the current key
type api struct {
	mux *http.ServeMux
}

// CaddyModule returns the Caddy module information.
func (*api) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.oauth",
		New: func() caddy.Module { return new(api) },
	}
}

// Routes implements caddy.AdminRouter.
func (a *api) Routes() []caddy.AdminRoute {
	a.mux = http.NewServeMux()
	for path, handlers := range map[string]methods{
		"/clients":              {http.MethodGet: listClients, http.MethodPost: addClient},
		"/clients/{id}":         {http.MethodGet: showClient, http.MethodPatch: changeClient, http.MethodDelete: deleteClient},
		"/clients/{id}/secret":  {http.MethodPost: newClientSecret},
		"/clients/{id}/disable": {http.MethodPost: disableClient},
		"/clients/{id}/enable":  {http.MethodPost: enableClient},
		"/described":            {http.MethodGet: listDescribed},
		"/block":                {http.MethodPost: block},
		"/unblock":              {http.MethodPost: unblock},
		"/users/{sub}/grants":   {http.MethodGet: userGrants},
		"/users/{sub}/sessions": {http.MethodGet: userSessions},
		"/sessions/{sid}":       {http.MethodPost: endSession},
		"/revoke":               {http.MethodPost: revoke},
		"/inspect":              {http.MethodPost: inspect},
		"/keys":                 {http.MethodGet: listKeys},
		"/keys/rotate":          {http.MethodPost: rotateKeys},
		"/keys/{kid}/retire":    {http.MethodPost: retireKey},
		"/stats":                {http.MethodGet: stats},
		"/export":               {http.MethodPost: exportRecords},
		"/encrypt":              {http.MethodPost: encryptRecords},
	} {
		a.mux.Handle("/oauth/{issuer}"+path, handlers)
	}
	// The name of an issuer does not begin with @.
	a.mux.Handle("/oauth/@all/failures", processHandler(listFailures))
	a.mux.Handle("/oauth/@all/failures/{id}", processHandler(showFailure))
	a.mux.Handle("/oauth/@all/watch", processHandler(watch))
	a.mux.Handle("/oauth/{$}", processHandler(listIssuers))
	a.mux.Handle("/oauth", processHandler(listIssuers))
	handler := caddy.AdminHandlerFunc(a.serve)
	return []caddy.AdminRoute{{Pattern: "/oauth", Handler: handler}, {Pattern: "/oauth/", Handler: handler}}
}

// errorWriter keeps the error of a handler for Caddy, which writes the response to it.
type errorWriter struct {
	http.ResponseWriter

	err error
}

// Unwrap is for http.ResponseController.
func (w *errorWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (a *api) serve(w http.ResponseWriter, r *http.Request) error {
	if _, pattern := a.mux.Handler(r); pattern == "" {
		return apiError(http.StatusNotFound, "there is nothing at "+r.URL.Path)
	}
	ew := &errorWriter{ResponseWriter: w}
	a.mux.ServeHTTP(ew, r)
	return ew.err
}

// methods are the handlers of a path by method.
type methods map[string]func(*request) (any, error)

// request is a request about an issuer.
type request struct {
	*http.Request

	issuer *Issuer
	server *authserver.Server
	owner  authserver.Owner
}

// ServeHTTP answers a request about an issuer.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.(*errorWriter).err = m.serve(w, r)
}

func (m methods) serve(w http.ResponseWriter, r *http.Request) error {
	handle, ok := m[r.Method]
	if !ok {
		return wrongMethod(w, r, slices.Sorted(maps.Keys(m))...)
	}
	app, err := activeApp()
	if err != nil {
		return err
	}
	issuers := app.AdminIssuers()
	name := r.PathValue("issuer")
	issuer := issuers[name]
	if issuer == nil {
		return apiError(http.StatusNotFound, fmt.Sprintf("there is no issuer %q, expected %s", name, directive.OneOf(slices.Sorted(maps.Keys(issuers)))))
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	answer, err := handle(&request{Request: r, issuer: issuer, server: issuer.Server, owner: issuer.Server.Owner()})
	if err != nil {
		return caddy.APIError{HTTPStatus: status(err), Err: err}
	}
	return write(w, answer)
}

const maxBody = 64 << 10

// activeApp returns the app of the configuration that runs, and not of one that failed to load.
func activeApp() (App, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil { // Caddy opens its admin API before it runs a configuration.
		return nil, apiError(http.StatusServiceUnavailable, "no configuration is running yet, try again")
	}
	app, err := ctx.AppIfConfigured("oauth")
	if err != nil {
		return nil, apiError(http.StatusNotFound, "the running configuration has no issuers: "+err.Error())
	}
	return app.(App), nil
}

// processHandler answers a GET that is not about one issuer.
type processHandler func(app App, r *http.Request) (any, error)

func (h processHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.(*errorWriter).err = h.serve(w, r)
}

func (h processHandler) serve(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return wrongMethod(w, r, http.MethodGet)
	}
	app, err := activeApp()
	if err != nil {
		return err
	}
	answer, err := h(app, r)
	if err != nil {
		return err
	}
	return write(w, answer)
}

// NamedIssuer is an issuer in the list of issuers.
type NamedIssuer struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

func listIssuers(app App, _ *http.Request) (any, error) {
	issuers := app.AdminIssuers()
	list := make([]NamedIssuer, 0, len(issuers))
	for _, name := range slices.Sorted(maps.Keys(issuers)) {
		list = append(list, NamedIssuer{Name: name, URL: issuers[name].URL})
	}
	return list, nil
}

// maxFailures is how many failures a list of them has at most.
const maxFailures = 100

func listFailures(app App, _ *http.Request) (any, error) { return app.Trail().Last(maxFailures), nil }

func showFailure(app App, r *http.Request) (any, error) {
	failure, ok := app.Trail().Find(r.PathValue("id"))
	if !ok {
		return nil, apiError(http.StatusNotFound, fmt.Sprintf("no error with the ID %q among the last ones of this process; the log may have it",
			r.PathValue("id")))
	}
	return failure, nil
}

// watch streams each request until the client disconnects or the configuration changes. It must end with the configuration, since
// Caddy waits for open requests when it stops.
func watch(app App, r *http.Request) (any, error) {
	configuration := caddy.ActiveContext()
	return stream{"application/jsonl", func(w io.Writer) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(configuration, cancel)()
		flush := http.NewResponseController(w.(http.ResponseWriter)).Flush
		steps, lines := app.Trail().Watch(ctx), json.NewEncoder(w)
		_ = flush() // so that the client knows that it has begun; if it has gone, ctx ends
		for step := range steps {
			if errors.Join(lines.Encode(step), flush()) != nil {
				return
			}
		}
	}}, nil
}

func wrongMethod(w http.ResponseWriter, r *http.Request, allowed ...string) error {
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return apiError(http.StatusMethodNotAllowed, "expected "+directive.OneOf(allowed)+", not "+r.Method)
}

func apiError(status int, message string) caddy.APIError {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}

// badRequest is an error in the request.
type badRequest struct{ error }

func (e badRequest) Unwrap() error { return e.error }

// status returns the HTTP status for an error.
func status(err error) int {
	var bad badRequest
	var settings *clients.SettingsError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &bad), errors.As(err, &settings):
		return http.StatusBadRequest
	case errors.Is(err, clients.ErrNotFound), errors.Is(err, keyring.ErrNoKey):
		return http.StatusNotFound
	case errors.Is(err, clients.ErrExists), errors.Is(err, clients.ErrConfigured), errors.Is(err, clients.ErrOwned),
		errors.Is(err, clients.ErrPublic), errors.Is(err, keyring.ErrKeysInFile), errors.Is(err, authserver.ErrNoEncryption):
		return http.StatusConflict
	case bounded.IsStoreFailure(err), errors.Is(err, storage.ErrReadOnly), errors.Is(err, authserver.ErrStillWriting):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// body reads the JSON of a request. Without any, value stays as it is.
func (r *request) body(value any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(value); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return badRequest{fmt.Errorf("expected JSON: %w", err)}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest{errors.New("expected JSON: there is more than one value")}
	}
	return nil
}

// created is an answer with status 201.
type created struct{ answer any }

// stream is an answer that writes itself, and reports its own failures.
type stream struct {
	contentType string
	write       func(w io.Writer)
}

// write writes an answer; nil is an empty one. Nobody may cache it.
func write(w http.ResponseWriter, answer any) error {
	w.Header().Set("Cache-Control", "no-store")
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if s, ok := answer.(stream); ok {
		w.Header().Set("Content-Type", s.contentType)
		s.write(w)
		return nil
	}
	status := http.StatusOK
	if c, ok := answer.(created); ok {
		status, answer = http.StatusCreated, c.answer
	}
	encoded, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(encoded, '\n'))
	return nil
}

var _ caddy.AdminRouter = (*api)(nil)
