package clients

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Described is a client that nobody added, as its owner may see it.
type Described struct {
	ID           string               `json:"client_id"`
	Origin       storage.ClientOrigin `json:"origin"`
	Name         string               `json:"name,omitempty"` // what it calls itself
	RedirectURIs []string             `json:"redirect_uris,omitempty"`
	Created      time.Time            `json:"created,omitzero"`
	Used         time.Time            `json:"used,omitzero"`  // when it last got a code or tokens, up to a day ago
	Until        time.Time            `json:"until,omitzero"` // when its tokens end
	Blocked      bool                 `json:"blocked,omitempty"`
}

// Lister is a Source that can list its clients.
type Lister interface {
	Described(ctx context.Context) iter.Seq2[Described, error]
}

// ErrOwned says that a client was added by the owner, who can disable it.
var ErrOwned = errors.New("the client was added here: disable it instead")

// hostPrefix begins the ID of a record that blocks a redirect host. No client ID has this character.
const hostPrefix = "\x00"

// redirectHost returns the host that a redirect URI leads to, and for an app's own scheme, the scheme and a colon.
func redirectHost(uri string) string {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return ""
	case u.Scheme == "http" || u.Scheme == "https":
		return strings.ToLower(u.Hostname())
	}
	return u.Scheme + ":"
}

// Described returns the clients that nobody added, sorted by ID, and those of them that are blocked although they are gone. hosts are
// the redirect hosts that are blocked.
func (d *Directory) Described(ctx context.Context) (list []Described, hosts []string, err error) {
	x, err := d.index(ctx)
	if err != nil {
		return nil, nil, err
	}
	seen := make(map[string]bool)
	for _, source := range d.Sources {
		lister, ok := source.(Lister)
		if !ok {
			continue
		}
		for client, err := range lister.Described(ctx) {
			if err != nil {
				return nil, nil, err
			}
			client.Blocked = x.ended[client.ID] != nil || x.blocksRedirect(client.RedirectURIs)
			list, seen[client.ID] = append(list, client), true
		}
	}
	for id, r := range x.stored {
		host, isHost := strings.CutPrefix(id, hostPrefix)
		switch {
		case !r.BlocksDescribed || r.Disabled.IsZero():
		case isHost:
			hosts = append(hosts, host)
		case !seen[id]:
			list = append(list, Described{ID: id, Blocked: true})
		}
	}
	slices.SortFunc(list, func(a, b Described) int { return cmp.Compare(a.ID, b.ID) })
	slices.Sort(hosts)
	return list, hosts, nil
}

// blocksRedirect reports whether a redirect URI leads to a host that is blocked.
func (x *index) blocksRedirect(redirectURIs []string) bool {
	return len(x.hosts) > 0 && slices.ContainsFunc(redirectURIs, func(uri string) bool { return x.hosts[redirectHost(uri)] })
}

// Block refuses a client that nobody added, and voids its tokens. It need not be there yet.
func (d *Directory) Block(ctx context.Context, id string) error {
	if err := d.setBlocked(ctx, id, "blocked", true); err != nil {
		return err
	}
	return d.Revoke(ctx, id, "client blocked")
}

// Unblock ends Block. Tokens from before stay void.
func (d *Directory) Unblock(ctx context.Context, id string) error {
	if err := d.revokeEnded(ctx, id); err != nil {
		return err
	}
	return d.setBlocked(ctx, id, "no longer blocked", false)
}

// BlockHost refuses every client that nobody added and that has a redirect URI with this host, see redirectHost, and voids the tokens
// of those that are known.
func (d *Directory) BlockHost(ctx context.Context, host string) error {
	host = strings.ToLower(host)
	if err := d.setBlocked(ctx, hostPrefix+host, "blocked", true); err != nil {
		return err
	}
	list, _, err := d.Described(ctx)
	if err != nil {
		return err
	}
	for _, client := range list {
		if slices.ContainsFunc(client.RedirectURIs, func(uri string) bool { return redirectHost(uri) == host }) {
			if err := d.Revoke(ctx, client.ID, "redirect host blocked"); err != nil {
				return err
			}
		}
	}
	return nil
}

// UnblockHost ends BlockHost.
func (d *Directory) UnblockHost(ctx context.Context, host string) error {
	return d.setBlocked(ctx, hostPrefix+strings.ToLower(host), "no longer blocked", false)
}

// setBlocked writes the record of a client or host that is blocked, or ends it.
func (d *Directory) setBlocked(ctx context.Context, id, what string, blocked bool) error {
	_, err := d.change(ctx, id, what, func(old *storage.AddedClient, now time.Time) (*storage.AddedClient, error) {
		switch {
		case old != nil && !old.BlocksDescribed && old.Deleted.IsZero():
			return nil, ErrOwned
		case !blocked && (old == nil || old.Disabled.IsZero()):
			return nil, ErrNotFound
		}
		next := &storage.AddedClient{ID: id, BlocksDescribed: true, Created: now}
		if blocked {
			next.Disabled = now
		}
		return next, nil
	})
	return err
}

// Records yields the records of a kind, decoded, in no order. It leaves out those that are damaged, or gone by the time it gets to them,
// and ends with the first error of the store.
func Records[T any](
	ctx context.Context, store storage.Store, kind storage.Kind, decode func(record []byte) (*T, error),
) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for id, err := range store.List(ctx, kind) {
			if err != nil {
				yield(nil, err)
				return
			}
			var decoded *T
			record, err := store.Get(ctx, storage.Key{Kind: kind, ID: id})
			if err == nil {
				decoded, err = decode(record)
			}
			switch {
			case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrDamaged):
				continue
			case err != nil:
				yield(nil, err)
				return
			}
			if !yield(decoded, nil) {
				return
			}
		}
	}
}
