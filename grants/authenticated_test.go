package grants_test

import (
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A client that may use its key or not must go on using it for the tokens of a family that it used it for.
func TestClientThatUsedItsKey(t *testing.T) {
	either := func(c *storage.Client) {
		c.JWKSURI = "https://app.example.com/jwks"
		c.AuthMethods = []string{storage.MethodNone, storage.MethodKey}
	}
	for _, keep := range []bool{false, true} {
		plain := newSite(t).reconfigured(func(c *storage.Client) { either(c); c.RefreshToken.Keep = keep })
		keyed := plain.reconfigured(nil)
		keyed.keyed = true
		code := plain.approve(storage.Code{Offline: true})
		auth, err := plain.redeem(code, nil)
		if err != nil {
			t.Fatal(err)
		}
		if auth, err = plain.refresh(auth.RefreshToken, nil); err != nil {
			t.Fatalf("the key was never used: %v", err)
		}
		lost := auth.RefreshToken
		if auth, err = keyed.refresh(lost, nil); err != nil {
			t.Fatal(err)
		}
		for name, token := range map[string]string{"the newest token": auth.RefreshToken, "the one before": lost} {
			_, err = plain.refresh(token, nil)
			plain.wantRefused(name+" without the key", err, grants.InvalidClient)
		}
		if _, err = keyed.refresh(auth.RefreshToken, nil); err != nil {
			t.Errorf("with the key, after an attempt without: %v", err)
		}
	}

	t.Run("from the code on", func(t *testing.T) {
		keyed := newSite(t).reconfigured(either)
		keyed.keyed = true
		token := keyed.firstToken()
		plain := keyed.reconfigured(nil)
		plain.keyed = false
		_, err := plain.refresh(token, nil)
		plain.wantRefused("without the key", err, grants.InvalidClient)
	})
	t.Run("a lost answer", func(t *testing.T) {
		plain := newSite(t).reconfigured(either)
		keyed := plain.reconfigured(nil)
		keyed.keyed = true
		first := plain.firstToken()
		second, err := plain.refresh(first, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keyed.refresh(first, nil); err != nil { // the repeat uses the key
			t.Fatal(err)
		}
		_, err = plain.refresh(second.RefreshToken, nil)
		plain.wantRefused("without the key", err, grants.InvalidClient)
	})
	t.Run("a client that always authenticates", func(t *testing.T) {
		s := newSite(t).reconfigured(func(c *storage.Client) { c.SecretHashes = []string{"sha256:00"} })
		token := s.firstToken()
		key, _ := storage.RefreshKey(token)
		record, err := s.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if f, err := storage.DecodeFamily(record); err != nil || f.Authenticated {
			t.Errorf("its family says that it authenticated: %+v, error %v", f, err)
		}
		s.later = time.Second
		if _, err := s.reconfigured(func(c *storage.Client) { c.SecretHashes = nil }).refresh(token, nil); err != nil {
			t.Errorf("its owner made it public: %v", err)
		}
	})
}
