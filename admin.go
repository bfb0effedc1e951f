package caddyoauth

import (
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
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI is the part of Caddy's admin API that is about the issuers of the running configuration:
//
//	GET    /oauth                                 the issuers
//	GET    /oauth/<issuer>/clients                the clients
//	POST   /oauth/<issuer>/clients                add one
//	GET    /oauth/<issuer>/clients/<id>           a client
//	PATCH  /oauth/<issuer>/clients/<id>           change its settings (RFC 7396)
//	DELETE /oauth/<issuer>/clients/<id>           remove it
//	POST   /oauth/<issuer>/clients/<id>/secret    give it another secret
//	POST   /oauth/<issuer>/clients/<id>/disable   refuse it, and void its tokens
//	POST   /oauth/<issuer>/clients/<id>/enable    end that
//	GET    /oauth/<issuer>/users/<sub>/grants     which clients have access to a user's account
//	POST   /oauth/<issuer>/revoke                 end tokens: of a user, a client, both, a family, or one
//	POST   /oauth/<issuer>/inspect                what an access token is worth
//	GET    /oauth/<issuer>/keys                   the signing keys
//	POST   /oauth/<issuer>/keys/rotate            make one
//	POST   /oauth/<issuer>/keys/<kid>/retire      remove one
//	GET    /oauth/<issuer>/stats                  figures of this node
//	POST   /oauth/<issuer>/export                 all records, private keys among them
//	POST   /oauth/<issuer>/encrypt                write all records anew, with the key of the day
type adminAPI struct {
	mux *http.ServeMux
}

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.oauth",
		New: func() caddy.Module { return new(adminAPI) },
	}
}

// adminMethods are the handlers of a path by method.
type adminMethods map[string]func(*adminRequest) (any, error)

// adminRequest is a request about an issuer.
type adminRequest struct {
	*http.Request

	issuer *Issuer
	server *authserver.Server
}

// Routes implements caddy.AdminRouter.
func (a *adminAPI) Routes() []caddy.AdminRoute {
	a.mux = http.NewServeMux()
	for path, methods := range map[string]adminMethods{
		"/clients":              {http.MethodGet: listClients, http.MethodPost: addClient},
		"/clients/{id}":         {http.MethodGet: showClient, http.MethodPatch: changeClient, http.MethodDelete: deleteClient},
		"/clients/{id}/secret":  {http.MethodPost: newClientSecret},
		"/clients/{id}/disable": {http.MethodPost: disableClient},
		"/clients/{id}/enable":  {http.MethodPost: enableClient},
		"/users/{sub}/grants":   {http.MethodGet: userGrants},
		"/revoke":               {http.MethodPost: revoke},
		"/inspect":              {http.MethodPost: inspect},
		"/keys":                 {http.MethodGet: listKeys},
		"/keys/rotate":          {http.MethodPost: rotateKeys},
		"/keys/{kid}/retire":    {http.MethodPost: retireKey},
		"/stats":                {http.MethodGet: stats},
		"/export":               {http.MethodPost: exportRecords},
		"/encrypt":              {http.MethodPost: encryptRecords},
	} {
		a.mux.Handle("/oauth/{issuer}"+path, methods)
	}
	a.mux.Handle("/oauth/{$}", issuersHandler{})
	a.mux.Handle("/oauth", issuersHandler{})
	handler := caddy.AdminHandlerFunc(a.serve)
	return []caddy.AdminRoute{{Pattern: "/oauth", Handler: handler}, {Pattern: "/oauth/", Handler: handler}}
}

// failingWriter keeps the error of a handler for Caddy, which makes the answer of it.
type failingWriter struct {
	http.ResponseWriter

	err error
}

func (a *adminAPI) serve(w http.ResponseWriter, r *http.Request) error {
	if _, pattern := a.mux.Handler(r); pattern == "" {
		return apiError(http.StatusNotFound, "there is nothing at "+r.URL.Path)
	}
	fw := &failingWriter{ResponseWriter: w}
	a.mux.ServeHTTP(fw, r)
	return fw.err
}

// ServeHTTP answers a request about an issuer.
func (methods adminMethods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.(*failingWriter).err = methods.serve(w, r)
}

func (methods adminMethods) serve(w http.ResponseWriter, r *http.Request) error {
	handle, ok := methods[r.Method]
	if !ok {
		return wrongMethod(w, r, slices.Sorted(maps.Keys(methods))...)
	}
	app, err := activeApp()
	if err != nil {
		return err
	}
	name := r.PathValue("issuer")
	server := app.servers[name]
	if server == nil {
		return apiError(http.StatusNotFound, fmt.Sprintf("there is no issuer %q, expected %s", name, directive.OneOf(slices.Sorted(maps.Keys(app.Issuers)))))
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
	answer, err := handle(&adminRequest{Request: r, issuer: app.Issuers[name], server: server})
	if err != nil {
		return caddy.APIError{HTTPStatus: adminStatus(err), Err: err}
	}
	return writeAdmin(w, answer)
}

const maxAdminBody = 64 << 10

// activeApp returns the app of the configuration that runs, which is not one that was tried and failed.
func activeApp() (*App, error) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil { // Caddy opens its admin API first
		return nil, apiError(http.StatusServiceUnavailable, "no configuration is running yet, try again")
	}
	app, err := ctx.AppIfConfigured("oauth")
	if err != nil {
		return nil, apiError(http.StatusNotFound, "the running configuration has no issuers: "+err.Error())
	}
	return app.(*App), nil
}

// issuersHandler lists the issuers.
type issuersHandler struct{}

func (issuersHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.(*failingWriter).err = listIssuers(w, r)
}

func listIssuers(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return wrongMethod(w, r, http.MethodGet)
	}
	app, err := activeApp()
	if err != nil {
		return err
	}
	list := make([]adminIssuer, 0, len(app.Issuers))
	for _, name := range slices.Sorted(maps.Keys(app.Issuers)) {
		list = append(list, adminIssuer{Name: name, URL: app.Issuers[name].URL})
	}
	return writeAdmin(w, list)
}

type adminIssuer struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

func wrongMethod(w http.ResponseWriter, r *http.Request, allowed ...string) error {
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return apiError(http.StatusMethodNotAllowed, "expected "+directive.OneOf(allowed)+", not "+r.Method)
}

func apiError(status int, message string) caddy.APIError {
	return caddy.APIError{HTTPStatus: status, Err: errors.New(message)}
}

// badRequest is an error that the request is to blame for.
type badRequest struct{ error }

func (e badRequest) Unwrap() error { return e.error }

// adminStatus returns the status for an error.
func adminStatus(err error) int {
	var bad badRequest
	var settings *authserver.ClientError
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &bad), errors.As(err, &settings):
		return http.StatusBadRequest
	case errors.Is(err, authserver.ErrNoClient), errors.Is(err, keyring.ErrNoKey):
		return http.StatusNotFound
	case errors.Is(err, authserver.ErrClientExists), errors.Is(err, authserver.ErrClientConfigured),
		errors.Is(err, authserver.ErrClientPublic), errors.Is(err, keyring.ErrKeysInFile):
		return http.StatusConflict
	case authserver.Unavailable(err), errors.Is(err, storage.ErrReadOnly), errors.Is(err, authserver.ErrStillWriting):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// body reads the JSON of a request; without any, value stays as it is.
func (r *adminRequest) body(value any) error {
	err := decodeStrictly(r.Body, value)
	if err == nil || errors.Is(err, io.EOF) { // which is there before any value only
		return nil
	}
	return badRequest{err}
}

// created is an answer with status 201.
type created struct{ answer any }

// streamed is an answer that writes itself, and tells of its own failures.
type streamed struct {
	contentType string
	write       func(w io.Writer)
}

// writeAdmin writes an answer, which nobody may keep; nil is none.
func writeAdmin(w http.ResponseWriter, answer any) error {
	w.Header().Set("Cache-Control", "no-store")
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if s, ok := answer.(streamed); ok {
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
	_, _ = w.Write(encoded)
	return nil
}

var _ caddy.AdminRouter = (*adminAPI)(nil)
