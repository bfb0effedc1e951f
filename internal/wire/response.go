package wire

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// TokenResponse is the response to a successful token request (RFC 6749 §5.1). Each field is a member of it, which is left out if the field
// has its zero value, except a scope that the owner names in ResponseShape.Members.
type TokenResponse struct {
	AccessToken  string
	TokenType    string
	ExpiresIn    int64 // seconds
	RefreshToken string
	Scope        string
	IDToken      string // OpenID Connect Core §3.1.3.3

	IssuedTokenType string // RFC 8693 §2.2.1

	// In seconds, 0 for no end: how long the client may keep the refresh token unused, and how long the user's approval lasts
	// (draft-ietf-oauth-refresh-token-expiration).
	RefreshTokenTimeout    int64
	AuthorizationExpiresIn int64
}

// TypeDPoP is the token_type of an access token that is bound to a key (RFC 9449 §5).
const TypeDPoP = "DPoP"

// ResponseMembers are the members of a TokenResponse, in their usual order.
var ResponseMembers = []string{
	"access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token", "issued_token_type",
	"refresh_token_timeout", "authorization_expires_in",
}

// ResponseShape is where token responses differ from RFC 6749.
type ResponseShape struct {
	TokenType   string   // replaces "Bearer", and nothing else
	Members     []string // the members, in this order; none means ResponseMembers
	ExpiresText bool     // expires_in is a string
	ContentType string   // replaces "application/json"
}

// Write writes a token response in the shape.
func (s *ResponseShape) Write(w http.ResponseWriter, response *TokenResponse) error {
	object := NewObject()
	defer object.Release()
	members := s.Members
	if len(members) == 0 {
		members = ResponseMembers
	}
	for _, name := range members {
		s.writeMember(&object, name, response)
	}
	body, err := object.Bytes()
	if err != nil {
		return err
	}
	WriteBody(w, http.StatusOK, cmp.Or(s.ContentType, "application/json"), body)
	return nil
}

func (s *ResponseShape) writeMember(object *Object, name string, r *TokenResponse) {
	switch name {
	case "access_token":
		object.Text(name, r.AccessToken)
	case "token_type":
		if r.TokenType != TypeDPoP {
			object.Text(name, cmp.Or(s.TokenType, r.TokenType))
		} else {
			object.Text(name, r.TokenType)
		}
	case "expires_in":
		if s.ExpiresText {
			object.Text(name, strconv.FormatInt(r.ExpiresIn, 10))
		} else {
			object.Number(name, r.ExpiresIn)
		}
	case "refresh_token":
		object.Text(name, r.RefreshToken)
	case "scope":
		if r.Scope == "" && len(s.Members) > 0 { // An owner who names this member wants it in every response, empty or not.
			object.Value(name, r.Scope)
		} else {
			object.Text(name, r.Scope)
		}
	case "id_token":
		object.Text(name, r.IDToken)
	case "issued_token_type":
		object.Text(name, r.IssuedTokenType)
	case "refresh_token_timeout":
		object.Number(name, r.RefreshTokenTimeout)
	case "authorization_expires_in":
		object.Number(name, r.AuthorizationExpiresIn)
	}
}

// ErrorShape is where errors differ from RFC 6749 §5.2.
type ErrorShape struct {
	Problem           bool   // problem details (RFC 9457)
	DocumentationURL  string // linked from a problem
	DocumentationType string // its media type
	Texts             map[string]ErrorText
	IDHeader          bool // the error ID is in a header instead of the body
}

// ErrorText replaces the code, description and status of an error. In ErrorShape.Texts, its key is a situation
// (grants.Error.Situation) or an error code; the situation wins.
type ErrorText struct {
	Code        string
	Description string
	Status      int // 0 keeps the status
}

// Challenge returns the WWW-Authenticate header of a 401 for a client. One that tried Basic is asked for it again (RFC 6749
// §5.2). For others, browsers must not open a dialog for a password, but a 401 has a challenge (RFC 9110 §11.6.1): it is for a
// scheme that no browser knows.
func Challenge(r *http.Request, realm string) string {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Basic") {
		return "Basic realm=" + strconv.Quote(realm) + `, charset="UTF-8"`
	}
	return "OAuth-Client realm=" + strconv.Quote(realm)
}

// Write writes an error in the shape. The challenge is for errors with status 401, see Challenge.
func (s *ErrorShape) Write(w http.ResponseWriter, refusal *grants.Error, id, challenge string) error {
	status := refusal.HTTPStatus()
	code, description := refusal.Code, refusal.Description
	text, ok := s.Texts[refusal.Situation]
	if !ok {
		text, ok = s.Texts[refusal.Code]
	}
	if ok {
		code, description = text.Code, text.Description
		status = cmp.Or(text.Status, status)
	}

	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	// Another status can make an error retryable, but not the other way round.
	if retryable(status) || retryable(refusal.HTTPStatus()) {
		setRetryAfter(w.Header(), refusal)
	}
	if s.IDHeader && id != "" {
		w.Header().Set("Error-Id", id)
		id = ""
	}
	if s.Problem {
		return WriteJSON(w, status, "application/problem+json", s.problem(status, description, id))
	}
	return WriteJSON(w, status, "application/json", struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
		ID          string `json:"error_id,omitempty"`
	}{code, description, id})
}

// problemDetails is a problem (RFC 9457 §3.1).
type problemDetails struct {
	Status int           `json:"status"`
	Title  string        `json:"title"`
	Detail string        `json:"detail"`
	ID     string        `json:"error_id,omitempty"`
	Links  *problemLinks `json:"_links,omitempty"`
}

type problemLinks struct {
	Documentation link `json:"documentation"`
}

type link struct {
	HRef string `json:"href"`
	Type string `json:"type,omitempty"`
}

func (s *ErrorShape) problem(status int, detail, id string) problemDetails {
	p := problemDetails{Status: status, Title: http.StatusText(status), Detail: detail, ID: id}
	if s.DocumentationURL != "" {
		p.Links = &problemLinks{link{s.DocumentationURL, s.DocumentationType}}
	}
	return p
}

// DefaultRetryAfter is when a client should repeat a request that failed here, unless the error says otherwise.
const DefaultRetryAfter = 2 * time.Second

// SetRetryAfterOf sets Retry-After for an error after which the same request can succeed.
func SetRetryAfterOf(h http.Header, refusal *grants.Error) {
	if retryable(refusal.HTTPStatus()) {
		setRetryAfter(h, refusal)
	}
}

// retryable reports whether the same request can succeed later (RFC 9110 §10.2.3, RFC 6585 §4).
func retryable(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

func setRetryAfter(h http.Header, refusal *grants.Error) {
	SetRetryAfter(h, cmp.Or(refusal.RetryAfter, DefaultRetryAfter))
}

// SetRetryAfter sets Retry-After in whole seconds, rounded up.
func SetRetryAfter(h http.Header, after time.Duration) {
	seconds := max(1, int((after+time.Second-1)/time.Second))
	h.Set("Retry-After", strconv.Itoa(seconds))
}

// WriteJSON writes a response that must not be cached (RFC 6749 §5.1).
func WriteJSON(w http.ResponseWriter, status int, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	WriteBody(w, status, contentType, body)
	return nil
}

// WriteBody is WriteJSON for a body that is encoded already.
func WriteBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	SetHeaders(w.Header(),
		[2]string{"Content-Type", contentType},
		[2]string{"Content-Length", strconv.Itoa(len(body))},
		[2]string{"Cache-Control", "no-store"},
		[2]string{"Pragma", "no-cache"},
	)
	w.WriteHeader(status)
	// An error means that the client is gone, and nobody else is waiting.
	_, _ = w.Write(body)
}

// SetHeaders sets headers, given by their canonical names, with one slice for all values.
func SetHeaders(h http.Header, headers ...[2]string) {
	values := make([]string, len(headers))
	for i, header := range headers {
		values[i] = header[1]
		h[header[0]] = values[i : i+1 : i+1]
	}
}

// ServeDocument serves a public JSON document, which caches may keep for maxAge.
func ServeDocument(w http.ResponseWriter, r *http.Request, body []byte, maxAge time.Duration) {
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(maxAge.Seconds())))
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}
