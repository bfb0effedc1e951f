package authserver

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// redirectTarget is where the response to an authorization request goes. It is known before the rest of the request is
// checked, because refusals go there too.
type redirectTarget struct {
	redirectURI string
	mode        string // response_mode: query or form_post
	state       string
	issuer      string // "" for a client that is set to go without (RFC 9207)
}

// redirectError is a refusal that the browser takes to the client (RFC 6749 §4.1.2.1).
type redirectError struct {
	refusal *grants.Error
	to      redirectTarget
}

func (e *redirectError) Error() string { return e.refusal.Error() }

func (e *redirectError) Unwrap() error { return e.refusal }

// personError is a refusal that only the person may see: it says who they are, or are not, and they have not approved the client.
type personError struct{ refusal *grants.Error }

func (e *personError) Error() string { return e.refusal.Error() }

func (e *personError) Unwrap() error { return e.refusal }

// toClient turns any error into a redirectError, except a personError and 401: the person can sign in and go on.
func toClient(err error, to redirectTarget) error {
	if err == nil {
		return nil
	}
	_, already := errors.AsType[*redirectError](err)
	_, private := errors.AsType[*personError](err)
	if already || private || asRefusal(err).HTTPStatus() == http.StatusUnauthorized {
		return err
	}
	return &redirectError{asRefusal(err), to}
}

// respondCode sends the authorization response (RFC 6749 §4.1.2) to the client. If the redirect URI is out-of-band, it
// shows the code to the person instead.
func (e *authorizeEndpoint) respondCode(c *call, to redirectTarget, code string) error {
	if uris.IsOutOfBand(to.redirectURI) {
		return e.pages.Code(c.w, c.r, pages.CodePage{Client: appOf(c.client).Name, Code: code, State: to.state})
	}
	return e.respond(c, to, [2]string{"code", code})
}

// respond sends a response or a refusal (RFC 6749 §4.1.2.1) to the client, with the state as it came and the issuer
// (RFC 9207 §2), unless the client goes without. It leaves out parameters without a value.
func (e *authorizeEndpoint) respond(c *call, to redirectTarget, params ...[2]string) error {
	params = slices.Concat(params, [][2]string{{"state", to.state}, {"iss", to.issuer}})
	params = slices.DeleteFunc(params, func(p [2]string) bool { return p[1] == "" })
	if to.mode == "form_post" {
		return e.pages.FormPost(c.w, c.r, pages.FormPostPage{URL: to.redirectURI, Params: params})
	}
	redirect(c.w, withParams(to.redirectURI, params))
	return nil
}

// redirect redirects the browser with 303: after other codes it could repeat a POST, body included (RFC 9700 §4.12).
func redirect(w http.ResponseWriter, location string) {
	wire.SetHeaders(w.Header(),
		[2]string{"Location", location},
		[2]string{"Cache-Control", "no-store"},
		[2]string{"Referrer-Policy", "no-referrer"},
		[2]string{"X-Frame-Options", "DENY"}, // RFC 6749 §10.13
		[2]string{"Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"},
	)
	w.WriteHeader(http.StatusSeeOther)
}

// withParams returns a redirect URI with parameters added to its query (RFC 6749 §3.1.2, §4.1.2).
func withParams(redirectURI string, params [][2]string) string {
	separator := "?"
	if strings.Contains(redirectURI, "?") {
		separator = "&"
	}
	for _, p := range params {
		redirectURI += separator + p[0] + "=" + url.QueryEscape(p[1])
		separator = "&"
	}
	return redirectURI
}
