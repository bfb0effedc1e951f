package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

// storePlan says where to write, and for how long.
type storePlan struct {
	Dir     string
	Measure time.Duration
}

type storeResult struct {
	Writes  int
	Seconds float64
}

const (
	storeWriters = 16
	storeKeys    = 64
	storeBytes   = 600 // about as long as a family's record
)

// overwrite is the work that refreshes in the default store are compared with: certmagic overwrites files and syncs them, as
// often as it can.
func overwrite(ctx context.Context, plan *storePlan) (*storeResult, error) {
	dir, err := os.MkdirTemp(plan.Dir, "store-*")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // close removes the parent directory
	storage := &certmagic.FileStorage{Path: dir}
	value := make([]byte, storeBytes)
	key := func(n int) string { return filepath.Join("records", fmt.Sprintf("%02d", n%storeKeys)) }
	for n := range storeKeys {
		if err := storage.Store(ctx, key(n), value); err != nil {
			return nil, err
		}
	}
	var all sync.WaitGroup
	var counts [storeWriters]int
	var errs [storeWriters]error
	began := time.Now()
	for writer := range storeWriters {
		all.Go(func() {
			for ; errs[writer] == nil && (counts[writer] == 0 || time.Since(began) < plan.Measure); counts[writer]++ {
				errs[writer] = storage.Store(ctx, key(writer*7+counts[writer]), value)
			}
		})
	}
	all.Wait()
	result := &storeResult{Seconds: time.Since(began).Seconds()}
	for writer, count := range counts {
		if errs[writer] != nil {
			return nil, errs[writer]
		}
		result.Writes += count
	}
	return result, nil
}
