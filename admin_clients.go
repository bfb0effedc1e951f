package caddyoauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// adminClient is a client as the admin API shows it: its settings, without secrets, and what else is known.
type adminClient struct {
	ID string `json:"client_id"`
	Client

	Source  string        `json:"source"` // "config", which is read-only here, or "store"
	Status  string        `json:"status"` // "enabled", "disabled", or "broken" if the issuer's settings do not allow it any more
	Problem string        `json:"problem,omitempty"`
	Public  bool          `json:"public"`
	Secrets []adminSecret `json:"secrets,omitempty"`
	Created time.Time     `json:"created,omitzero"`
	Changed time.Time     `json:"changed,omitzero"`

	// Secret is a new secret in clear, which is shown this once.
	Secret string `json:"client_secret,omitempty"`
}

// adminSecret is what may be told of a secret.
type adminSecret struct {
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"`
}

func configuredClient(id string, c *Client) adminClient {
	shown := adminClient{ID: id, Client: *c, Source: "config", Status: "enabled", Public: c.public()}
	shown.Client.Secrets, shown.SecretHashes = nil, nil
	return shown
}

func registeredClient(r *storage.Registered, problem string) adminClient {
	shown := adminClient{
		ID: r.ID, Source: "store", Status: "enabled", Problem: problem, Public: len(r.Secrets) == 0,
		Created: r.Created, Changed: r.Changed,
	}
	switch {
	case !r.Disabled.IsZero():
		shown.Status = "disabled"
	case problem != "":
		shown.Status = "broken"
	}
	if c, err := decodeClient(r.Settings); err == nil {
		shown.Client = *c
	}
	for _, secret := range r.Secrets {
		shown.Secrets = append(shown.Secrets, adminSecret{secret.Created, secret.Expires})
	}
	return shown
}

// adminClients returns all clients of an issuer, those of the configuration first.
func adminClients(r *adminRequest) ([]adminClient, error) {
	registered, err := r.server.RegisteredClients(r.Context())
	if err != nil {
		return nil, err
	}
	list := make([]adminClient, 0, len(r.issuer.Clients)+len(registered))
	for _, id := range slices.Sorted(maps.Keys(r.issuer.Clients)) {
		list = append(list, configuredClient(id, r.issuer.Clients[id]))
	}
	for _, c := range registered {
		list = append(list, registeredClient(c.Registered, c.Problem))
	}
	return list, nil
}

func listClients(r *adminRequest) (any, error) { return adminClients(r) }

func showClient(r *adminRequest) (any, error) {
	list, err := adminClients(r)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(c adminClient) bool { return c.ID == r.PathValue("id") })
	if i < 0 {
		return nil, authserver.ErrNoClient
	}
	return list[i], nil
}

// addClient adds a client and, unless it is public or brings hashes of the secrets it has, shows its secret.
func addClient(r *adminRequest) (any, error) {
	var body struct {
		ID     string `json:"client_id"`
		Public bool   `json:"public"`
		Client
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	if len(body.Secrets) > 0 {
		return nil, badRequest{errors.New("secrets: expected secret_hashes instead, or none of both to get a new secret")}
	}
	hashes := body.SecretHashes
	body.SecretHashes = nil
	if body.Public && len(hashes) > 0 {
		return nil, badRequest{errors.New("public: expected without secret_hashes: a public client has no secret")}
	}
	settings, err := json.Marshal(body.Client)
	if err != nil {
		return nil, err
	}
	added, secret, err := r.server.AddClient(r.Context(), authserver.NewClient{
		ID: body.ID, Settings: settings, SecretHashes: hashes, Public: body.Public,
	})
	if err != nil {
		return nil, err
	}
	shown := registeredClient(added, "")
	shown.Secret = secret
	return created{shown}, nil
}

// changeClient changes settings: members of the body replace those of the client, and null removes one (RFC 7396).
func changeClient(r *adminRequest) (any, error) {
	var patch map[string]any
	if err := r.body(&patch); err != nil {
		return nil, err
	}
	changed, err := r.server.ChangeClient(r.Context(), r.PathValue("id"), func(settings json.RawMessage) (json.RawMessage, error) {
		var old map[string]any
		d := json.NewDecoder(bytes.NewReader(settings))
		d.UseNumber() // a float64 would change long lifetimes, which are nanoseconds
		if err := d.Decode(&old); err != nil {
			return nil, err
		}
		merged, err := json.Marshal(mergePatch(old, patch))
		if err != nil {
			return nil, err
		}
		c, err := decodeClient(merged)
		if err != nil {
			return nil, badRequest{err}
		}
		return json.Marshal(c)
	})
	if err != nil {
		return nil, err
	}
	return registeredClient(changed, ""), nil
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

func deleteClient(r *adminRequest) (any, error) {
	return nil, r.server.DeleteClient(r.Context(), r.PathValue("id"))
}

// defaultGrace is how long the secret before a new one stays good.
const defaultGrace = 24 * time.Hour

// newClientSecret gives a client another secret, and shows it.
func newClientSecret(r *adminRequest) (any, error) {
	body := struct {
		Grace caddy.Duration `json:"grace"`
	}{caddy.Duration(defaultGrace)}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	if body.Grace < 0 {
		return nil, badRequest{errors.New("grace: expected a duration, such as 24h, or 0")}
	}
	changed, secret, err := r.server.NewClientSecret(r.Context(), r.PathValue("id"), time.Duration(body.Grace))
	if err != nil {
		return nil, err
	}
	shown := registeredClient(changed, "")
	shown.Secret = secret
	return shown, nil
}

func disableClient(r *adminRequest) (any, error) {
	changed, err := r.server.DisableClient(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return registeredClient(changed, ""), nil
}

func enableClient(r *adminRequest) (any, error) {
	changed, err := r.server.EnableClient(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return registeredClient(changed, ""), nil
}
