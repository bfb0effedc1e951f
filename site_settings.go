package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Claim is a claim about a person. In JSON, a text alone is its value.
type Claim struct {
	// A placeholder.
	Value string `json:"value,omitempty"`

	// What the claim is in a token: `text`, `list`, `number`, `boolean` or `json`, which is any JSON. A value that is not what it should
	// be is left out, and the log says so once. Default: `text`.
	Type string `json:"type,omitempty"`

	// What stands between the values of a list. Spaces around a value are left out. Default: a comma.
	Separator string `json:"separator,omitempty"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Claim) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &c.Value) == nil {
		return nil
	}
	type fields Claim // without this method
	return caddy.StrictUnmarshalJSON(b, (*fields)(c))
}

// MarshalJSON implements json.Marshaler.
func (c Claim) MarshalJSON() ([]byte, error) {
	if c.Type == "" {
		return json.Marshal(c.Value)
	}
	type fields Claim
	return json.Marshal(fields(c))
}

func (c Claim) check() error {
	if c.Separator != "" && c.Type != "list" {
		return errors.New("expected a separator for a list only")
	}
	return checkChoice(c.Type, "text", "list", "number", "boolean", "json")
}

// checkClaimNames refuses the names of claims that the server sets itself.
func checkClaimNames(names []string) error {
	for _, name := range names {
		if name == "" || slices.Contains(authserver.ReservedClaims, name) {
			return fmt.Errorf("expected another name; the claim %s is the server's own", name)
		}
	}
	return nil
}

// value returns the claim, nil if the placeholder is empty.
func (c Claim) value(repl *caddy.Replacer) (any, error) {
	text := repl.ReplaceAll(c.Value, "")
	if text == "" {
		return nil, nil
	}
	switch c.Type {
	case "list":
		var list []string
		for value := range strings.SplitSeq(text, cmp.Or(c.Separator, ",")) {
			if value = strings.TrimSpace(value); value != "" {
				list = append(list, value)
			}
		}
		if list == nil {
			return nil, nil
		}
		return list, nil
	case "boolean":
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, errors.New("expected true or false")
		}
		return b, nil
	case "number", "json":
		var value any
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if d.Decode(&value) != nil || !atEnd(d) {
			return nil, errors.New("expected JSON")
		}
		if _, number := value.(json.Number); c.Type == "number" && !number {
			return nil, errors.New("expected a number")
		}
		return value, nil
	}
	return text, nil
}

func atEnd(d *json.Decoder) bool {
	_, err := d.Token()
	return errors.Is(err, io.EOF)
}

// Login is how people sign in: by handlers that find out who a person is, on a page of the site, or both.
type Login struct {
	// The handlers that find out who a person is, such as those of `basic_auth` and `forward_auth`. They run only for requests that
	// need a person, before the answer: the page where people approve a client, and the page where they see their apps. They see the
	// URL that the client sent.
	Routes caddyhttp.RouteList `json:"routes,omitempty"`

	// The URL of a page where people sign in, and which sends them back afterwards, or its path on this site. People who are not
	// signed in are sent there, and so are those who must sign in again, unless `reauthenticate` of `session` has another page for them.
	// The page may get the parameters `login_hint`, a name for the account that the application suggests, `ui_locales` and `acr_values`,
	// and `prompt`: with `login`, it must ask who is signed in to sign in again, and with `select_account`, which account to use. They
	// come from the application: show none of them without escaping it. Default: none, for sites whose login is a challenge of the
	// browser.
	URL string `json:"url,omitempty"`

	// The query parameter that tells the page where to send people afterwards. If the page is a path on this site, the value is
	// a path with a query, otherwise a complete URL of the issuer. Default: `return_to`.
	Parameter string `json:"parameter,omitempty"`
}

func (l *Login) check() error {
	switch {
	case l == nil:
		return nil
	case l.URL == "" && l.Parameter != "":
		return errors.New("expected the URL of the page that the parameter is for")
	case l.URL == "" && len(l.Routes) == 0:
		return errors.New("expected the URL or the path of a login page, directives in braces, or both")
	case l.URL == "":
		return nil
	}
	return checkSitePage(l.URL)
}

// Session is what the site knows of how a person has signed in, as placeholders that the login sets. What is empty is not known, and no
// token claims it.
type Session struct {
	// When the person signed in: seconds since 1970, or a time as in RFC 3339. It must be the time of the login and not of the request.
	AuthTime string `json:"auth_time,omitempty"`

	// How well the person was authenticated, as a name that the site and the clients agree on.
	ACR string `json:"acr,omitempty"`

	// The values that ACR can have, the lowest first. If an application wants one of them and the person is signed in with a lower one,
	// the person is sent to the login page, which gets the parameter `acr_values`. Default: not known, and nobody is sent.
	ACRValues []string `json:"acr_values,omitempty"`

	// How the person was authenticated, as names of RFC 8176 with commas or spaces between them, such as `pwd otp`.
	AMR string `json:"amr,omitempty"`

	// The ID of the session at the site, which changes with each login. Clients see it. **Danger:** never use the value of the
	// session cookie: whoever has that is signed in.
	SID string `json:"sid,omitempty"`

	// The page where people who are signed in sign in again: because the application asks for it (`prompt=login`), because the login is
	// too old (`max_age`), or because another way to authenticate is needed (`acr_values`). It must send people back only after a new
	// login. Otherwise `auth_time` is too old, and the application gets `login_required`. Default: the page of `login`.
	Reauthenticate *SitePage `json:"reauthenticate,omitempty"`

	// The page where people sign out of the site, and which sends them back afterwards. Whoever signs out at an application is sent there,
	// and then back to the application. Default: none. People stay signed in to the site, and a page says so.
	Logout *SitePage `json:"logout,omitempty"`
}

// SitePage is a page of the site that people are sent to, and which sends them back.
type SitePage struct {
	// The URL of the page, or its path on this site.
	URL string `json:"url,omitempty"`

	// The query parameter that tells the page where to send people afterwards. If the page is a path on this site, the value is
	// a path with a query, otherwise a complete URL of the issuer. Default: `return_to`.
	Parameter string `json:"parameter,omitempty"`
}

func (p *SitePage) check() error {
	if p == nil {
		return nil
	}
	return checkSitePage(p.URL)
}

// checkSitePage checks the URL of a page of the site that sends people back.
func checkSitePage(page string) error {
	u, err := url.Parse(page)
	path := err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/")
	web := err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
	if !path && !web || u.Fragment != "" {
		return fmt.Errorf("expected the URL or the path of a login page, such as /login, not %s", page)
	}
	return nil
}

// pageURL returns the URL of a page of the site, with hints as parameters, that sends people back to a path on the origin of the issuer.
func pageURL(page, parameter, origin, returnTo string, hints url.Values) string {
	u, err := url.Parse(page)
	if page == "" || err != nil {
		return ""
	}
	if u.Host != "" {
		returnTo = origin + returnTo
	}
	query := u.Query()
	maps.Copy(query, hints)
	query.Set(cmp.Or(parameter, "return_to"), returnTo)
	u.RawQuery = query.Encode()
	return u.String()
}

// reauthenticate returns the page where people sign in again, nil if there is none beside that of the login.
func (s *Session) reauthenticate() *SitePage {
	if s == nil {
		return nil
	}
	return s.Reauthenticate
}

func (s *Session) check() error {
	if s == nil {
		return nil
	}
	if err := directive.At("acr", s.checkACRValues()); err != nil {
		return err
	}
	if s.Reauthenticate != nil && s.AuthTime == "" {
		return directive.At("reauthenticate", errors.New("expected auth_time too: without it, nobody can tell who has signed in again"))
	}
	if err := directive.At("reauthenticate", s.Reauthenticate.check()); err != nil {
		return err
	}
	for name, value := range s.placeholders() {
		if value != "" && !unresolved(value) {
			return directive.At(name, fmt.Errorf("expected a placeholder that the login sets, not %s", value))
		}
	}
	return directive.At("logout", s.Logout.check())
}

// placeholders returns the settings whose values the login sets, by name.
func (s *Session) placeholders() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		if s == nil {
			return
		}
		_ = yield("auth_time", s.AuthTime) && yield("acr", s.ACR) && yield("amr", s.AMR) && yield("sid", s.SID)
	}
}

func (s *Session) checkACRValues() error {
	if len(s.ACRValues) > 0 && s.ACR == "" {
		return errors.New("expected a placeholder that has one of the values")
	}
	return checkACRValues(s.ACRValues)
}

// checkACRValues checks values of acr, which stand in lists with spaces between them, and in a quoted string of a header.
func checkACRValues(values []string) error {
	for i, value := range values {
		if !grants.ValidScope(value) || len(value) > maxSessionText {
			return fmt.Errorf("expected the name of a way to authenticate, without spaces, not %s", value)
		}
		if slices.Contains(values[:i], value) {
			return fmt.Errorf("expected %s once", value)
		}
	}
	return nil
}

const (
	maxSessionText = 255
	clockSkew      = time.Minute // between this server and the login
)

// read returns what the site says of the session.
func (s *Session) read(repl *caddy.Replacer, now time.Time) (authTime time.Time, session storage.SiteSession, err error) {
	text := func(placeholder string) string {
		value := strings.TrimSpace(repl.ReplaceAll(placeholder, ""))
		if len(value) > maxSessionText || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			err = fmt.Errorf("expected of %s at most %d characters of printable ASCII", placeholder, maxSessionText)
			return ""
		}
		return value
	}
	session = storage.SiteSession{
		ID: text(s.SID), ACR: text(s.ACR),
		AMR: strings.FieldsFunc(text(s.AMR), func(r rune) bool { return r == ' ' || r == ',' }),
	}
	value := text(s.AuthTime)
	if value == "" {
		return time.Time{}, session, err
	}
	authTime, timeErr := parseAuthTime(value)
	if timeErr == nil && authTime.After(now.Add(clockSkew)) {
		timeErr = errors.New("expected an auth_time that is not in the future")
	}
	if timeErr != nil {
		return time.Time{}, session, timeErr
	}
	return authTime, session, err
}

// parseAuthTime reads a time, to the second.
func parseAuthTime(value string) (time.Time, error) {
	if seconds, err := strconv.ParseFloat(value, 64); err == nil && seconds > 0 && seconds < 1e11 {
		return time.Unix(int64(seconds), 0), nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return time.Time{}, errors.New("expected an auth_time in seconds since 1970, or as in RFC 3339")
	}
	return t.Truncate(time.Second), nil
}
