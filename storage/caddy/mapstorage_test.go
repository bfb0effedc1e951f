package caddystore

import (
	"context"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// mapStorage is a certmagic.Storage in a map. As an object store does, it lists only values. It returns its own bytes, not copies, so
// that a caller who changes them is detected.
type mapStorage struct {
	mu     sync.Mutex
	values map[string][]byte
	locks  map[string]chan struct{}
	calls  int

	// deletesOne makes Delete remove only the key, and nothing below it.
	deletesOne bool
}

func newMapStorage() *mapStorage {
	return &mapStorage{values: map[string][]byte{}, locks: map[string]chan struct{}{}}
}

func (s *mapStorage) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	time.Sleep(20 * time.Microsecond) // as if over a network
	s.mu.Lock()
	s.calls++
	return s.mu.Unlock, nil
}

func (s *mapStorage) Lock(ctx context.Context, name string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	lock := s.locks[name]
	if lock == nil {
		lock = make(chan struct{}, 1)
		s.locks[name] = lock
	}
	leave()
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *mapStorage) Unlock(ctx context.Context, name string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	select {
	case <-s.locks[name]:
		return nil
	default:
		return fmt.Errorf("%s is not locked", name)
	}
}

func (s *mapStorage) Store(ctx context.Context, key string, value []byte) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	s.values[key] = value
	return nil
}

func (s *mapStorage) Load(ctx context.Context, key string) ([]byte, error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	value, ok := s.values[key]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return value, nil
}

func (s *mapStorage) Delete(ctx context.Context, key string) error {
	leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	delete(s.values, key)
	for other := range s.values {
		if !s.deletesOne && strings.HasPrefix(other, key+"/") {
			delete(s.values, other)
		}
	}
	return nil
}

func (s *mapStorage) Exists(ctx context.Context, key string) bool {
	_, err := s.Load(ctx, key)
	return err == nil
}

func (s *mapStorage) List(ctx context.Context, dir string, recursive bool) (keys []string, err error) {
	leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	for key := range s.values {
		below, ok := strings.CutPrefix(key, dir+"/")
		if ok && (recursive || !strings.Contains(below, "/")) {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

func (s *mapStorage) Stat(ctx context.Context, key string) (certmagic.KeyInfo, error) {
	value, err := s.Load(ctx, key)
	return certmagic.KeyInfo{Key: key, Size: int64(len(value)), IsTerminal: true}, err
}
