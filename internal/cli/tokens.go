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
Ends tokens, and the consents that go with them, at once: all of a user, all of
a client, all of a user at a client, those of a family (the claim "family" of an
access token), or a single one.

A token is read from standard input, so that it is in no list of processes and
in no history; a refresh token ends its whole family.`

	rotateHelp = `
Makes a new signing key. It is published at once, and signs as soon as whoever
holds the published keys must have fetched them again.

With --now it signs at once. Resource servers that hold on to the published keys
may then refuse good tokens until they fetch them again.`

	retireHelp = `
Removes a signing key at once, and with it all tokens that it signed. If it is
the one that signs, the next one does from now on, or a new one.

Do that when a private key may have been seen by somebody else. Otherwise, keys
retire by themselves when the last token they signed has expired.`

	inspectHelp = `
Reads an access token from standard input, or asks for it, and shows what a JWT
says of itself. That alone proves nothing. With --issuer, the issuer is asked
what the token is worth, which also works for tokens that are no JWTs.`
)

func revokeFlags(f caddycmd.Flags) {
	f.FlagSet.String("user", "", "The user whose tokens end")
	f.FlagSet.String("client", "", "The client whose tokens end; with --user, only the user's")
	f.FlagSet.String("family", "", "The family whose tokens end")
	f.FlagSet.Bool("token", false, "Read the token that ends from standard input")
	f.FlagSet.String("reason", "", "Why, for the records")
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
				moment(grant.Since), moment(grant.Last), moment(grant.Used))
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
			row(w, "Nothing to revoke: this is no token that is good here.")
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

// keys sends a request about the keys, and prints them as they are then.
func (c *invocation) keys(method, path string, body any) error {
	var keys []keyring.Info
	if err := c.ask(method, path, body, &keys); err != nil {
		return err
	}
	return c.print(keys, func(w io.Writer) {
		row(w, "KID", "ALGORITHM", "STATUS", "MADE", "SIGNS FROM", "GONE AFTER")
		for _, key := range keys {
			row(w, key.ID, key.Algorithm, key.Status, moment(key.Created), moment(key.Signs), moment(key.Expires))
		}
	})
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
		row(w, "Since", moment(stats.Since))
		row(w, "Clients", fmt.Sprintf("%d in the configuration, %d in the store", stats.Configured, stats.Registered))
		row(w, "Revocations in force", strconv.Itoa(stats.Cutoffs))
		row(w, "Keys", strconv.Itoa(len(stats.Keys)))
		fmt.Fprintln(w)
		row(w, "ENDPOINT", "GRANT TYPE", "RESULT", "COUNT")
		for _, count := range stats.Requests {
			row(w, count.Endpoint, count.GrantType, count.Result, strconv.FormatInt(count.Count, 10))
		}
	})
}

// tokenReport is what is known of a token: what it says, and what the issuer says.
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
		row(w, "good", "unknown: nobody was asked, see --issuer")
	case report.Issuer.Active:
		row(w, "good", "yes, says the issuer")
	default:
		row(w, "good", "no, says the issuer: "+report.Issuer.Problem)
	}
}

// when returns the time that a claim is, for people.
func when(name string, value any) string {
	seconds, err := strconv.ParseFloat(jwt.ClaimText(value), 64)
	if err != nil || name != "exp" && name != "iat" && name != "nbf" && name != "auth_time" && name != "family_iat" {
		return ""
	}
	return " (" + moment(time.Unix(int64(seconds), 0)) + ")"
}

// decodeJWT returns what a JWT says, whoever made it.
func decodeJWT(token string) (header, claims map[string]any, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, errors.New("this is no JWT; with --issuer, the issuer is asked what it is worth")
	}
	for i, part := range []*map[string]any{&header, &claims} {
		decoded, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, errors.New("this is no JWT: expected base64url")
		}
		d := json.NewDecoder(bytes.NewReader(decoded))
		d.UseNumber()
		if err := d.Decode(part); err != nil {
			return nil, nil, errors.New("this is no JWT: expected JSON objects")
		}
	}
	return header, claims, nil
}
