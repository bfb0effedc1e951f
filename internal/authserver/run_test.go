package authserver

import (
	"context"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// sweptStore reports when it is swept.
type sweptStore struct {
	storage.Store

	swept chan struct{}
}

func (s *sweptStore) Sweep(context.Context) error {
	s.swept <- struct{}{}
	return nil
}

// The store is also swept if the configuration is reloaded every few minutes.
func TestSweepsAtStart(t *testing.T) {
	store := &sweptStore{memory.New(), make(chan struct{})}
	s := newTestServer(t, func(c *Config) { c.Store = store })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		s.Run(ctx)
		close(ended)
	}()
	<-store.swept
	cancel()
	<-ended
}
