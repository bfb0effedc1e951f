package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-oauth/caddy-oauth/internal/adminapi"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
)

const (
	revokeHelp = `
Revokes tokens at once, together with the consents they are based on: all tokens
of a user, of a client, or of a user at a client, those of a family (the claim
"family" of an access token), or a single token.

The token is read from standard input, so that it does not appear in the list of
processes or the history of the shell. A refresh token revokes its family.`

	sessionsEndHelp = `
Ends a session of the site, by the ID that the site gives as sid in session: the
tokens that clients got in it, and, at clients with a backchannel_logout_uri,
the sessions of their own. The session of the site itself stays as it is.`

	rotateHelp = `
Makes a new signing key. It is published at once, and signs when every resource
server must have fetched it.

With --now, it signs at once. Resource servers that cache the published keys may
refuse valid tokens until they fetch the keys again.`

	retireHelp = `
Removes a signing key at once. All tokens that it signed become invalid. If it
is the current key, the next one signs from now on, or a new one.

Do this when somebody else may know the private key. Otherwise, the server
retires each key when the last token that it signed has expired.`

	inspectHelp = `
Reads an access token from standard input or the terminal, and shows the header
and the claims of a JWT, without checking its signature. With --issuer, it asks
the issuer whether the token is valid, which also works for opaque tokens.`
)

func revokeFlags(f caddycmd.Flags) {
	f.FlagSet.String("user", "", "The user whose tokens are revoked")
	f.FlagSet.String("client", "", "The client whose tokens are revoked; with --user, only those of the user")
	f.FlagSet.String("family", "", "The family whose tokens are revoked")
	f.FlagSet.Bool("token", false, "Read the token from standard input")
	f.FlagSet.String("reason", "", "The reason, for the log")
}

func rotateFlags(f caddycmd.Flags) {
	f.FlagSet.Bool("now", false, "Sign with the new key at once")
}

func runGrants(c *invocation) error {
	var grants []adminapi.Grant
	if err := c.ask(http.MethodGet, "/users/"+url.PathEscape(c.arg)+"/grants", nil, &grants); err != nil {
		return err
	}
	return c.print(grants, func(w io.Writer) {
		row(w, "CLIENT", "SCOPES", "AUDIENCE", "SINCE", "LAST APPROVED", "LAST USED")
		for _, grant := range grants {
			row(w, grant.ClientID, strings.Join(grant.All(), " "), strings.Join(grant.Audience, " "),
				formatTime(grant.Since), formatTime(grant.Last), formatTime(grant.Used))
		}
	})
}

func runSessionsList(c *invocation) error {
	var signIns []adminapi.SignIn
	if err := c.ask(http.MethodGet, "/users/"+url.PathEscape(c.arg)+"/sessions", nil, &signIns); err != nil {
		return err
	}
	return c.print(signIns, func(w io.Writer) {
		row(w, "CLIENT", "SESSION", "LAST")
		for _, in := range signIns {
			row(w, in.ClientID, in.Session, formatTime(in.Last))
		}
	})
}

func runSessionsEnd(c *invocation) error {
	var answer struct {
		Ended bool `json:"ended"`
	}
	if err := c.ask(http.MethodPost, "/sessions/"+url.PathEscape(c.arg), nil, &answer); err != nil {
		return err
	}
	return c.print(answer, func(w io.Writer) {
		if answer.Ended {
			row(w, "Ended. The clients are being told.")
		} else {
			row(w, "Nothing to end: nobody has signed in to a client in this session.")
		}
	})
}

func runRevoke(c *invocation) error {
	body := make(map[string]string)
	for member, flag := range map[string]string{"sub": "user", "client_id": "client", "family": "family", "reason": "reason"} {
		if value := c.flags.String(flag); value != "" {
			body[member] = value
		}
	}
	if c.flags.Bool("token") {
		token, err := readSecret(c, "Token")
		if err != nil {
			return err
		}
		body["token"] = token
	}
	var revoked struct {
		What string `json:"revoked"`
	}
	if err := c.ask(http.MethodPost, "/revoke", body, &revoked); err != nil {
		return err
	}
	return c.print(revoked, func(w io.Writer) {
		switch revoked.What {
		case authserver.RevokedFamily:
			row(w, "Revoked the family of tokens.")
		case authserver.RevokedToken:
			row(w, "Revoked the access token.")
		case authserver.RevokedNone:
			row(w, "Nothing to revoke: this is not a valid token of the issuer.")
		default:
			row(w, "Revoked all tokens.")
		}
	})
}

func runKeysList(c *invocation) error { return c.keys(http.MethodGet, "/keys", nil) }

func runKeysRotate(c *invocation) error {
	return c.keys(http.MethodPost, "/keys/rotate", map[string]bool{"now": c.flags.Bool("now")})
}

func runKeysRetire(c *invocation) error {
	return c.keys(http.MethodPost, "/keys/"+url.PathEscape(c.arg)+"/retire", nil)
}

// keys sends a request about the keys, and prints the keys as they are afterwards.
func (c *invocation) keys(method, path string, body any) error {
	var keys []keyring.Info
	if err := c.ask(method, path, body, &keys); err != nil {
		return err
	}
	return c.print(keys, func(w io.Writer) {
		row(w, "KID", "ALGORITHM", "STATUS", "CREATED", "SIGNS FROM", "SIGNS UNTIL", "RETIRES")
		for _, key := range keys {
			row(w, key.ID, key.Algorithm, key.Status, formatTime(key.Created), formatTime(key.Signs), formatTime(key.Until), formatTime(key.Expires))
		}
		for _, key := range keys {
			if key.Status == "signing" {
				fmt.Fprintln(w)
				paragraph(w, "", future(&key, keys))
			}
		}
	})
}

// future says what the signing key will do.
func future(key *keyring.Info, all []keyring.Info) string {
	switch {
	case key.Created.IsZero():
		return "The key " + key.ID + " is from jwks_file. It signs until you change that file and reload."
	case key.Until.IsZero():
		return "The key " + key.ID + " signs until you rotate it (caddy oauth keys rotate), as rotate is never."
	}
	successor := "A new key takes over then. It is published before, so that every resource server knows it."
	for _, other := range all {
		if other.Status == "next" && other.Signs.Equal(key.Until) {
			successor = "Then " + other.ID + " takes over, which is published already."
		}
	}
	return "The key " + key.ID + " signs until " + formatTime(key.Until) + ". " + successor + " " + key.ID + " is retired at " +
		formatTime(key.Expires) + ", when every token that it signed has expired."
}

func keyIDs(c *invocation) ([]string, error) {
	var keys []keyring.Info
	err := c.ask(http.MethodGet, "/keys", nil, &keys)
	ids := make([]string, 0, len(keys))
	for _, key := range keys {
		ids = append(ids, key.ID)
	}
	return ids, err
}

func runStats(c *invocation) error {
	var stats authserver.Stats
	if err := c.ask(http.MethodGet, "/stats", nil, &stats); err != nil {
		return err
	}
	return c.print(stats, func(w io.Writer) {
		row(w, "Since", formatTime(stats.Since))
		row(w, "Clients", fmt.Sprintf("%d in the configuration, %d in the store", stats.Configured, stats.Added))
		row(w, "Revocations in force", strconv.Itoa(stats.Cutoffs))
		row(w, "Keys", strconv.Itoa(len(stats.Keys)))
		fmt.Fprintln(w)
		row(w, "ENDPOINT", "GRANT TYPE", "RESULT", "COUNT")
		for _, count := range stats.Requests {
			row(w, count.Endpoint, count.GrantType, count.Result, strconv.FormatInt(count.Count, 10))
		}
	})
}

// tokenReport is the content of a token, and what the issuer says about it.
type tokenReport struct {
	Header map[string]any       `json:"header,omitempty"`
	Claims map[string]any       `json:"claims,omitempty"`
	Issuer *adminapi.Inspection `json:"issuer,omitempty"`
}

func runTokenInspect(c *invocation) error {
	token, err := readSecret(c, "Token")
	if err != nil {
		return err
	}
	var report tokenReport
	asked := c.flags.String("issuer") != ""
	report.Header, report.Claims, err = decodeJWT(token)
	if err != nil && !asked {
		return err
	}
	if asked {
		report.Issuer = new(adminapi.Inspection)
		if err := c.ask(http.MethodPost, "/inspect", map[string]string{"token": token}, report.Issuer); err != nil {
			return err
		}
	}
	return c.print(report, func(w io.Writer) { printReport(w, report) })
}

func printReport(w io.Writer, report tokenReport) {
	claims := report.Claims
	for _, name := range slices.Sorted(maps.Keys(report.Header)) {
		row(w, "header "+name, jwt.ClaimText(report.Header[name]))
	}
	if claims == nil && report.Issuer != nil {
		claims = report.Issuer.Claims
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		row(w, name, jwt.ClaimText(claims[name])+when(name, claims[name]))
	}
	switch {
	case report.Issuer == nil:
		row(w, "valid", "unknown, see --issuer")
	case report.Issuer.Active:
		row(w, "valid", "yes, according to the issuer")
	default:
		row(w, "valid", "no, according to the issuer: "+report.Issuer.Problem)
	}
}

// when formats a claim that is a time.
func when(name string, value any) string {
	seconds, err := strconv.ParseFloat(jwt.ClaimText(value), 64)
	if err != nil || name != "exp" && name != "iat" && name != "nbf" && name != "auth_time" && name != "family_iat" {
		return ""
	}
	return " (" + formatTime(time.Unix(int64(seconds), 0)) + ")"
}

// decodeJWT decodes a JWT without checking its signature.
func decodeJWT(token string) (header, claims map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, errors.New("not a JWT; use --issuer to ask the issuer about it")
	}
	for i, part := range []*map[string]any{&header, &claims} {
		decoded, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, errors.New("not a JWT: expected base64url")
		}
		d := json.NewDecoder(bytes.NewReader(decoded))
		d.UseNumber()
		if err := d.Decode(part); err != nil {
			return nil, nil, errors.New("not a JWT: expected JSON objects")
		}
	}
	return header, claims, nil
}
