package caddyoauth

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

const (
	clientsAddHelp = `
Adds a client, which is kept in the issuer's store. It gets a secret, which is
shown this once, unless it is public: an app in a browser or on a device, which
can keep none.

What has no flag, such as lifetimes, is set with --settings, which names a file
with a JSON object, or - for standard input. Members are those of a client in
Caddy's JSON configuration.`

	clientsChangeHelp = `
Changes settings of a client that was added at run time. What is not named stays
as it is. --settings names a file with a JSON object, or - for standard input,
whose members replace those of the client; null removes one.`
)

// clientLists are the flags that may be repeated, by the settings they are for.
var clientLists = map[string]string{
	"redirect_uris": "redirect-uri", "grant_types": "grant-type", "scopes": "scope", "audience": "audience",
	"introspects": "introspects",
}

func clientFlags(f caddycmd.Flags) {
	f.FlagSet.String("name", "", "The name that people are shown")
	f.StringArray("redirect-uri", nil, "Where people are sent back to (may be repeated)")
	f.StringArray("grant-type", nil, "A grant type it may use (may be repeated)")
	f.StringArray("scope", nil, "A scope it may ask for (may be repeated)")
	f.StringArray("audience", nil, "A resource it may ask for (may be repeated)")
	f.StringArray("introspects", nil, "A resource whose tokens it may introspect (may be repeated)")
	f.FlagSet.String("consent", "", "When people are asked: once, always or never")
	f.FlagSet.String("pkce", "", "Whether it must use PKCE: required or optional")
	f.FlagSet.String("settings", "", "File with further settings in JSON, - for standard input")
}

func clientsAddFlags(f caddycmd.Flags) {
	clientFlags(f)
	f.FlagSet.Bool("public", false, "It can keep no secret, and gets none")
	f.StringArray("secret-hash", nil, "The hash of a secret that it has already (may be repeated), see hash-secret")
}

func secretFlags(f caddycmd.Flags) {
	f.FlagSet.Duration("grace", defaultGrace, "How long the secret before stays good")
}

// settings returns the settings that were named.
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

func (c *invocation) readJSON(name string, value any) error {
	if name == "-" {
		return json.NewDecoder(c.in).Decode(value)
	}
	text, err := readFile(name)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(text), value)
}

func runClientsList(c *invocation) error {
	var clients []adminClient
	if err := c.ask(http.MethodGet, "/clients", nil, &clients); err != nil {
		return err
	}
	return c.print(clients, func(w io.Writer) {
		row(w, "ID", "NAME", "KEPT IN", "STATUS", "GRANT TYPES", "SCOPES")
		for _, client := range clients {
			row(w, client.ID, client.Name, client.Source, client.Status,
				strings.Join(client.grantTypes(), " "), strings.Join(client.Scopes, " "))
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
	var added adminClient
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

// client sends a request about the client, and prints it as it is then.
func (c *invocation) client(method, path string, body any) error {
	var client adminClient
	if err := c.ask(method, "/clients/"+url.PathEscape(c.arg)+path, body, &client); err != nil {
		return err
	}
	return c.printClient(client)
}

func (c *invocation) printClient(client adminClient) error {
	return c.print(client, func(w io.Writer) {
		kind := "confidential"
		if client.Public {
			kind = "public"
		}
		row(w, "ID", client.ID)
		row(w, "Name", client.Name)
		row(w, "Kind", kind)
		row(w, "Kept in", client.Source)
		row(w, "Status", client.Status)
		if client.Problem != "" {
			row(w, "Problem", client.Problem)
		}
		row(w, "Grant types", strings.Join(client.grantTypes(), " "))
		row(w, "Redirect URIs", strings.Join(client.RedirectURIs, " "))
		row(w, "Scopes", strings.Join(client.Scopes, " "))
		row(w, "Audience", strings.Join(client.Audience, " "))
		rest := client.Client
		rest.Name, rest.GrantTypes, rest.RedirectURIs, rest.Scopes, rest.Audience = "", nil, nil, nil, nil
		printRest(w, rest)
		row(w, "Created", moment(client.Created))
		row(w, "Changed", moment(client.Changed))
		for _, secret := range client.Secrets {
			until := "never expires"
			if !secret.Expires.IsZero() {
				until = "expires " + secret.Expires.Local().Format(time.DateTime)
			}
			row(w, "Secret", "of "+moment(secret.Created)+", "+until)
		}
		if client.Secret != "" {
			row(w, "New secret", client.Secret+"  (shown this once)")
		}
	})
}

// printRest prints settings that have no row of their own, as they stand in the configuration.
func printRest(w io.Writer, settings Client) {
	encoded, err := json.Marshal(settings)
	var members map[string]json.RawMessage
	if err != nil || json.Unmarshal(encoded, &members) != nil {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		row(w, name, string(members[name]))
	}
}
