package adminapi

import (
	"cmp"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Grant is the access that a client has to a user's account.
type Grant struct {
	ClientID string `json:"client_id"`
	storage.Consent
}

func userGrants(r *request) (any, error) {
	consents, err := r.owner.UserConsents(r.Context(), r.PathValue("sub"))
	if err != nil {
		return nil, err
	}
	list := make([]Grant, 0, len(consents.Clients))
	for _, id := range slices.Sorted(maps.Keys(consents.Clients)) {
		list = append(list, Grant{id, consents.Clients[id]})
	}
	return list, nil
}

// SignIn is where a user has signed in: at a client, in a session of the site.
type SignIn struct {
	ClientID string    `json:"client_id"`
	Session  string    `json:"sid,omitempty"` // "" if the site does not tell
	Last     time.Time `json:"last"`          // when the client last got a code
}

func userSessions(r *request) (any, error) {
	signIns, err := r.owner.SignIns(r.Context(), r.PathValue("sub"))
	if err != nil {
		return nil, err
	}
	list := make([]SignIn, 0, len(signIns))
	for _, in := range slices.Backward(signIns) {
		list = append(list, SignIn{in.Client, in.Session, in.Last})
	}
	return list, nil
}

// endSession ends a session of the site. Nobody may have signed in to a client in it.
func endSession(r *request) (any, error) {
	ended, err := r.owner.EndSession(r.Context(), r.PathValue("sid"))
	return struct {
		Ended bool `json:"ended"`
	}{ended}, err
}

// revoke revokes tokens: one, those of a family, those of a user, those of a client, or those of a user at a client.
func revoke(r *request) (any, error) {
	var body struct {
		Subject string `json:"sub"`
		Client  string `json:"client_id"`
		Family  string `json:"family"`
		Token   string `json:"token"`
		Reason  string `json:"reason"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	type revoked struct {
		What string `json:"revoked"`
	}
	ctx, reason := r.Context(), cmp.Or(body.Reason, "revoked by the owner of the site")
	pair := body.Subject != "" || body.Client != ""
	switch {
	case body.Token != "" && body.Family == "" && !pair:
		what, err := r.owner.RevokeAny(ctx, body.Token, reason)
		return revoked{what}, err
	case body.Family != "" && body.Token == "" && !pair:
		key := storage.Key{Kind: storage.KindFamily, ID: body.Family}
		if key.Check() != nil || key.Bucket() == "" {
			return nil, badRequest{errors.New("family: expected the value of the claim family of an access token")}
		}
		return revoked{authserver.RevokedFamily}, r.owner.Revoker().RevokeFamily(ctx, body.Family, reason, "")
	case pair && body.Token == "" && body.Family == "":
		return revoked{"all"}, r.owner.Revoker().Revoke(ctx, body.Subject, body.Client, reason, "")
	}
	return nil, badRequest{errors.New("expected sub, client_id or both, or family, or token")}
}

// inspect answers whether an access token is valid, and what its claims are.
func inspect(r *request) (any, error) {
	var body struct {
		Token string `json:"token"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	if body.Token == "" {
		return nil, badRequest{errors.New("expected a token")}
	}
	claims, err := r.server.AccessToken(r.Context(), body.Token, 0)
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return Inspection{Problem: string(invalid)}, nil
	case err != nil:
		return nil, err
	}
	return Inspection{Active: true, Claims: claims.Raw}, nil
}

// Inspection is what the issuer says about an access token.
type Inspection struct {
	Active  bool           `json:"active"`
	Problem string         `json:"problem,omitempty"`
	Claims  map[string]any `json:"claims,omitempty"`
}

func listKeys(r *request) (any, error) { return r.owner.Keys().List(r.Context()) }

// rotateKeys makes a key. It signs as soon as all resource servers must have fetched it, or at once.
func rotateKeys(r *request) (any, error) {
	var body struct {
		Now bool `json:"now"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	if _, err := r.owner.RotateKey(r.Context(), body.Now); err != nil {
		return nil, err
	}
	return listKeys(r)
}

// retireKey removes a key at once. All tokens that it signed become invalid.
func retireKey(r *request) (any, error) {
	if err := r.owner.RetireKey(r.Context(), r.PathValue("kid")); err != nil {
		return nil, err
	}
	return listKeys(r)
}

func stats(r *request) (any, error) { return r.owner.Stats(r.Context()) }

// exportRecords writes a dump of all records. The dump of a read-only issuer is final, so no older configuration may still
// be writing.
func exportRecords(r *request) (any, error) {
	if err := r.body(new(struct{})); err != nil {
		return nil, err
	}
	if r.issuer.ReadOnly {
		if err := r.owner.EndOlderWrites(r.Context()); err != nil {
			return nil, err
		}
	}
	return stream{"application/jsonl", func(w io.Writer) {
		_ = r.owner.Export(r.Context(), w) // The log and the dump say what went wrong.
	}}, nil
}

func encryptRecords(r *request) (any, error) { return r.owner.Reencrypt(r.Context()) }
