package grants_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// model is the simplest description of a family of refresh tokens: tokens are numbers, in the order in which they were issued.
type model struct {
	newest  int
	rotated time.Time
	dies    time.Time // when it expires, idle or at its end
	dead    bool

	redeemed, codeDies time.Time
}

const (
	modelRetry = 10 * time.Second
	modelIdle  = time.Hour
	modelLife  = 5 * time.Hour

	modelRepeat = 10 * time.Second // how long the repeat of an exchange revokes nothing
)

// present returns the token that a refresh with a token returns, or -1, and whether it revokes the family.
func (m *model) present(token int, now, ends time.Time) (gives int, revokes bool) {
	switch {
	case m.dead || !now.Before(m.dies):
		m.dead = true
		return -1, false
	case token == m.newest:
		m.newest++
		m.rotated = now
		m.dies = now.Add(modelIdle)
		if ends.Before(m.dies) {
			m.dies = ends
		}
		return m.newest, false
	case token == m.newest-1 && now.Sub(m.rotated) < modelRetry:
		return m.newest, false
	}
	m.dead = true
	return -1, true
}

// redeem returns whether another exchange of the code revokes the family. verifier says whether it has the right verifier.
func (m *model) redeem(verifier bool, now time.Time) (revokes bool) {
	switch {
	case m.dead || !now.Before(m.dies) || !now.Before(m.codeDies):
		return false
	case verifier && m.newest == 0 && now.Sub(m.redeemed) < modelRepeat:
		return false
	}
	m.dead = true
	return true
}

// FuzzRefreshSequence runs steps of clients and thieves on a family, and lets time pass; each letter is a step. After every step, it
// compares the family with the model.
func FuzzRefreshSequence(f *testing.F) {
	for _, seed := range []string{
		"nnnn", "npn", "nnp", "nspn", "nsssp", "nmpn", "nno", "nhhhhhn", "nmmmmmmhn", "nfn", "cn", "nMc", "nHn", "ncc", "nhnhnhnhnhn", "pnwp",
		"ccn", "csssccnn", "wsc", "wscn", "ssxn", "cxn", "mcn", "fnffpfn",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, ops string) {
		if len(ops) > 200 {
			t.Skip("longer than it takes")
		}
		synctest.Test(t, func(t *testing.T) { runSequence(t, ops) })
	})
}

// Long lives, which a fuzzer is slow to find.
func TestRefreshSequences(t *testing.T) {
	random := rand.New(rand.NewPCG(6749, 9700))
	for range 300 {
		var ops strings.Builder
		for range 40 {
			ops.WriteByte("nnnnnnnppppssssmfffwwhoccx"[random.IntN(26)]) // mostly steps that do not revoke the family
		}
		synctest.Test(t, func(t *testing.T) { runSequence(t, ops.String()) })
	}
}

func runSequence(t *testing.T, ops string) {
	t.Helper()
	s := newSite(t)
	s.client.RefreshToken = storage.RefreshPolicy{Lifetime: modelLife, Idle: modelIdle, Retry: modelRetry}
	approved := time.Now()
	ends := approved.Add(modelLife)
	code := s.approve(storage.Code{Offline: true, Challenge: challenge})
	auth, err := s.redeem(code, params{"code_verifier": {verifier}})
	if err != nil {
		t.Fatal(err)
	}
	tokens := []string{auth.RefreshToken}
	m := &model{dies: approved.Add(modelIdle), redeemed: approved, codeDies: approved.Add(s.client.CodeLifetime)}

	for step, op := range ops {
		token := m.newest
		switch op {
		case 's':
			time.Sleep(time.Second)
			continue
		case 'w':
			time.Sleep(modelRetry - 1)
			continue
		case 'm':
			time.Sleep(10 * time.Minute)
			continue
		case 'h':
			time.Sleep(modelIdle - 1)
			continue
		case 'c', 'x': // the code again, with the right verifier and with another one
			sent, replay := params{"code_verifier": {verifier}}, m.redeem(op == 'c', time.Now())
			if op == 'x' {
				sent = params{"code_verifier": {challenge}}
			}
			_, err := s.redeem(code, sent)
			if codeOf(err) != grants.InvalidGrant || revoked(err) != replay {
				t.Fatalf("step %d of %q: the code again: error %v; want a revocation: %v", step, ops, err, replay)
			}
			continue
		case 'f': // one that was never issued: the newest or an old one, damaged
			damaged := tokens[step%len(tokens)]
			at := step % len(damaged)
			damaged = damaged[:at] + otherThan(damaged[at]) + damaged[at+1:]
			if _, err := s.refresh(damaged, nil); codeOf(err) != grants.InvalidGrant || revoked(err) {
				t.Fatalf("step %d of %q: a damaged token: error %v", step, ops, err)
			}
			continue
		case 'p':
			token--
		case 'o':
			token -= 2
		case 'n':
		default:
			continue
		}
		token = max(token, 0)
		gives, revokes := m.present(token, time.Now(), ends)
		auth, err := s.refresh(tokens[token], nil)
		if (err == nil) != (gives >= 0) || revoked(err) != revokes {
			t.Fatalf("step %d of %q: token %d of %d: error %v; want token %d, a revocation: %v", step, ops, token, m.newest, err, gives, revokes)
		}
		if err != nil {
			continue
		}
		if gives == len(tokens) {
			tokens = append(tokens, auth.RefreshToken)
		}
		if auth.RefreshToken != tokens[gives] {
			t.Fatalf("step %d of %q: token %d returns another token than %d", step, ops, token, gives)
		}
	}
	wantOneLine(t, ops, tokens)
}

// wantOneLine checks that the family has issued no token twice.
func wantOneLine(t *testing.T, ops string, tokens []string) {
	t.Helper()
	seen := map[string]bool{}
	for n, token := range tokens {
		if seen[token] {
			t.Errorf("%q: token %d was there before", ops, n)
		}
		seen[token] = true
	}
}

// A damaged record yields no tokens, and stays as it is, so that the operator can inspect it.
func TestDamagedFamily(t *testing.T) {
	for _, record := range []string{"", "null", "{", "[]", `{"client_id":"app"}`, `{"client_id":"app","refresh":{"current":1}}`} {
		s := newSite(t)
		code := s.approve(storage.Code{Offline: true})
		key, _ := storage.CodeKey(code)
		if err := s.store.Put(t.Context(), key, []byte(record), time.Time{}); err != nil {
			t.Fatal(err)
		}
		auth, err := grants.AuthorizationCode{}.Exchange(t.Context(), &grants.Request{
			Client: s.client, Form: map[string][]string{"code": {code}}, Store: s.store, Now: time.Now(),
		})
		if auth != nil || err == nil {
			t.Errorf("%q: got %+v and error %v", record, auth, err)
		}
		var refusal *grants.Error
		if errors.As(err, &refusal) && refusal.Code != grants.InvalidGrant {
			t.Errorf("%q: got error %v", record, err)
		}
		if got, err := s.store.Get(t.Context(), key); err != nil || string(got) != record {
			t.Errorf("%q became %q, error %v", record, got, err)
		}
	}
}
