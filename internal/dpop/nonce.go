package dpop

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"
)

// Nonces are the nonces that proofs must have (RFC 9449 §8), so that nobody can make proofs for later. They follow from a secret that all
// nodes of an issuer have and from the time, so that no node has to remember any.
type Nonces struct {
	Secret func(ctx context.Context) ([32]byte, error)
}

// nonceStep is how often there is a new nonce. The one before stays good as long, and so does the next one: the clocks of the nodes may
// differ.
const nonceStep = time.Minute

func (n *Nonces) current(ctx context.Context, now time.Time) (string, error) {
	secret, err := n.Secret(ctx)
	if err != nil {
		return "", err
	}
	return nonceOf(secret, now), nil
}

// fresh reports whether a proof may have a nonce now.
func (n *Nonces) fresh(ctx context.Context, nonce string, now time.Time) (bool, error) {
	secret, err := n.Secret(ctx)
	if err != nil {
		return false, err
	}
	for _, shift := range []time.Duration{0, -nonceStep, nonceStep} {
		if subtle.ConstantTimeCompare([]byte(nonce), []byte(nonceOf(secret, now.Add(shift)))) == 1 {
			return true, nil
		}
	}
	return false, nil
}

// nonceOf returns the nonce of the step that a time is in.
func nonceOf(secret [32]byte, t time.Time) string {
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte("caddy-oauth: DPoP nonce"))
	mac.Write([]byte(t.Truncate(nonceStep).UTC().Format(time.RFC3339)))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}
