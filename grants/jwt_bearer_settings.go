package grants

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// TrustedIssuer is another issuer whose assertions about users this issuer accepts.
type TrustedIssuer struct {
	// A file with the public keys of the issuer: a JWK set, one JWK, or PEM. It is read when the configuration is loaded.
	JWKSFile string `json:"jwks_file,omitempty"`

	// The URL of the issuer's JWK set, with https, which its metadata has as `jwks_uri`. The server fetches it when an assertion comes,
	// keeps it as long as its headers say, and fetches it again for a key that it does not know, at most once a minute.
	JWKSURI string `json:"jwks_uri,omitempty"`

	// Whether the assertions of the issuer are ID-JAGs: it is the identity provider of a company, and its assertions have the type
	// `oauth-id-jag+jwt`, and name the client and the resource. Without it, such an assertion is refused, and with it any other.
	// Default: false.
	IDJAG bool `json:"id_jag,omitempty"`

	// Which claim is the ID of the user at this site: `sub`, or `email` if the user IDs of the site are email addresses. An address must
	// not be one that the issuer says is not verified. Default: `sub`.
	Map string `json:"map,omitempty"`

	// The users that the issuer may speak for, by their IDs at this site, such as `*@partner.example`. An asterisk stands for any
	// characters. **Danger:** with `*`, the issuer can speak for everybody at the site, you included.
	Subjects []string `json:"subjects,omitempty"`

	// The clients that may bring its assertions, by their IDs. Without it, a client can bring any assertion that names no client in
	// `client_id`. **Danger:** a client of one partner that gets hold of an assertion about the people of another can then use it.
	// Default: every client with the grant type.
	Clients []string `json:"clients,omitempty"`

	// The scopes that tokens can have which the issuer vouches for, of those of the client. Default: all of these.
	Scopes []string `json:"scopes,omitempty"`
}

// Provision reads the keys in files.
func (g *JWTBearer) Provision(caddy.Context) error {
	repl := caddy.NewReplacer()
	for _, name := range slices.Sorted(maps.Keys(g.Issuers)) {
		from := g.Issuers[name]
		if from == nil {
			return directive.At("issuer "+name, errNoKeys)
		}
		for _, value := range []*string{&from.JWKSFile, &from.JWKSURI} {
			replaced, err := repl.ReplaceOrErr(*value, true, true)
			if err != nil {
				return directive.At("issuer "+name, err)
			}
			*value = replaced
		}
	}
	if err := g.Check(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(g.Issuers)) {
		from := g.Issuers[name]
		trusted := AssertionIssuer{URL: name, JWKSURI: from.JWKSURI, IDJAG: from.IDJAG}
		if from.JWKSFile != "" {
			file, err := os.ReadFile(from.JWKSFile)
			if err == nil {
				trusted.JWKS, err = jwt.ReadClientKeys(file)
			}
			if err != nil {
				return directive.At("issuer "+name, directive.At("jwks", err))
			}
		}
		g.trusted = append(g.trusted, trusted)
	}
	return nil
}

var errNoKeys = errors.New("expected the keys in one place: jwks or jwks_uri")

// Check finds impossible settings.
func (g *JWTBearer) Check() error {
	if len(g.Issuers) == 0 {
		return errors.New("expected an issuer that is trusted, such as: issuer https://idp.example { ... }")
	}
	for _, name := range slices.Sorted(maps.Keys(g.Issuers)) {
		if err := g.Issuers[name].check(); err != nil {
			return directive.At("issuer "+name, err)
		}
	}
	return nil
}

func (t *TrustedIssuer) check() error {
	switch {
	case (t.JWKSFile == "") == (t.JWKSURI == ""):
		return errNoKeys
	case t.Map != "" && t.Map != "sub" && t.Map != "email":
		return directive.At("map", fmt.Errorf("expected sub or email, not %s", t.Map))
	case len(t.Subjects) == 0:
		return errors.New("expected subjects, the users that the issuer may speak for, such as *@partner.example")
	}
	if err := checkKeysURL(t.JWKSURI); err != nil {
		return directive.At("jwks_uri", err)
	}
	for _, pattern := range t.Subjects {
		switch {
		case strings.Count(pattern, "*") > 1:
			return directive.At("subjects", fmt.Errorf("expected one asterisk at most, not %s", pattern))
		case t.Map == "email" && pattern != "*" && strings.Count(pattern, "@") != 1:
			return directive.At("subjects", fmt.Errorf("expected email addresses, such as *@partner.example, not %s", pattern))
		}
	}
	return nil
}

// checkKeysURL refuses a URL that the server would not fetch. A loopback URL is allowed only for an issuer on this machine.
func checkKeysURL(uri string) error {
	if uri == "" || strings.Contains(uri, "{") {
		return nil
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !uris.IsLoopback(u.Hostname())) {
		return fmt.Errorf("expected a URL with https, not %s", uri)
	}
	return nil
}

// UnmarshalCaddyfile reads the issuers that are trusted:
//
//	jwt_bearer {
//		issuer <url> {
//			jwks     <file>
//			jwks_uri <url>
//			id_jag
//			map      sub|email
//			subjects <pattern...>
//			clients  <id...>
//			scopes   <scope...>
//		}
//	}
func (g *JWTBearer) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	in := directive.New(d)
	if _, err := in.Args("jwt_bearer", "a block in braces", 0, 0); err != nil {
		return err
	}
	err := in.Block(directive.Settings{
		"issuer": in.Each("the URL of an issuer", 1, 1, func(args []string) (directive.Settings, error) {
			from := new(TrustedIssuer)
			if g.Issuers == nil {
				g.Issuers = make(map[string]*TrustedIssuer)
			}
			g.Issuers[args[0]] = from
			return directive.Settings{
				"jwks":     in.Word("a file", &from.JWKSFile),
				"jwks_uri": in.Word("a URL", &from.JWKSURI),
				"id_jag":   in.Flag(&from.IDJAG),
				"map":      in.Word("sub or email", &from.Map),
				"subjects": in.Words("one user or more, or *", &from.Subjects),
				"clients":  in.Words("one client ID or more", &from.Clients),
				"scopes":   in.Words("one scope or more", &from.Scopes),
			}, nil
		}),
	})
	if err != nil {
		return err
	}
	if len(g.Issuers) == 0 {
		return in.Errf("jwt_bearer: %w", g.Check())
	}
	return in.Locate(g.Check())
}

var (
	_ Grant                 = (*JWTBearer)(nil)
	_ Profiler              = (*JWTBearer)(nil)
	_ caddy.Provisioner     = (*JWTBearer)(nil)
	_ caddyfile.Unmarshaler = (*JWTBearer)(nil)
)
