package caddyoauth

import (
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// DPoPSettings are about the proofs by which clients show that they have the key that their tokens are bound to (DPoP, RFC 9449).
type DPoPSettings struct {
	// Whether each proof must have a nonce that this server gave a minute or two ago: `required` or `none`. Nobody can make proofs for
	// later then, but each client has to send its first request twice, and the clients must know nonces. The guards of the issuer on
	// this Caddy require them as well. Default: `none`.
	Nonce string `json:"nonce,omitempty"`
}

func (d *DPoPSettings) check() error {
	if d == nil {
		return nil
	}
	return directive.At("nonce", checkChoice(d.Nonce, "required", "none"))
}

// nonce reports whether proofs must have a nonce.
func (d *DPoPSettings) nonce() bool { return d != nil && d.Nonce == "required" }

func (p parser) dpop(i *Issuer) directive.Setting {
	return p.Nested(func() directive.Settings {
		i.DPoP = new(DPoPSettings)
		return directive.Settings{"nonce": p.Word("required or none", &i.DPoP.Nonce)}
	})
}
