package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// tripStore counts the operations on consents.
type tripStore struct {
	storage.Store
	trips int
}

func (s *tripStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	if key.Kind == storage.KindConsent {
		s.trips++
	}
	return s.Store.Get(ctx, key)
}

func (s *tripStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if key.Kind == storage.KindConsent {
		s.trips++
	}
	return s.Store.Update(ctx, key, change)
}

// usesFixture is a lastUses over a store that knows no consents and, unless a test adds some, no cutoffs.
func usesFixture(t *testing.T) (*lastUses, *tripStore) {
	t.Helper()
	clock := testclock.New()
	store := &tripStore{Store: testclock.NewStore(clock.Now)}
	return newLastUses(&consentRecords{store: store}, revocation.New(revocation.Config{
		Store: store, Timeout: time.Minute, LocalServers: revocation.NewLocalServers(), Logger: zap.NewNop(), Now: clock.Now,
	})), store
}

// written returns the record of alice's use of the client app.
func (u *lastUses) written(t *testing.T, write string) (storage.Consent, bool) {
	t.Helper()
	if err := u.write(t.Context(), write); err != nil {
		t.Fatal(err)
	}
	record, err := u.consents.store.(*tripStore).Store.Get(t.Context(), storage.ConsentKey("alice"))
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	consents, err := storage.DecodeConsents("alice", record)
	if err != nil {
		t.Fatal(err)
	}
	consent, ok := consents.Clients["app"]
	return consent, ok
}

func TestTokensCostNoConsentTrip(t *testing.T) {
	store := new(tripStore)
	s := newTestServer(t, func(c *Config) { store.Store, c.Store = c.Store, store })
	tokens := s.tokens(t)
	before := store.trips
	for range 5 {
		s.clock.Advance(2 * storage.UseInterval)
		tokens["refresh_token"] = s.token(t, refreshes(tokens["refresh_token"].(string))).json(t)["refresh_token"]
	}
	if store.trips != before {
		t.Errorf("refreshes cost %d trips", store.trips-before)
	}
}

// client_credentials is not a use of a person's account.
func TestClientCredentialsAreNoUse(t *testing.T) {
	s := newTestServer(t)
	s.token(t, asBilling()).check(t, http.StatusOK, "")
	if len(s.lastUses.pending) != 0 {
		t.Errorf("%v is pending, want nothing", s.lastUses.pending)
	}
}

func TestUsesAreWrittenOnceAnHour(t *testing.T) {
	u, store := usesFixture(t)
	for minute := range 121 {
		u.record("alice", "app", use{epoch.Add(time.Duration(minute) * time.Minute), epoch.Add(time.Duration(minute) * time.Minute), []string{"orders"}, time.Time{}})
		u.written(t, "")
	}
	consent, _ := u.written(t, "")
	if store.trips != 3 || !consent.Since.Equal(epoch) || !consent.Used.Equal(epoch.Add(2*time.Hour)) {
		t.Errorf("%d writes in two hours, since %v, used %v", store.trips, consent.Since, consent.Used)
	}
}

func TestFurtherScopesAreWrittenAtOnce(t *testing.T) {
	u, store := usesFixture(t)
	for _, scopes := range [][]string{{"orders"}, {"orders", "mail"}, {"mail"}, {}, {"orders"}} {
		u.record("alice", "app", use{epoch, epoch, scopes, time.Time{}})
		u.written(t, "")
	}
	if consent, _ := u.written(t, ""); store.trips != 2 || !slices.Equal(consent.All(), []string{"mail", "orders"}) {
		t.Errorf("%d writes of %q", store.trips, consent.All())
	}
}

func TestUsesOfOnePersonAreWrittenAlone(t *testing.T) {
	u, store := usesFixture(t)
	for _, person := range []string{"alice", "bob"} {
		u.record(person, "app", use{epoch, epoch, nil, time.Time{}})
	}
	if _, ok := u.written(t, "alice"); !ok || store.trips != 1 {
		t.Errorf("written is %v, after %d writes", ok, store.trips)
	}
	if u.written(t, ""); store.trips != 2 {
		t.Errorf("%d writes for two people", store.trips)
	}
}

// A use before a revocation must not be written after it. A use after it must be written.
func TestUsesAndRevocation(t *testing.T) {
	u, _ := usesFixture(t)
	u.record("alice", "app", use{epoch, epoch, []string{"orders"}, time.Time{}})
	cutoff := &storage.Cutoff{Subject: "alice", Client: "app", Before: epoch.Add(time.Minute)}
	if err := u.cutoffs.Add(t.Context(), cutoff); err != nil {
		t.Fatal(err)
	}
	if consent, ok := u.written(t, ""); ok {
		t.Errorf("revoked access is back: %+v", consent)
	}
	u.record("alice", "app", use{epoch.Add(2 * time.Minute), epoch.Add(2 * time.Minute), []string{"mail"}, time.Time{}})
	if consent, ok := u.written(t, ""); !ok || !slices.Equal(consent.All(), []string{"mail"}) {
		t.Errorf("the use after the revocation is %v, %q", ok, consent.All())
	}
}

func TestUsesSurviveABrokenStore(t *testing.T) {
	u, _ := usesFixture(t)
	u.record("alice", "app", use{epoch, epoch, nil, time.Time{}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := u.write(ctx, ""); err == nil {
		t.Fatal("a write that cannot be is no error")
	}
	if _, ok := u.written(t, ""); !ok {
		t.Error("a use that could not be written is lost")
	}
}

func TestUsesAreBounded(t *testing.T) {
	u, _ := usesFixture(t)
	for i := range maxUses + 10 {
		u.record(fmt.Sprint(i), "app", use{epoch, epoch, nil, time.Time{}})
	}
	if len(u.recorded) != maxUses || len(u.pending) != maxUses {
		t.Errorf("%d are recorded, %d pending, want %d", len(u.recorded), len(u.pending), maxUses)
	}
}

// Pending uses are written when the process shuts down gracefully.
func TestRunWritesUsesAtItsEnd(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"))
	s.tokens(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Run(ctx)
	consents, err := s.consents.of(t.Context(), "alice")
	if err != nil || !consents.Clients["webapp"].Used.Equal(s.clock.Now()) {
		t.Errorf("%+v %v", consents, err)
	}
}

// What a person did not approve is kept for as long as tokens of the client can live, at least for a while, and no longer: the users of a
// grant can be of other issuers, and without number.
func TestConsentWithoutApprovalExpires(t *testing.T) {
	for _, tt := range []struct {
		name     string
		grants   []string
		lifetime time.Duration // of refresh tokens
		want     time.Duration
	}{
		{"no refresh tokens", []string{"authorization_code"}, 365 * day, keptUnasked},
		{"short refresh tokens", []string{"authorization_code", "refresh_token"}, 30 * day, keptUnasked},
		{"long refresh tokens", []string{"authorization_code", "refresh_token"}, 365 * day, 365*day + testClients()["webapp"].AccessTokenLifetime + jwt.MaxLeeway},
		{"refresh tokens without end", []string{"authorization_code", "refresh_token"}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, client("webapp", func(c *storage.Client) {
				c.Consent, c.GrantTypes, c.RefreshToken.Lifetime = storage.ConsentNever, tt.grants, tt.lifetime
			}))
			s.token(t, redeems(s.code(t, asks("webapp")))).check(t, http.StatusOK, "")
			if _, text := s.openApps(t, ""); !strings.Contains(text, "webapp") {
				t.Errorf("the page has not the client: %s", text)
			}
			want := time.Time{}
			if tt.want > 0 {
				want = s.clock.Now().Add(tt.want + storage.UseInterval)
			}
			if got := s.store.Expiry(storage.ConsentKey("alice")); !got.Equal(want) {
				t.Fatalf("the record expires %s, want %s", got, want)
			}
			s.clock.Advance(400 * day)
			if _, text := s.openApps(t, ""); strings.Contains(text, "webapp") == (tt.want > 0) {
				t.Errorf("400 days later: %s", text)
			}
		})
	}
}

// The texts of a decoded record are parts of it: what is remembered must not keep the whole record in memory.
func TestLastUsesKeepNoPartsOfRecords(t *testing.T) {
	u, _ := usesFixture(t)
	record := "token alice orders profile"
	subject, orders, profile := record[6:11], record[12:18], record[19:]
	at := testclock.New().Now()
	u.record(subject, "app", use{at, at, []string{orders}, time.Time{}})
	u.record(subject, "app", use{at, at, []string{orders, profile}, time.Time{}})
	for _, known := range []map[pair]use{u.recorded, u.pending} {
		for p, last := range known {
			if !slices.Equal(last.scopes, []string{"orders", "profile"}) {
				t.Errorf("scopes %q", last.scopes)
			}
			for _, text := range append([]string{p.subject}, last.scopes...) {
				if kept := unsafe.StringData(text); kept == unsafe.StringData(subject) || kept == unsafe.StringData(orders) || kept == unsafe.StringData(profile) {
					t.Errorf("%s is a part of the record", text)
				}
			}
		}
	}
}
