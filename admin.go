package caddyoauth

import (
	"embed"
	"encoding/json"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/adminapi"
	"github.com/caddy-oauth/caddy-oauth/internal/cli"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/explain"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	cli.Register(issuerStores, settings)
}

// source embeds the Go files that declare the configuration. `caddy oauth explain setting` prints the comments of their fields.
//
//go:embed module.go issuer.go client.go client_keys.go client_rights.go described_clients.go handler.go guard.go *_settings.go
//go:embed grants/jwt_bearer.go grants/jwt_bearer_settings.go grants/password.go grants/password_site.go grants/refresh_check.go storage/redis/redis.go
var source embed.FS

// settings returns the settings of the configuration, with their comments.
func settings() (explain.Settings, error) {
	const directive = "oauth (directive)"
	all, err := explain.ReadSettings(source, []explain.Root{
		{Name: "oauth", Package: "caddyoauth", Type: "App"},
		{Name: directive, Package: "caddyoauth", Type: "Handler"},
		{Name: "oauth_guard (directive)", Package: "caddyoauth", Type: "Guard"},
		{Name: "grant jwt_bearer", Package: "grants", Type: "JWTBearer"},
		{Name: "grant password", Package: "grants", Type: "Password"},
		{Name: "store redis", Package: "redis", Type: "Redis"},
	})
	return slices.DeleteFunc(all, func(s explain.Setting) bool { // the settings of an issuer are listed under the app already
		return len(s.Path) > 2 && s.Path[0] == directive && s.Path[1] == "settings"
	}), err
}

// AdminIssuers implements adminapi.App.
func (a *App) AdminIssuers() map[string]*adminapi.Issuer {
	issuers := make(map[string]*adminapi.Issuer, len(a.Issuers))
	for name, i := range a.Issuers {
		issuers[name] = &adminapi.Issuer{
			URL: i.URL, ReadOnly: i.ReadOnly, Server: a.servers[name], Clients: i.adminClients, ParseSettings: parseSettings,
		}
	}
	return issuers
}

// Trail implements adminapi.App.
func (a *App) Trail() *trail.Trail { return a.common.Trail }

// adminClients returns the clients of the configuration as the admin API shows them.
func (i *Issuer) adminClients() map[string]adminapi.Client {
	clients := make(map[string]adminapi.Client, len(i.Clients))
	for id, c := range i.Clients {
		clients[id] = adminapi.Configured(id, c.public(), c.shown())
	}
	return clients
}

// parseSettings reads the settings of a client that is not in the configuration.
func parseSettings(settings json.RawMessage, public bool) (adminapi.ClientSettings, error) {
	c, err := decodeClient(settings)
	if err != nil {
		return adminapi.ClientSettings{}, err
	}
	stored, err := json.Marshal(c)
	if !public {
		c.SecretHashes = []string{"in the store"} // any value: the default grant types depend on whether the client has a secret
	}
	return adminapi.ClientSettings{Stored: stored, Shown: c.shown(), HasKeys: c.hasKeys() || c.hasCertificate()}, err
}

// shown returns the settings of a client without its secrets, and with the grant types that it has by default.
func (c *Client) shown() json.RawMessage {
	shown := *c
	shown.Secrets, shown.SecretHashes, shown.GrantTypes = nil, nil, c.grantTypes()
	encoded, err := json.Marshal(shown)
	if err != nil {
		return nil
	}
	return encoded
}

// issuerStores returns how to open the stores of the issuers of a configuration that does not run, for `caddy oauth import`.
func issuerStores(apps map[string]json.RawMessage) (map[string]cli.IssuerStore, error) {
	app := new(App)
	if raw, ok := apps["oauth"]; ok {
		if err := caddy.StrictUnmarshalJSON(raw, app); err != nil {
			return nil, err
		}
	}
	if app.Issuers == nil {
		app.Issuers = make(map[string]*Issuer)
	}
	if err := app.addDefined(apps["http"]); err != nil {
		return nil, err
	}
	stores := make(map[string]cli.IssuerStore, len(app.Issuers))
	for name, i := range app.Issuers {
		module := struct {
			Store string `json:"store"`
		}{"caddy"}
		if i.StoreRaw != nil {
			if err := json.Unmarshal(i.StoreRaw, &module); err != nil {
				return nil, directive.At("issuer "+name, directive.At("store", err))
			}
		}
		stores[name] = cli.IssuerStore{Module: module.Store, Open: func(ctx caddy.Context) (storage.Store, error) {
			if err := i.Encryption.resolve(caddy.NewReplacer()); err != nil {
				return nil, directive.At("encryption_key", err)
			}
			return i.openStore(ctx, name)
		}}
	}
	return stores, nil
}

// addDefined adds the issuers that oauth handlers define in their settings, at any depth of the JSON.
func (a *App) addDefined(config json.RawMessage) error {
	var list []json.RawMessage
	if json.Unmarshal(config, &list) == nil {
		for _, inner := range list {
			if err := a.addDefined(inner); err != nil {
				return err
			}
		}
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(config, &object) != nil {
		return nil //nolint:nilerr // a text or a number
	}
	if string(object["handler"]) == `"oauth"` {
		h := new(Handler)
		delete(object, "handler")
		encoded, err := json.Marshal(object)
		if err != nil {
			return err
		}
		if err := caddy.StrictUnmarshalJSON(encoded, h); err != nil {
			return err
		}
		if h.Settings != nil {
			if h.Issuer, err = h.issuerName(); err != nil {
				return err
			}
			a.Issuers[h.Issuer] = h.Settings
		}
	}
	for _, inner := range object {
		if err := a.addDefined(inner); err != nil {
			return err
		}
	}
	return nil
}

var _ adminapi.App = (*App)(nil)
