package authserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// logouts ends sign-ins: their tokens, and the sessions of the clients, which it tells (OpenID Connect Back-Channel Logout). Each
// logout is stored as a record before the request is answered, so that no crash and no reload loses it. Any node works on the
// records; it claims a record before it begins, so that only one node at a time works on it. If that node dies, another one
// continues, and a client can get the same logout token, with the same jti, a second time.
type logouts struct {
	issuer, url string
	store       storage.Store
	sessions    *sessionRecords
	revoker     *Revoker
	keys        *keyring.Ring
	pairwise    *pairwise
	clients     *clients.Directory
	configured  map[string]*storage.Client // whose addresses are the owner's
	fetcher     *fetch.Fetcher
	loopback    bool // the issuer is on this machine only
	events      *eventLog
	log         *zap.Logger
	now         func() time.Time

	queued atomic.Int64  // records that are in the store, about
	wake   chan struct{} // there may be something to do
}

const (
	// logoutLife is how long a logout is kept that no node gets to, as all are down.
	logoutLife = 72 * time.Hour
	// logoutClaim is how long a node has a record for itself. It is longer than all of its notices take, which are sent at once.
	logoutClaim = 30 * time.Second
	// logoutInterval is how often a node looks for what other nodes have left.
	logoutInterval = 15 * time.Second
	// maxLogouts is how many records may wait. Beyond them, clients are not told.
	maxLogouts = 10_000
	// logoutsAtOnce is how many records a node works on at once.
	logoutsAtOnce = 32
	// logoutTokenLife is how long a logout token is valid (OpenID Connect Back-Channel Logout §2.4).
	logoutTokenLife = 2 * time.Minute
	logoutTokenType = "logout+jwt"
	logoutEvent     = "http://schemas.openid.net/event/backchannel-logout"
	// noticeAge is how long after the logout the server still sends a notice that the rate limit of its address has delayed.
	noticeAge = 48 * time.Hour
)

// noticePauses are the pauses after failed attempts to tell a client. After the attempt that follows the last one, the server gives up.
var noticePauses = []time.Duration{3 * time.Second, 10 * time.Second, 25 * time.Second}

// end ends sign-ins of a person. It returns when that is in the store, and as a rule when the tokens have ended. address is as in
// RevokeFamily.
//
// Tokens are revoked even if the store is full, since tombstones overwrite records. end goes on after an error and returns it. The
// caller can try again: what was revoked stays revoked.
func (l *logouts) end(ctx context.Context, subject string, ended []storage.SignIn, reason, address string) error {
	if len(ended) == 0 {
		return nil
	}
	defer l.wakeUp()
	work := l.plan(ctx, subject, ended, reason, true)
	queued, err := l.enqueue(ctx, work)
	if err == nil {
		err = l.sessions.forget(ctx, subject, ended)
		l.events.record(&Event{Name: eventSignedOut, Subject: subject, Address: address, Reason: reason})
	}
	for i, logout := range work {
		if failed := l.endTokens(ctx, logout); i >= queued { // else a node tries again
			err = errors.Join(err, failed)
		}
	}
	return err
}

// revoked tells clients of a revocation that has ended all tokens of a person, or those at one client.
func (l *logouts) revoked(ctx context.Context, subject, client, reason string) error {
	sessions, err := l.sessions.of(ctx, subject)
	if err != nil {
		return err
	}
	ended := sessions.Select(l.now(), func(in *storage.SignIn) bool { return client == "" || in.Client == client })
	if len(ended) == 0 {
		return nil
	}
	defer l.wakeUp()
	if _, err := l.enqueue(ctx, l.plan(ctx, subject, ended, reason, false)); err != nil {
		return err
	}
	return l.sessions.forget(ctx, subject, ended)
}

// plan returns what has to be done to end sign-ins.
func (l *logouts) plan(ctx context.Context, subject string, ended []storage.SignIn, reason string, tokens bool) (work []*storage.Logout) {
	now := l.now()
	for group := range slices.Chunk(ended, storage.MaxNotices) {
		logout := &storage.Logout{Subject: subject, Reason: reason, Created: now}
		for _, in := range group {
			if tokens {
				for _, f := range in.Families {
					logout.Families = append(logout.Families, f.ID)
				}
				if in.More && !slices.Contains(logout.Clients, in.Client) {
					logout.Clients = append(logout.Clients, in.Client)
				}
			}
			if client, err := l.clients.Find(ctx, in.Client); err != nil || client != nil && client.OpenID != nil && client.OpenID.BackchannelLogoutURI != "" {
				logout.Notices = append(logout.Notices, storage.Notice{ID: rand.Text(), Client: in.Client, Session: in.Session, Next: now})
			}
		}
		if !logout.Done() {
			work = append(work, logout)
		}
	}
	return work
}

// enqueue writes records, the first of them that there is room for, and returns how many that are.
func (l *logouts) enqueue(ctx context.Context, work []*storage.Logout) (queued int, err error) {
	for i, logout := range work {
		if l.queued.Load() >= maxLogouts {
			for _, late := range work[i:] {
				for _, notice := range late.Notices {
					l.giveUp(late, &notice, errTooManyLogouts)
				}
			}
			return i, nil
		}
		end := logout.Created.Add(logoutLife)
		record, err := logout.Encode()
		if err == nil {
			err = l.store.Put(ctx, storage.LogoutKey(end), record, end)
		}
		if err != nil {
			return i, err
		}
		l.queued.Add(1)
	}
	return len(work), nil
}

var errTooManyLogouts = errors.New("too many logouts are waiting")

// wakeUp starts the next round at once.
func (l *logouts) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default: // it is awake
	}
}

// endTokens ends the tokens of a logout. Those that have ended are no longer in it. One that does not end holds up no other.
func (l *logouts) endTokens(ctx context.Context, logout *storage.Logout) (failed error) {
	if len(logout.Families)+len(logout.Clients) == 0 {
		return nil
	}
	if err := l.revoker.cutoffs.Load(ctx); err != nil {
		return err
	}
	// left returns what has not ended. When the time is over, nothing more is tried.
	left := func(all []string, end func(string) error) (left []string) {
		for i, one := range all {
			err := end(one)
			failed = cmp.Or(failed, err)
			if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
				return append(left, all[i:]...)
			}
			if err != nil {
				left = append(left, one)
			}
		}
		return left
	}
	logout.Families = left(logout.Families, func(id string) error {
		if l.revoker.cutoffs.HasFamilyCutoff(id) { // it was revoked before
			return nil
		}
		return l.revoker.RevokeFamily(ctx, id, logout.Reason, "")
	})
	if len(logout.Clients) == 0 {
		return failed
	}
	// What another node has cut must not be cut again: the person may have signed in since.
	if err := l.revoker.cutoffs.Sync(ctx); err != nil {
		return cmp.Or(failed, err)
	}
	logout.Clients = left(logout.Clients, func(client string) error {
		if l.revoker.cutoffs.Voids(logout.Subject, client, logout.Created) {
			return nil
		}
		return l.revoker.cutTokens(ctx, logout.Subject, client, logout.Reason)
	})
	return failed
}

// endingSignIns is what run does, for the log.
const endingSignIns = "ending sign-ins, and telling clients"

// run does what is in the store until ctx ends.
func (l *logouts) run(ctx context.Context, attempt func(ctx context.Context, what string, do func(context.Context) error)) {
	r := l.newRounds()
	defer r.working.Wait()
	for {
		attempt(ctx, endingSignIns, r.round)
		if !r.wait(ctx) {
			return
		}
	}
}

// logoutRounds works on the logouts in the store, in rounds. Each round starts those that are due and does not wait for them, so that
// clients which do not answer delay no others, unless they occupy all slots.
type logoutRounds struct {
	*logouts
	slots   chan struct{}
	working sync.WaitGroup
	sooner  chan struct{} // next is earlier than it was

	mu     sync.Mutex
	busy   map[string]bool  // the records that this node works on, by their IDs
	failed map[string]error // what was wrong with a record the last time
	next   time.Time        // when the next round is due
}

func (l *logouts) newRounds() *logoutRounds {
	return &logoutRounds{
		logouts: l, slots: make(chan struct{}, logoutsAtOnce), sooner: make(chan struct{}, 1),
		busy: make(map[string]bool), failed: make(map[string]error),
	}
}

// wait waits until the next round is due. It returns false if ctx has ended.
func (r *logoutRounds) wait(ctx context.Context) bool {
	earliest := r.now().Add(100 * time.Millisecond)
	for {
		r.mu.Lock()
		next := r.next
		r.mu.Unlock()
		if next.Before(earliest) {
			next = earliest
		}
		timer := time.NewTimer(next.Sub(r.now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-r.wake:
			timer.Stop()
			return true
		case <-timer.C:
			return true
		case <-r.sooner:
			timer.Stop()
		}
	}
}

// round begins what is due. It returns what was wrong with one of the records in the store when they were worked on before.
func (r *logoutRounds) round(ctx context.Context) error {
	r.mu.Lock()
	r.next = r.now().Add(logoutInterval)
	r.mu.Unlock()
	var ids []string // first all, since the store does not wait for clients
	for id, err := range r.store.List(ctx, storage.KindLogout) {
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	r.queued.Store(int64(len(ids)))
	for _, id := range ids {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !r.begin(id) {
			continue
		}
		r.slots <- struct{}{}
		r.working.Go(func() {
			defer func() { <-r.slots }()
			due, err := r.workOn(ctx, storage.Key{Kind: storage.KindLogout, ID: id})
			r.end(id, due, err)
		})
	}
	return r.failure(ids)
}

// begin reports whether to work on a record: not if this node is at it.
func (r *logoutRounds) begin(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[id] {
		return false
	}
	r.busy[id] = true
	return true
}

// end records that this node has stopped working on a record. due is when to continue; zero: it is done.
func (r *logoutRounds) end(id string, due time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, id)
	if delete(r.failed, id); err != nil {
		r.failed[id] = err
	}
	if due.IsZero() || !due.Before(r.next) {
		return
	}
	r.next = due
	select {
	case r.sooner <- struct{}{}:
	default: // it looks
	}
}

// failure returns what was wrong with the first such record, and forgets that of records that are gone.
func (r *logoutRounds) failure(ids []string) (first error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := make(map[string]error)
	for _, id := range ids {
		if err := r.failed[id]; err != nil {
			left[id], first = err, cmp.Or(first, err)
		}
	}
	r.failed = left
	return first
}

// workOn does what is due of one record, and returns when there is more of it.
func (l *logouts) workOn(ctx context.Context, key storage.Key) (next time.Time, err error) {
	defer func() {
		if p := recover(); p != nil { // nobody else does in a goroutine of its own
			next, err = time.Time{}, fmt.Errorf("panic: %v", p)
		}
	}()
	record, err := l.store.Get(ctx, key) // which takes no lock
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return time.Time{}, nil
	case errors.Is(err, storage.ErrDamaged), errors.Is(err, storage.ErrUnknownKey):
		return time.Time{}, bounded.NameRecord(key, err)
	case err != nil:
		return time.Time{}, err
	}
	logout, err := storage.DecodeLogout(record)
	if err != nil {
		return time.Time{}, bounded.NameRecord(key, err)
	}
	if due := logout.Due(); due.After(l.now()) {
		return due, nil
	}
	logout, at, err := l.claim(ctx, key)
	if logout == nil || err != nil {
		return time.Time{}, err
	}
	tokens := l.endTokens(ctx, logout)
	results := l.tellAll(ctx, logout, at)
	err = l.store.Update(context.WithoutCancel(ctx), key, func(old []byte) ([]byte, time.Time, error) {
		if old == nil {
			return nil, time.Time{}, storage.ErrKeep
		}
		stored, err := storage.DecodeLogout(old)
		if err != nil {
			return nil, time.Time{}, err
		}
		stored.Families, stored.Clients, stored.Claimed = logout.Families, logout.Clients, time.Time{}
		stored.Notices = slices.DeleteFunc(stored.Notices, func(n storage.Notice) bool {
			result, ok := results[n.ID]
			return ok && result == nil
		})
		for i, n := range stored.Notices {
			if result := results[n.ID]; result != nil {
				stored.Notices[i] = *result
			}
		}
		next = stored.Due()
		if stored.Done() {
			next = time.Time{}
			return nil, time.Time{}, nil
		}
		value, err := stored.Encode()
		return value, stored.Created.Add(logoutLife), err
	})
	return next, cmp.Or(tokens, err)
}

// claim takes a record for this node at a time, and counts the attempts that begin: those that are due then, and no others. It returns nil
// if another node was faster.
func (l *logouts) claim(ctx context.Context, key storage.Key) (claimed *storage.Logout, at time.Time, err error) {
	err = l.store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		claimed = nil
		if old == nil {
			return nil, time.Time{}, storage.ErrKeep
		}
		logout, err := storage.DecodeLogout(old)
		now := l.now()
		if err != nil || logout.Due().After(now) {
			return nil, time.Time{}, cmp.Or(err, storage.ErrKeep)
		}
		logout.Claimed = now.Add(logoutClaim)
		for i, n := range logout.Notices {
			if !n.Next.After(now) {
				logout.Notices[i].Attempts = max(n.Attempts, 0) + 1
			}
		}
		claimed, at = logout, now
		value, err := logout.Encode()
		return value, logout.Created.Add(logoutLife), err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return claimed, at, nil
}

// tellAll tells the clients whose notices were due when the record was claimed. Of each it returns by the ID what becomes of the notice,
// nil if it is done.
func (l *logouts) tellAll(ctx context.Context, logout *storage.Logout, claimed time.Time) map[string]*storage.Notice {
	var (
		mu      sync.Mutex
		telling sync.WaitGroup
	)
	results := make(map[string]*storage.Notice)
	for _, n := range logout.Notices {
		if n.Next.After(claimed) {
			continue
		}
		telling.Go(func() {
			result := l.sendNotice(ctx, logout, n)
			mu.Lock()
			defer mu.Unlock()
			results[n.ID] = result
		})
	}
	telling.Wait()
	return results
}

// sendNotice sends one logout token. It returns the notice for the next attempt, nil if there is none.
func (l *logouts) sendNotice(ctx context.Context, logout *storage.Logout, n storage.Notice) (again *storage.Notice) {
	defer func() {
		if p := recover(); p != nil { // nobody else does in a goroutine of its own
			again = nil
			l.giveUp(logout, &n, fmt.Errorf("panic: %v", p))
		}
	}()
	err := l.send(ctx, logout, &n)
	fetched, _ := errors.AsType[*fetch.Error](err)
	var unable *unableToTell
	switch now := l.now(); {
	case err == nil:
		l.log.Info("client told of a logout", l.noticeFields(logout, &n)...)
		l.events.record(&Event{Name: eventLogoutSent, Client: n.Client, Subject: logout.Subject, Reason: logout.Reason})
		return nil
	case errors.As(err, &unable), fetched != nil && fetched.Reason == fetch.InvalidURL:
		l.giveUp(logout, &n, err)
		return nil
	case ctx.Err() != nil: // the process ends, or has a new configuration: another one does it
		n.Attempts, n.Next = max(n.Attempts-1, 0), now
		return &n
	case fetched == nil || !fetched.Sent(): // there was no attempt
		if now.Sub(logout.Created) > noticeAge {
			l.giveUp(logout, &n, err)
			return nil
		}
		pause := noticePauses[0]
		if fetched != nil {
			pause = max(pause, fetched.Retry)
		}
		n.Attempts, n.Next = max(n.Attempts-1, 0), now.Add(pause)
		return &n
	case n.Attempts > len(noticePauses):
		l.giveUp(logout, &n, err)
		return nil
	default:
		n.Next = now.Add(noticePauses[max(n.Attempts-1, 0)])
		l.log.Warn("client not told of a logout; will try again", append(l.noticeFields(logout, &n),
			zap.Int("attempt", n.Attempts), zap.Duration("next", n.Next.Sub(now)), zap.Error(err))...)
		return &n
	}
}

func (l *logouts) giveUp(logout *storage.Logout, n *storage.Notice, err error) {
	l.log.Error("client not told of a logout; given up", append(l.noticeFields(logout, n),
		zap.Int("attempts", n.Attempts), zap.Error(err))...)
	l.events.record(&Event{Name: eventLogoutFailed, Client: n.Client, Subject: logout.Subject, Reason: logout.Reason})
}

func (l *logouts) noticeFields(logout *storage.Logout, n *storage.Notice) []zap.Field {
	return []zap.Field{
		zap.String("issuer", l.issuer), zap.String("client_id", n.Client), zap.String("sub", logout.Subject),
		zap.String("setting", "client "+n.Client+": backchannel_logout_uri"),
	}
}

// unableToTell says why a client cannot be told, however often that is tried.
type unableToTell struct{ why string }

func (e *unableToTell) Error() string { return e.why }

// logoutClaims are the claims of a logout token (OpenID Connect Back-Channel Logout §2.4). It never has a nonce.
type logoutClaims struct {
	Issuer   string              `json:"iss"`
	Subject  string              `json:"sub"`
	Audience string              `json:"aud"`
	IssuedAt int64               `json:"iat"`
	Expires  int64               `json:"exp"`
	ID       string              `json:"jti"`
	Session  string              `json:"sid,omitempty"`
	Events   map[string]struct{} `json:"events"`
}

// send sends a logout token to a client.
func (l *logouts) send(ctx context.Context, logout *storage.Logout, n *storage.Notice) error {
	client, err := l.clients.Find(ctx, n.Client)
	switch {
	case err != nil:
		return err
	case client == nil || client.OpenID == nil || client.OpenID.BackchannelLogoutURI == "":
		return &unableToTell{"the client is gone, or has no backchannel_logout_uri any more"}
	case client.OpenID.BackchannelLogoutSession && n.Session == "":
		return &unableToTell{"the client requires a session ID, and the site gave none: session { sid }"}
	}
	now := l.now()
	payload, err := json.Marshal(logoutClaims{
		Issuer: l.url, Subject: l.pairwise.subject(client, logout.Subject), Audience: client.ID, IssuedAt: now.Unix(), Expires: now.Add(logoutTokenLife).Unix(),
		ID: n.ID, Session: l.pairwise.session(client, n.Session), Events: map[string]struct{}{logoutEvent: {}},
	})
	if err != nil {
		return err
	}
	signer, err := l.keys.LoadFor(ctx, client.OpenID.IDTokenAlgorithm)
	if err != nil {
		return err
	}
	token, err := signer.SignWith(client.OpenID.IDTokenAlgorithm, logoutTokenType, payload)
	if err != nil {
		return err
	}
	_, owners := l.configured[client.ID]
	return l.fetcher.Post(ctx, fetch.Message{
		URL: client.OpenID.BackchannelLogoutURI, Form: url.Values{"logout_token": {token}}, Trusted: owners, Loopback: l.loopback,
	})
}
