package adminapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Client is a client as the API shows it. In JSON, its settings are members like the others.
type Client struct {
	ID      string    `json:"client_id"`
	Source  string    `json:"source"` // "config", which this API cannot change, or "store"
	Status  string    `json:"status"` // "enabled", "disabled", or "broken" if the settings of the issuer do not allow it any more
	Problem string    `json:"problem,omitempty"`
	Public  bool      `json:"public"`
	Secrets []Secret  `json:"secrets,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Changed time.Time `json:"changed,omitzero"`

	// Secret is a new secret in clear. It is shown in the answer to the request that made it, and nowhere else.
	Secret string `json:"client_secret,omitempty"`

	// Settings are in the form that they have in Caddy's JSON configuration, without secrets and hashes.
	Settings json.RawMessage `json:"-"`
}

// Secret is what may be told about a secret.
type Secret struct {
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

// members has the fields of a Client that are no settings. Without its methods, JSON is made of the fields.
type members Client

// MarshalJSON implements json.Marshaler.
func (c Client) MarshalJSON() ([]byte, error) {
	object := make(map[string]json.RawMessage)
	if len(c.Settings) > 0 {
		if err := json.Unmarshal(c.Settings, &object); err != nil {
			return nil, err
		}
	}
	own, err := json.Marshal(members(c))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(own, &object); err != nil {
		return nil, err
	}
	return json.Marshal(object)
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *Client) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, (*members)(c)); err != nil {
		return err
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	for _, name := range []string{
		"client_id", "source", "status", "problem", "public", "secrets", "created", "changed", "client_secret",
	} {
		delete(object, name)
	}
	var err error
	c.Settings, err = json.Marshal(object)
	return err
}

// Configured returns a client of the configuration.
func Configured(id string, public bool, settings json.RawMessage) Client {
	return Client{ID: id, Source: "config", Status: "enabled", Public: public, Settings: settings}
}

// added returns a client that was added at run time.
func (i *Issuer) added(r *storage.AddedClient, problem string) Client {
	shown := Client{
		ID: r.ID, Source: "store", Status: "enabled", Problem: problem, Public: len(r.Secrets) == 0,
		Created: r.Created, Changed: r.Changed,
	}
	switch {
	case !r.Disabled.IsZero():
		shown.Status = "disabled"
	case problem != "":
		shown.Status = "broken"
	}
	if settings, err := i.ParseSettings(r.Settings, len(r.Secrets) == 0); err == nil {
		shown.Settings = settings.Shown
		shown.Public = shown.Public && !settings.HasKeys
	}
	for _, secret := range r.Secrets {
		shown.Secrets = append(shown.Secrets, Secret{secret.Created, secret.Expires})
	}
	return shown
}

// clients returns all clients of the issuer, those of the configuration first.
func (r *request) clients() ([]Client, error) {
	added, err := r.owner.Clients().Added(r.Context())
	if err != nil {
		return nil, err
	}
	configured := r.issuer.Clients()
	list := make([]Client, 0, len(configured)+len(added))
	for _, id := range slices.Sorted(maps.Keys(configured)) {
		list = append(list, configured[id])
	}
	for _, c := range added {
		list = append(list, r.issuer.added(c.AddedClient, c.Problem))
	}
	return list, nil
}

func listClients(r *request) (any, error) { return r.clients() }

func showClient(r *request) (any, error) {
	list, err := r.clients()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(c Client) bool { return c.ID == r.PathValue("id") })
	if i < 0 {
		return nil, clients.ErrNotFound
	}
	return list[i], nil
}

// addClient adds a client. It makes a secret and shows it, unless the client is public or has keys, or the request has hashes of
// the secrets that the client uses already.
func addClient(r *request) (any, error) {
	var body map[string]json.RawMessage
	if err := r.body(&body); err != nil {
		return nil, err
	}
	var added clients.Addition
	var secrets []string
	var public bool
	err := cmp.Or(
		take(body, "client_id", &added.ID),
		take(body, "public", &public),
		take(body, "secret_hashes", &added.SecretHashes),
		take(body, "secrets", &secrets),
	)
	if err != nil {
		return nil, badRequest{err}
	}
	if len(secrets) > 0 {
		return nil, badRequest{errors.New("secrets: expected secret_hashes instead, or neither to get a new secret")}
	}
	if public && len(added.SecretHashes) > 0 {
		return nil, badRequest{errors.New("public: expected without secret_hashes: a public client has no secret")}
	}
	settings, err := r.settings(body)
	if err != nil {
		return nil, err
	}
	if public && settings.HasKeys {
		return nil, badRequest{errors.New("public: expected without keys: a public client has none")}
	}
	added.Settings, added.NoSecret = settings.Stored, public || settings.HasKeys
	client, secret, err := r.owner.Clients().Add(r.Context(), added)
	if err != nil {
		return nil, err
	}
	shown := r.issuer.added(client, "")
	shown.Secret = secret
	return created{shown}, nil
}

// take moves a member of an object into value.
func take(object map[string]json.RawMessage, name string, value any) error {
	member, ok := object[name]
	if !ok {
		return nil
	}
	delete(object, name)
	if err := json.Unmarshal(member, value); err != nil {
		return fmt.Errorf("%s: expected JSON: %w", name, err)
	}
	return nil
}

// settings returns the settings of a client in the form in which the store keeps them.
func (r *request) settings(object any) (ClientSettings, error) {
	encoded, err := json.Marshal(object)
	if err != nil {
		return ClientSettings{}, err
	}
	settings, err := r.issuer.ParseSettings(encoded, false)
	if err != nil {
		return ClientSettings{}, badRequest{err}
	}
	return settings, nil
}

// changeClient changes settings: members of the body replace those of the client, and null removes one (RFC 7396).
func changeClient(r *request) (any, error) {
	var patch map[string]any
	if err := r.body(&patch); err != nil {
		return nil, err
	}
	changed, err := r.owner.Clients().Change(r.Context(), r.PathValue("id"), func(settings json.RawMessage) (json.RawMessage, error) {
		var old map[string]any
		d := json.NewDecoder(bytes.NewReader(settings))
		d.UseNumber() // A float64 would change long lifetimes, which are nanoseconds.
		if err := d.Decode(&old); err != nil {
			return nil, err
		}
		next, err := r.settings(mergePatch(old, patch))
		return next.Stored, err
	})
	if err != nil {
		return nil, err
	}
	return r.issuer.added(changed, ""), nil
}

// mergePatch returns target with the patch applied (RFC 7396 §2).
func mergePatch(target, patch map[string]any) map[string]any {
	if target == nil {
		target = make(map[string]any)
	}
	for name, value := range patch {
		switch value := value.(type) {
		case nil:
			delete(target, name)
		case map[string]any:
			inner, _ := target[name].(map[string]any)
			target[name] = mergePatch(inner, value)
		default:
			target[name] = value
		}
	}
	return target
}

func deleteClient(r *request) (any, error) {
	return nil, r.owner.Clients().Delete(r.Context(), r.PathValue("id"))
}

// DefaultGrace is how long the old secret of a client remains valid when it gets a new one.
const DefaultGrace = 24 * time.Hour

// newClientSecret gives a client another secret, and shows it.
func newClientSecret(r *request) (any, error) {
	body := struct {
		Grace caddy.Duration `json:"grace"`
	}{caddy.Duration(DefaultGrace)}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	if body.Grace < 0 {
		return nil, badRequest{errors.New("grace: expected a duration, such as 24h, or 0")}
	}
	changed, secret, err := r.owner.Clients().NewSecret(r.Context(), r.PathValue("id"), time.Duration(body.Grace))
	if err != nil {
		return nil, err
	}
	shown := r.issuer.added(changed, "")
	shown.Secret = secret
	return shown, nil
}

func disableClient(r *request) (any, error) {
	changed, err := r.owner.Clients().Disable(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return r.issuer.added(changed, ""), nil
}

func enableClient(r *request) (any, error) {
	changed, err := r.owner.Clients().Enable(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return r.issuer.added(changed, ""), nil
}
