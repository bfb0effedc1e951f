package storage

import "google.golang.org/protobuf/encoding/protowire"

// Confirmation names the key that tokens are bound to (RFC 7800 §3.1): whoever uses them must prove to have it. The zero value binds
// them to none.
type Confirmation struct {
	Thumbprint string `json:"jkt,omitempty"` // SHA-256, of the public key of DPoP proofs (RFC 9449 §6.1)
}

// IsZero reports whether there is no key.
func (c Confirmation) IsZero() bool { return c == Confirmation{} }

// The fields of a confirmation.
const confirmationThumbprint protowire.Number = 1

func (c *Confirmation) encode(w *fieldWriter) {
	w.text(confirmationThumbprint, c.Thumbprint)
}

func (c *Confirmation) decode(field field) error {
	if field.number == confirmationThumbprint {
		c.Thumbprint = field.text
	}
	return nil
}
