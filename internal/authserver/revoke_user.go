package authserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// revokeUserEndpoint is the global token revocation endpoint (draft-parecki-oauth-global-token-revocation-05): an identity provider says
// that everything a user has given to clients ends now. It does what the owner does with [Revoker.Revoke] for a user.
type revokeUserEndpoint struct{ *core }

// maxRevokeUser is the size of a body, with a client assertion beside the identifier.
const maxRevokeUser = 16 << 10

// revokeUserRequest is the body of a request. A JSON body has no form parameters, so that those of client authentication are members.
type revokeUserRequest struct {
	SubjectID *subjectID `json:"sub_id"`

	ClientID            string `json:"client_id"`
	ClientAssertion     string `json:"client_assertion"`
	ClientAssertionType string `json:"client_assertion_type"`
}

// subjectID is a subject identifier (RFC 9493 §3), with the members of the formats that can name a user here.
type subjectID struct {
	Format  string `json:"format"`
	ID      string `json:"id"`  // opaque
	Issuer  string `json:"iss"` // iss_sub
	Subject string `json:"sub"`
	Email   string `json:"email"`
}

// serve answers with 204 also if nobody has a token: only the site knows who has an account, and a request may be repeated (§3.4).
func (e *revokeUserEndpoint) serve(c *call) error {
	req, err := e.read(c)
	if err != nil {
		return err
	}
	form := make(url.Values)
	for name, value := range map[string]string{
		"client_id": req.ClientID, "client_assertion": req.ClientAssertion, "client_assertion_type": req.ClientAssertionType,
	} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if err := e.authenticate(c, form); err != nil {
		return err
	}
	c.setDeadline(e.config.StoreTimeout)
	setting := "client " + c.client.ID + ": revokes_users"
	if !c.authenticated() || c.client.RevokesUsers == nil {
		return (&grants.Error{
			Code: grants.UnauthorizedClient, Description: "the client may not revoke the tokens of users", Status: http.StatusForbidden,
		}).Explain("a request to revoke all tokens of a user", "a client that authenticates and may do so", setting)
	}
	user, err := e.userOf(c.client, req.SubjectID)
	if err != nil {
		return asRefusal(err).Explain("", "", setting)
	}
	if err := e.checkSubject(c.ctx, user); err != nil {
		if refusal, ok := errors.AsType[*grants.Error](err); ok { // no token has this ID as that of a user
			nobody := errNoUser.Explain("an ID that no user can have", "a user ID", setting)
			nobody.Cause = refusal.Cause
			return nobody
		}
		return err
	}
	c.subject = user
	if err := e.revoker.Revoke(c.ctx, user, "", "revoked by client "+c.client.ID, c.peer.Address); err != nil {
		return err
	}
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (e *revokeUserEndpoint) read(c *call) (*revokeUserRequest, error) {
	if sent := c.r.Header.Get("Content-Type"); !wire.IsJSON(sent) {
		return nil, (&grants.Error{
			Code: grants.InvalidRequest, Description: "the body must be application/json", Status: http.StatusUnsupportedMediaType,
		}).Explain(sent, "application/json", "")
	}
	body, err := wire.ReadBody(c.w, c.r, maxRevokeUser)
	if err != nil {
		return nil, err
	}
	req := new(revokeUserRequest)
	if err := json.Unmarshal(body, req); err != nil {
		return nil, grants.Refuse(grants.InvalidRequest, "the body is not the JSON of a revocation request").
			Explain("", `{"sub_id": {"format": …}}`, "")
	}
	return req, nil
}

var (
	errBadIdentifier = grants.Refuse(grants.InvalidRequest, "sub_id is not a subject identifier that this client can use")
	errNoUser        = &grants.Error{Code: grants.InvalidRequest, Description: "no user here has this identifier", Status: http.StatusNotFound}
)

// userOf returns the ID of the user whom an identifier names. What the owner has not said names nobody.
func (e *revokeUserEndpoint) userOf(client *storage.Client, id *subjectID) (string, error) {
	if id == nil {
		return "", errBadIdentifier.Explain("no sub_id", "sub_id", "")
	}
	user, rules := "", client.RevokesUsers
	switch own := id.Issuer == e.config.URL; {
	case id.Format == "opaque": // RFC 9493 §3.2.4
		user = id.ID
	case id.Format == "iss_sub" && own && isPairwise(client):
		return "", errBadIdentifier.Explain("iss_sub of this issuer, where the client has subjects of its own", "opaque with the user ID", "")
	case id.Format == "iss_sub" && (own || slices.Contains(rules.Issuers, id.Issuer)): // §3.2.3
		user = id.Subject
	case id.Format == "iss_sub" && id.Issuer != "":
		return "", errNoUser.Explain("iss "+id.Issuer, list(append([]string{e.config.URL}, rules.Issuers...)), "")
	case id.Format == "email" && rules.Email: // §3.2.2
		user = id.Email
	case id.Format == "email":
		return "", errBadIdentifier.Explain("format email", "email among the settings, if the e-mail address is the user ID", "")
	case id.Format != "iss_sub":
		return "", errBadIdentifier.Explain("format "+id.Format, "opaque, iss_sub or email", "")
	}
	if user == "" {
		return "", errBadIdentifier.Explain("format "+id.Format+" without its members", "opaque with id, iss_sub with iss and sub, email with email", "")
	}
	return user, nil
}

// anyRevokesUsers reports whether a client of the configuration may revoke all tokens of a user.
func (s *core) anyRevokesUsers() bool {
	for _, client := range s.config.Clients {
		if client.RevokesUsers != nil {
			return true
		}
	}
	return false
}
