package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	callers = 16
	fillers = 64 // a disk can sync many writes at once
)

// filledStore is a store with a number of families.
type filledStore struct {
	n        int
	name     string
	store    storage.Store
	lifetime time.Duration

	// tokens is a file with the current refresh token and the record ID of each family. In memory, they would distort the
	// size of the process.
	tokens *os.File

	fill         time.Duration
	bytes, files float64 // for each family
	memory       int64   // the size of this process after the first round
	rounds       []round
	swept        []swept
}

// fillStore fills a store with n families. The first ends in an hour, the last after the lifetime.
func fillStore(ctx context.Context, o *options, from *stores, dir string, n int) (*filledStore, error) {
	p := &filledStore{n: n, name: fmt.Sprintf("growth-%d", n), lifetime: o.lifetime}
	var err error
	if p.store, err = from.open(p.name); err != nil {
		return nil, err
	}
	if p.tokens, err = os.Create(filepath.Join(dir, p.name+".tokens")); err != nil {
		return nil, err
	}
	// The first sweep is a full one, which reads all folders. The later ones, which do not, are timed.
	if err := p.sweep(ctx); err != nil {
		return nil, err
	}
	bytes, files, err := from.usage(ctx, p.name)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	err = inParallel(fillers, func(filler int) error {
		for i := filler; i < n && ctx.Err() == nil; i += fillers {
			if err := p.start(ctx, i, p.ends(i, began)); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	p.fill = time.Since(began)
	bytesNow, filesNow, err := from.usage(ctx, p.name)
	p.bytes, p.files = float64(bytesNow-bytes)/float64(n), float64(filesNow-files)/float64(n)
	return p, err
}

func (p *filledStore) ends(i int, now time.Time) time.Time {
	if p.lifetime == 0 {
		return time.Time{}
	}
	return now.Add(time.Hour + p.lifetime/time.Duration(p.n)*time.Duration(i))
}

// start adds a family and writes down its token.
func (p *filledStore) start(ctx context.Context, i int, ends time.Time) error {
	key, token, err := startFamily(ctx, p.store, i, ends)
	if err != nil {
		return err
	}
	return p.note(i, key.ID, token)
}

// startFamily writes the record of a family after its code flow, and returns its first refresh token.
func startFamily(ctx context.Context, store storage.Store, i int, ends time.Time) (storage.Key, string, error) {
	now := time.Now()
	f := &storage.Family{
		Client:   "webapp",
		Subject:  fmt.Sprintf("user-%08d@example.com", i),
		Scopes:   []string{"openid", "orders", "profile"},
		Audience: []string{"https://api.example.com"},
		Claims:   map[string]any{"email": fmt.Sprintf("user-%08d@example.com", i), "name": "A person of average name"},
		AuthTime: now,
		Started:  now,
		Ends:     ends,
		Code: &storage.Code{
			Hash:        make([]byte, 32),
			Expires:     now.Add(time.Minute),
			Redeemed:    now,
			RedirectURI: "https://app.example.com/callback",
			Challenge:   "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
			Offline:     true,
		},
	}
	token, key := f.Start(0)
	record, err := f.Encode()
	if err != nil {
		return key, token, err
	}
	return key, token, store.Put(ctx, key, record, ends)
}

// noteLength is enough for the ID of a record, a space and a token.
const noteLength = 160

func (p *filledStore) note(i int, id, token string) error {
	text := fmt.Sprintf("%-*s", noteLength, id+" "+token)
	_, err := p.tokens.WriteAt([]byte(text), int64(i)*noteLength)
	return err
}

func (p *filledStore) noted(i int) (id, token string, err error) {
	var text [noteLength]byte
	_, err = p.tokens.ReadAt(text[:], int64(i)*noteLength)
	id, token, _ = strings.Cut(strings.TrimSpace(string(text[:])), " ")
	return id, token, err
}

// inParallel runs n goroutines and returns the error of the first that has one.
func inParallel(n int, work func(i int) error) error {
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		all.Go(func() { errs[i] = work(i) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func memoryNow() int64 {
	usage, err := proc.Of(os.Getpid())
	if err != nil {
		return 0 // unknown on this system
	}
	return usage.Memory
}
