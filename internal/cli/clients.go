package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"golang.org/x/term"

	"github.com/caddy-oauth/caddy-oauth/internal/adminapi"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

const (
	clientsAddHelp = `
Adds a client to the issuer's store. The client gets a secret, which is shown
only once. A public client gets none: it is an app in a browser or on a device,
which cannot keep a secret. A client with keys (--jwks, --jwks-uri) needs none.

Settings that have no flag, such as lifetimes, go into --settings: the name of a
file with a JSON object, or - for standard input. Its members are those of a
client in Caddy's JSON configuration.`

	clientsChangeHelp = `
Changes settings of a client that was added at run time. All others stay as they
are. --settings is the name of a file with a JSON object, or - for standard
input. Its members replace those of the client; null removes one.`
)

// clientLists are the flags that may be repeated, by the names of their settings.
var clientLists = map[string]string{
	"redirect_uris": "redirect-uri", "grant_types": "grant-type", "scopes": "scope", "audience": "audience",
	"introspects": "introspects",
}

func clientFlags(f caddycmd.Flags) {
	f.FlagSet.String("name", "", "The name that the consent page shows")
	f.StringArray("redirect-uri", nil, "A redirect URI (may be repeated)")
	f.StringArray("grant-type", nil, "A grant type it may use (may be repeated)")
	f.StringArray("scope", nil, "A scope it may ask for (may be repeated)")
	f.StringArray("audience", nil, "A resource it may ask for (may be repeated)")
	f.StringArray("introspects", nil, "A resource whose tokens it may introspect (may be repeated)")
	f.FlagSet.String("consent", "", "When people are asked for consent: once, always or never")
	f.FlagSet.String("pkce", "", "Whether it must use PKCE: required or optional")
	f.FlagSet.String("jwks", "", "File with its public keys, a JWK set, by which it authenticates instead of a secret")
	f.FlagSet.String("jwks-uri", "", "The URL of such a JWK set")
	f.FlagSet.String("settings", "", "File with further settings in JSON, - for standard input")
}

func clientsAddFlags(f caddycmd.Flags) {
	clientFlags(f)
	f.FlagSet.Bool("public", false, "The client cannot keep a secret, and gets none")
	f.StringArray("secret-hash", nil, "The hash of a secret that the client uses already (may be repeated), see hash-secret")
}

func secretFlags(f caddycmd.Flags) {
	f.FlagSet.Duration("grace", adminapi.DefaultGrace, "How long the old secret remains valid")
}

// settings returns the settings on the command line.
func (c *invocation) settings() (map[string]any, error) {
	settings := make(map[string]any)
	if name := c.flags.String("settings"); name != "" {
		if err := c.readJSON(name, &settings); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"name", "consent", "pkce"} {
		if c.flags.Changed(name) {
			settings[name] = c.flags.String(name)
		}
	}
	if c.flags.Changed("jwks-uri") {
		settings["jwks_uri"] = c.flags.String("jwks-uri")
	}
	if c.flags.Changed("jwks") {
		keys, err := readKeys(c.flags.String("jwks"))
		if err != nil {
			return nil, err
		}
		settings["jwks"] = keys
	}
	for setting, name := range clientLists {
		if c.flags.Changed(name) {
			values, err := c.flags.GetStringArray(name)
			if err != nil {
				return nil, err
			}
			settings[setting] = values
		}
	}
	return settings, nil
}

// readKeys returns the JWK set of a file with public keys.
func readKeys(name string) (json.RawMessage, error) {
	file, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	keys, err := jwt.ReadClientKeys(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return keys, nil
}

func (c *invocation) readJSON(name string, value any) error {
	if name == "-" {
		return json.NewDecoder(c.in).Decode(value)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, value)
}

func runClientsList(c *invocation) error {
	var clients []adminapi.Client
	if err := c.ask(http.MethodGet, "/clients", nil, &clients); err != nil {
		return err
	}
	return c.print(clients, func(w io.Writer) {
		row(w, "ID", "NAME", "KEPT IN", "STATUS", "GRANT TYPES", "SCOPES")
		for _, client := range clients {
			s := readSettings(client)
			row(w, client.ID, s.Name, client.Source, client.Status, strings.Join(s.GrantTypes, " "), strings.Join(s.Scopes, " "))
		}
	})
}

func runClientsShow(c *invocation) error { return c.client(http.MethodGet, "", nil) }

func runClientsAdd(c *invocation) error {
	body, err := c.settings()
	if err != nil {
		return err
	}
	body["client_id"] = c.arg
	if c.flags.Bool("public") {
		body["public"] = true
	}
	hashes, err := c.flags.GetStringArray("secret-hash")
	if err != nil {
		return err
	}
	if len(hashes) > 0 {
		body["secret_hashes"] = hashes
	}
	var added adminapi.Client
	if err := c.ask(http.MethodPost, "/clients", body, &added); err != nil {
		return err
	}
	return c.printClient(added)
}

func runClientsChange(c *invocation) error {
	body, err := c.settings()
	if err != nil {
		return err
	}
	if len(body) == 0 {
		return errors.New("expected a setting to change")
	}
	return c.client(http.MethodPatch, "", body)
}

func runClientsSecret(c *invocation) error {
	grace := c.flags.Duration("grace")
	return c.client(http.MethodPost, "/secret", map[string]string{"grace": grace.String()})
}

func runClientsDisable(c *invocation) error { return c.client(http.MethodPost, "/disable", nil) }

func runClientsEnable(c *invocation) error { return c.client(http.MethodPost, "/enable", nil) }

func runClientsDelete(c *invocation) error {
	return c.ask(http.MethodDelete, "/clients/"+url.PathEscape(c.arg), nil, nil)
}

// client sends a request about the client, and prints the client as it is afterwards.
func (c *invocation) client(method, path string, body any) error {
	var client adminapi.Client
	if err := c.ask(method, "/clients/"+url.PathEscape(c.arg)+path, body, &client); err != nil {
		return err
	}
	return c.printClient(client)
}

func (c *invocation) printClient(client adminapi.Client) error {
	settings := readSettings(client)
	return c.print(client, func(w io.Writer) {
		kind := "confidential"
		if client.Public {
			kind = "public"
		}
		row(w, "ID", client.ID)
		row(w, "Name", settings.Name)
		row(w, "Kind", kind)
		row(w, "Kept in", client.Source)
		row(w, "Status", client.Status)
		if client.Problem != "" {
			row(w, "Problem", client.Problem)
		}
		row(w, "Grant types", strings.Join(settings.GrantTypes, " "))
		row(w, "Redirect URIs", strings.Join(settings.RedirectURIs, " "))
		row(w, "Scopes", strings.Join(settings.Scopes, " "))
		row(w, "Audience", strings.Join(settings.Audience, " "))
		for _, name := range slices.Sorted(maps.Keys(settings.rest)) {
			row(w, name, string(settings.rest[name]))
		}
		row(w, "Created", formatTime(client.Created))
		row(w, "Changed", formatTime(client.Changed))
		for _, secret := range client.Secrets {
			until := "never expires"
			if !secret.Expires.IsZero() {
				until = "expires " + secret.Expires.Local().Format(time.DateTime)
			}
			row(w, "Secret", "made "+formatTime(secret.Created)+", "+until)
		}
		if client.Secret != "" {
			row(w, "New secret", client.Secret+"  (shown only once)")
		}
	})
}

// clientSettings are the settings of a client that have a row of their own, and the rest as it stands in the configuration.
type clientSettings struct {
	Name         string   `json:"name"`
	GrantTypes   []string `json:"grant_types"`
	RedirectURIs []string `json:"redirect_uris"`
	Scopes       []string `json:"scopes"`
	Audience     []string `json:"audience"`

	rest map[string]json.RawMessage
}

// readSettings returns the settings of a client, as far as they can be read.
func readSettings(client adminapi.Client) (s clientSettings) {
	_ = json.Unmarshal(client.Settings, &s)
	_ = json.Unmarshal(client.Settings, &s.rest)
	for _, name := range []string{"name", "grant_types", "redirect_uris", "scopes", "audience"} {
		delete(s.rest, name)
	}
	return s
}

const hashSecretHelp = `
Reads a secret from standard input or the terminal, and prints its hash for the
setting secret_hash of a client.

--algorithm sha256 is for secrets of 256 random bits, such as those that "caddy
oauth clients add" makes. A secret that a person made up needs argon2id or
bcrypt, which are slow on purpose, as in "caddy hash-password".`

func hashSecretFlags(f caddycmd.Flags) {
	f.FlagSet.String("algorithm", "sha256", "sha256, argon2id or bcrypt")
}

func runHashSecret(c *invocation) error {
	switch algorithm := c.flags.String("algorithm"); algorithm {
	case "sha256":
		secret, err := readSecret(c, "Secret")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.out, clients.HashSecret(secret))
		return err
	case "argon2id", "bcrypt":
		return hashPassword(algorithm)
	default:
		return errors.New("algorithm: expected sha256, argon2id or bcrypt, not " + algorithm)
	}
}

// readSecret reads a line of standard input. A terminal shows a prompt, and does not echo the line.
func readSecret(c *invocation, what string) (string, error) {
	line, err := readLine(c, what)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(line, "\r\n")
	if secret == "" {
		return "", errors.New("expected a line on standard input, but it is empty")
	}
	return secret, nil
}

func readLine(c *invocation, what string) (string, error) {
	if file, ok := c.in.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(c.notes, what+": ")
		line, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(c.notes)
		return string(line), err
	}
	line, err := bufio.NewReader(c.in).ReadString('\n')
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return line, err
}
