package authserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// checkSubject checks that a user's ID can be the subject of a token.
func (s *core) checkSubject(ctx context.Context, subject string) error {
	forbid := func(cause string) error {
		return &grants.Error{
			Code: grants.AccessDenied, Description: "this account cannot be used with apps",
			Status: http.StatusForbidden, Cause: errors.New(cause),
		}
	}
	if len(subject) > 255 || !utf8.ValidString(subject) || strings.ContainsFunc(subject, unicode.IsControl) {
		return forbid("the user ID is over 255 bytes, not UTF-8 or has control characters")
	}
	// A resource server that identifies users by sub must not mistake a client for a user (RFC 9700 §4.15).
	other, err := s.clients.Find(ctx, subject)
	if err != nil {
		return err
	}
	if other != nil && other.MayUse("client_credentials") {
		return forbid("the user ID is also the ID of a client with client_credentials")
	}
	return nil
}

// checkSubjectFor checks that a user can be the subject of the client's tokens.
func checkSubjectFor(client *storage.Client, scopes []string, user string) error {
	switch {
	case user == "":
		return errNoSubject
	case client.Origin != "" && user == client.ID:
		return errClientAsUser
	case client.OpenID != nil && slices.Contains(scopes, grants.OpenID) && !isPairwise(client) && strings.ContainsFunc(user, func(r rune) bool { return r < ' ' || r > '~' }):
		return errNotASCII
	}
	return nil
}

// errNoSubject is the fault of a grant that another module brings: every token has a subject (RFC 9068 §2.2).
var errNoSubject = errors.New("the grant names no subject")

// errClientAsUser refuses a user whose ID is that of a client that nobody added. A token of both says that the client acts for itself, and
// a guard would let it in without a user (RFC 9700 §4.15). Anybody can register a client, and then take its ID as the name of an account.
var errClientAsUser = grants.Refuse(grants.AccessDenied, "this account cannot be used with this app").
	Explain("a user whose ID is the client ID", "another user ID", "user of the oauth directive")

// errNotASCII refuses a user whose ID no ID token can have (OpenID Connect Core §2). Applications store a subject in fields that may
// not hold any other characters, or hold them as those of another user.
var errNotASCII = (&grants.Error{
	Code: grants.AccessDenied, Description: "this account cannot be used to sign in to apps", Status: http.StatusForbidden,
}).Explain("a user whose ID has other characters than ASCII", "a user ID of ASCII, or subject_type pairwise", "user of the oauth directive")
