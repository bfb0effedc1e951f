package authserver

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// upkeep is the work of a server that no request asks for: it rotates keys, picks up what other nodes did, writes when apps
// were used, and sweeps the store. Every node does it; all of it is idempotent, and what fails is done again later.
type upkeep struct {
	issuer   string
	store    *bounded.Store
	watcher  storage.Watcher // nil if the store cannot report changes
	keys     *keyring.Ring
	clients  *clients.Directory
	cutoffs  *revocation.Cutoffs
	local    *revocation.LocalServers
	revoker  *Revoker
	lastUses *lastUses
	codes    *Codes
	logouts  *logouts // nil without OpenID Connect
	marker   changeMarker
	interval time.Duration // of polls
	outages  *bounded.Outages
	log      *zap.Logger
	now      func() time.Time
}

const (
	keysInterval  = time.Minute
	sweepInterval = 2 * time.Minute // at most; the store knows how often it should
	codesInterval = time.Minute
	usesInterval  = 10 * time.Second // of what storage.UseInterval has left

	// lastWrite is how long a process that ends may take to write when apps were used.
	lastWrite = 3 * time.Second
)

// What upkeep does, for the log.
const (
	polling      = "polling for changes of other nodes"
	rotatingKeys = "rotating keys"
	writingUses  = "writing when apps were used"
	sweeping     = "sweeping expired records"
	sweepingCode = "removing codes that nobody has redeemed"
)

// Run does the server's upkeep until ctx ends.
func (s *Server) Run(ctx context.Context) {
	if s.config.ReadOnly {
		s.log.Info(readOnlyMessage, zap.String("issuer", s.config.Name))
	}
	s.upkeep.run(ctx)
}

// run does each job in a goroutine of its own, so that a long sweep does not delay a revocation.
func (u *upkeep) run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { u.writeUses(ctx) })
	running.Go(func() { u.every(ctx, keysInterval, rotatingKeys, u.keys.Maintain) })
	running.Go(func() {
		leave := u.local.Join(u.cutoffs) // before the first poll, which finds what was revoked until then
		defer leave()
		u.every(ctx, u.interval, polling, u.poll)
	})
	if u.watcher != nil {
		running.Go(func() { u.watch(ctx) })
	}
	if u.logouts != nil {
		running.Go(func() { u.logouts.run(ctx, u.attempt) })
	}
	running.Go(func() { u.every(ctx, sweepInterval, sweeping, u.store.Sweep) })
	running.Go(func() {
		u.every(ctx, codesInterval, sweepingCode, func(ctx context.Context) error {
			return u.codes.sweep(ctx, u.issuer, u.store, u.now())
		})
	})
	running.Wait()
}

// every does a job at once and then again and again until ctx ends. At once, since a configuration may be replaced more often
// than the job is due.
func (u *upkeep) every(ctx context.Context, interval time.Duration, what string, do func(context.Context) error) {
	u.attempt(ctx, what, do)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			u.attempt(ctx, what, do)
		}
	}
}

// attempt does a job that will be done again. A failure with the same cause as before is logged once. That nothing may be
// written is no failure.
func (u *upkeep) attempt(ctx context.Context, what string, do func(context.Context) error) {
	err := do(ctx)
	switch {
	case err == nil:
		u.outages.Worked(what)
	case errors.Is(err, storage.ErrReadOnly):
	case ctx.Err() == nil || !errors.Is(ctx.Err(), context.Canceled):
		level := zap.DebugLevel
		first, fields := u.outages.Failed(what, err)
		if first {
			level = zap.ErrorLevel
		}
		u.log.Log(level, what+" failed; will try again",
			append(fields, zap.String("issuer", u.issuer), zap.Error(err))...)
	}
}

// writeUses writes when apps were used until ctx ends, and then what is left.
func (u *upkeep) writeUses(ctx context.Context) {
	write := func(ctx context.Context) error { return u.lastUses.write(ctx, "") }
	u.every(ctx, usesInterval, writingUses, write)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
	defer cancel()
	u.attempt(ctx, writingUses, write)
}

// poll picks up what other nodes did: revocations, and changes of clients and keys.
func (u *upkeep) poll(ctx context.Context) error {
	return errors.Join(u.cutoffs.Poll(ctx), u.revoker.RetryPending(ctx), u.pollChanges(ctx))
}

// pollChanges reloads clients and keys after an owner changed them on another node. Scheduled rotations do not set the marker:
// every node finds them in its own Maintain.
func (u *upkeep) pollChanges(ctx context.Context) error {
	return u.marker.ifChanged(ctx, func() error {
		return errors.Join(u.clients.Reload(ctx), u.keys.Maintain(ctx))
	})
}

// watchPause is the least time between two polls that the store has asked for. A poll that takes long is followed by a pause
// of ten times as long, so that however many changes there are, polls take little of the time.
const watchPause = 20 * time.Millisecond

// watch polls as soon as the store reports a change, where polling would find it later. All changes during a poll lead to
// one more.
func (u *upkeep) watch(ctx context.Context) {
	var watching sync.WaitGroup
	defer watching.Wait()
	changes := make(chan struct{}, 1)
	report := func() {
		select {
		case changes <- struct{}{}:
		default: // there is one to come
		}
	}
	watching.Go(func() {
		u.watchKind(ctx, storage.KindCutoff, func(id string) {
			if !u.cutoffs.Knows(id) { // unlike those of this node
				report()
			}
		})
	})
	watching.Go(func() { u.watchKind(ctx, changeKey.Kind, func(string) { report() }) })
	for {
		select {
		case <-ctx.Done():
			return
		case <-changes:
		}
		began := time.Now()
		u.attempt(ctx, polling, u.poll)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(watchPause, 10*time.Since(began))):
		}
	}
}

func (u *upkeep) watchKind(ctx context.Context, kind storage.Kind, changed func(id string)) {
	if err := u.watcher.Watch(ctx, kind, changed); err != nil && ctx.Err() == nil {
		u.log.Error("the store does not report changes; they are found by polling only",
			zap.String("issuer", u.issuer), zap.String("kind", string(kind)), zap.Error(err))
	}
}

// changeKey is the record of the change marker.
var changeKey = storage.Key{Kind: storage.KindChange, ID: "changed"}

// checkInterval is how long a node trusts the marker: a node that dies between a change and setting it leaves it as it was.
const checkInterval = time.Minute

// changeMarker is a record that changes whenever a node has changed clients or keys. The other nodes read only this record to
// know that nothing has changed.
type changeMarker struct {
	store storage.Store
	now   func() time.Time

	mu      sync.Mutex // held by the one check that runs
	value   string
	checked time.Time
}

// set reports a change to the other nodes.
func (m *changeMarker) set(ctx context.Context) error {
	// Nothing depends on what is there, which may be damaged.
	return m.store.Put(ctx, changeKey, []byte(rand.Text()), time.Time{})
}

// ifChanged calls reload if the marker has changed, or was not checked for long.
func (m *changeMarker) ifChanged(ctx context.Context, reload func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	record, err := m.store.Get(ctx, changeKey)
	switch {
	case errors.Is(err, storage.ErrDamaged): // it may have changed before; all nodes look, once
		if err := m.set(ctx); err != nil && !errors.Is(err, storage.ErrReadOnly) {
			return err
		}
		m.value = ""
		return reload()
	case err != nil && !errors.Is(err, storage.ErrNotFound):
		return err
	}
	now := m.now()
	if string(record) == m.value && now.Sub(m.checked) < checkInterval {
		return nil
	}
	if err := reload(); err != nil {
		return err
	}
	m.value, m.checked = string(record), now
	return nil
}
