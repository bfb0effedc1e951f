package authserver

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
)

// sealer seals texts that a browser keeps and sends back. All nodes of an issuer have the same key.
type sealer struct {
	keys *keyring.Ring
	now  func() time.Time
}

// seal returns a sealed text. Nobody else can read, change or make one, and it opens only for the same purpose, within its
// lifetime.
func (s sealer) seal(ctx context.Context, purpose, text string, lifetime time.Duration) (string, error) {
	aead, err := s.cipher(ctx)
	if err != nil {
		return "", err
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(s.now().Add(lifetime).Unix()))
	plain = append(plain, text...)
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, plain, []byte(purpose))), nil
}

// open returns the text that was sealed for the purpose, or errStale.
func (s sealer) open(ctx context.Context, purpose, sealed string) (string, error) {
	aead, err := s.cipher(ctx)
	if err != nil {
		return "", err
	}
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return "", errStale
	}
	plain, err := aead.Open(nil, nil, raw, []byte(purpose))
	if err != nil || len(plain) < 8 {
		return "", errStale
	}
	if s.now().Unix() >= int64(binary.BigEndian.Uint64(plain)) {
		return "", errStale
	}
	return string(plain[8:]), nil
}

func (s sealer) cipher(ctx context.Context) (cipher.AEAD, error) {
	secret, err := s.keys.Secret(ctx)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, secret[:])
	mac.Write([]byte("caddy-oauth: sealed text"))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

var errStale = &grants.Error{
	Code:        grants.InvalidRequest,
	Description: "this page is no longer valid: go back to the app and start again",
	Status:      http.StatusForbidden,
}
