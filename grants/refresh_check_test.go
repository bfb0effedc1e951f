package grants_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// accounts is a site that is asked about accounts at most once an hour.
type accounts struct {
	asked  []grants.Account
	claims map[string]any
	err    error
	during func() // runs while the server waits for the answer
}

func (a *accounts) Due(last, now time.Time) bool { return now.Sub(last) >= time.Hour }

func (a *accounts) Ask(_ context.Context, account *grants.Account) (map[string]any, error) {
	a.asked = append(a.asked, *account)
	if a.during != nil {
		a.during()
	}
	return a.claims, a.err
}

// countedStore counts the operations on a store.
type countedStore struct {
	storage.Store
	operations *int
}

func (s countedStore) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	*s.operations++
	return s.Store.Get(ctx, key)
}

func (s countedStore) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	*s.operations++
	return s.Store.Update(ctx, key, change)
}

// checkedSite is a site whose accounts are checked.
func checkedSite(t *testing.T) (*site, *accounts) {
	t.Helper()
	s := newSite(t)
	s.accounts = new(accounts)
	return s, s.accounts
}

// refreshed refreshes and returns the authorization, which must not be refused.
func (s *site) refreshed(token string) *grants.Authorization {
	s.t.Helper()
	auth, err := s.refresh(token, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return auth
}

// wantAsked checks how often the site was asked.
func (a *accounts) wantAsked(t *testing.T, what string, want int) {
	t.Helper()
	if len(a.asked) != want {
		t.Errorf("%s: the site was asked %d times, want %d", what, len(a.asked), want)
	}
}

func TestSiteIsAskedAtMostOnceInATime(t *testing.T) {
	for name, keep := range map[string]bool{"rotate always": false, "rotate never": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, a := checkedSite(t)
				s.client.RefreshToken.Keep = keep
				s.client.RefreshToken.Idle = 0 // so that a kept token is written for no other reason
				token := s.firstToken()
				operations := 0
				s.store = countedStore{s.store, &operations}
				for n, step := range []struct {
					after             time.Duration
					asked, operations int // since the beginning
				}{
					{time.Hour - 1, 0, 1},
					{1, 1, 3},
					{0, 1, 4},
					{time.Hour - 1, 1, 5},
					{1, 2, 7},
					{9 * time.Hour, 3, 9},
				} {
					time.Sleep(step.after)
					token = s.refreshed(token).RefreshToken
					if len(a.asked) != step.asked || operations != step.operations {
						t.Errorf("step %d: asked %d times, %d operations of the store; want %d and %d",
							n, len(a.asked), operations, step.asked, step.operations)
					}
				}
				want := grants.Account{Subject: "alice", Client: "app", Scopes: []string{"profile", "orders"}, Family: a.asked[0].Family}
				for _, got := range a.asked {
					if !reflect.DeepEqual(got, want) || got.Family == "" {
						t.Errorf("asked about %+v, want %+v", got, want)
					}
				}
			})
		})
	}
}

func TestSiteIsNotAskedInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := checkedSite(t)
		first := s.firstToken()
		second := s.refreshed(first).RefreshToken
		third := s.refreshed(second).RefreshToken
		time.Sleep(2 * time.Hour)
		for _, tt := range []struct {
			name, token string
			more        params
		}{
			{"garbage", "garbage", nil},
			{"a damaged token", third[:len(third)-1] + otherThan(third[len(third)-1]), nil},
			{"a scope that was not approved", third, params{"scope": {"admin"}}},
			{"another resource", third, params{"resource": {"https://other.example.com"}}},
			{"a used token", first, nil},
			{"a revoked family", third, nil},
		} {
			if _, err := s.refresh(tt.token, tt.more); codeOf(err) == "" {
				t.Errorf("%s: error %v", tt.name, err)
			}
			a.wantAsked(t, tt.name, 0)
		}
	})
}

// A client that lost the answer repeats its request. The site is not asked again.
func TestLostAnswerAfterACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := checkedSite(t)
		a.claims = map[string]any{"email": "new@example.com"}
		first := s.firstToken()
		time.Sleep(time.Hour)
		second := s.refreshed(first).RefreshToken
		again := s.refreshed(first)
		if again.RefreshToken != second || again.Claims["email"] != "new@example.com" {
			t.Errorf("the repeated request gets %+v, want the refresh token %q", again, second)
		}
		a.wantAsked(t, "repeated", 1)
	})
}

// A client that only ever repeats a refresh does not get around the check.
func TestRepeatedRefreshIsChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := checkedSite(t)
		s.client.RefreshToken.Retry = storage.RetryUntilUsed
		first := s.firstToken()
		second := s.refreshed(first).RefreshToken
		for n := range 3 {
			time.Sleep(time.Hour)
			a.claims = map[string]any{"n": n}
			for range 2 {
				if again := s.refreshed(first); again.RefreshToken != second || again.Claims["n"] == nil {
					t.Errorf("repeat %d gets %+v", n, again)
				}
			}
			a.wantAsked(t, "repeated", n+1)
		}
		time.Sleep(time.Hour)
		a.err = grants.ErrNoAccount
		_, err := s.refresh(first, nil)
		s.wantRefused("repeated without an account", err, grants.InvalidGrant)
	})
}

func TestCheckRenewsClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := checkedSite(t)
		token := s.firstToken()
		for n, step := range []struct{ answer, want map[string]any }{
			{nil, map[string]any{"email": "alice@example.com"}},
			{map[string]any{"role": "admin"}, map[string]any{"email": "alice@example.com", "role": "admin"}},
			{map[string]any{"role": nil, "email": "a@example.com"}, map[string]any{"email": "a@example.com"}},
			{map[string]any{"email": nil}, nil},
		} {
			time.Sleep(time.Hour)
			a.claims = step.answer
			for range 2 { // the second of them without a question
				auth := s.refreshed(token)
				if !maps.Equal(auth.Claims, step.want) {
					t.Errorf("step %d: claims %v, want %v", n, auth.Claims, step.want)
				}
				token = auth.RefreshToken
			}
			a.wantAsked(t, "renewed", n+1)
		}
	})
}

// After an outage of the site, the client repeats its request, and nothing is lost.
func TestOutageOfTheSiteChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := checkedSite(t)
		token := s.firstToken()
		time.Sleep(time.Hour)
		a.err = errors.New("the site is down")
		for n := range 3 {
			auth, err := grants.RefreshToken{}.Exchange(t.Context(), s.request(url.Values{"refresh_token": {token}}))
			refusal, ok := errors.AsType[*grants.Error](err)
			if auth != nil || !ok || refusal.Code != grants.TemporarilyUnavailable || refusal.HTTPStatus() != http.StatusServiceUnavailable ||
				refusal.Setting != "refresh_check" || !errors.Is(err, a.err) {
				t.Fatalf("got %+v and error %v", auth, err)
			}
			a.wantAsked(t, "outage", n+1)
			time.Sleep(time.Minute)
		}
		a.err = nil
		s.refreshed(s.refreshed(token).RefreshToken)
		a.wantAsked(t, "afterwards", 4)
	})
}

func TestNoAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := checkedSite(t)
		token := s.firstToken()
		time.Sleep(time.Hour)
		a.err = errors.Join(errors.New("status 404"), grants.ErrNoAccount)
		_, err := s.refresh(token, nil)
		s.wantRefused("no account", err, grants.InvalidGrant)
		closed, ok := errors.AsType[*grants.Closed](err)
		if !ok || closed.Account.Subject != "alice" || closed.Account.Client != "app" || closed.Account.Family == "" || !errors.Is(err, a.err) {
			t.Errorf("the cause is %+v", closed)
		}
		if refusal, ok := errors.AsType[*grants.Error](err); !ok || refusal.Setting != "refresh_check" || refusal.Subject != "alice" {
			t.Errorf("the log gets %+v", refusal)
		}
	})
}

// What happens to the family while the server waits for the site decides. Each of these would wait for ever if the server held
// a lock of the store meanwhile.
func TestFamilyChangesDuringTheCheck(t *testing.T) {
	for _, tt := range []struct {
		name   string
		during func(s *site, token string) (successor string)
		code   string
	}{
		{"revoked", func(s *site, token string) string {
			key, _ := storage.RefreshKey(token)
			s.revoke(&grants.Replay{Family: key.ID})
			return ""
		}, grants.InvalidGrant},
		{"refreshed by the same client", func(s *site, token string) string {
			return s.refreshed(token).RefreshToken
		}, ""},
		{"refreshed twice, so that the token is one that was used", func(s *site, token string) string {
			s.refreshed(s.refreshed(token).RefreshToken)
			return ""
		}, grants.InvalidGrant},
		{"deleted", func(s *site, token string) string {
			key, _ := storage.RefreshKey(token)
			if err := s.store.Delete(s.t.Context(), key); err != nil {
				s.t.Error(err)
			}
			return ""
		}, grants.InvalidGrant},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onStores(t, func(t *testing.T, sites [2]*site) {
				t.Helper()
				s, other := sites[0], sites[1]
				token := s.firstToken()
				successor := ""
				s.accounts = new(accounts)
				s.accounts.during = func() {
					s.accounts.during = nil
					successor = tt.during(&site{t: t, store: other.store, client: s.client, later: time.Hour}, token)
				}
				s.later = time.Hour
				auth, err := s.refresh(token, nil)
				s.wantRefused(tt.name, err, tt.code)
				if err == nil && auth.RefreshToken != successor {
					t.Errorf("got the refresh token %q, want %q", auth.RefreshToken, successor)
				}
			})
		})
	}
}

// accountSite starts a site that answers every question in one way, and returns what asks it.
func accountSite(t *testing.T, check *grants.RefreshCheck, answer http.HandlerFunc) *grants.RefreshCheck {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	check.URL = server.URL + "/account"
	if err := check.Check(); err != nil {
		t.Fatal(err)
	}
	check.Provision()
	return check
}

var alice = &grants.Account{Subject: "alice+tag&x=ü", Client: "app", Scopes: []string{"profile", "orders"}, Family: "f"}

func TestSiteIsAskedAboutAnAccount(t *testing.T) {
	check := accountSite(t, new(grants.RefreshCheck), func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		want := url.Values{"sub": {alice.Subject}, "client_id": {"app"}, "scope": {"profile orders"}}
		if r.Method != http.MethodPost || r.URL.String() != "/account" || !reflect.DeepEqual(r.PostForm, want) ||
			r.Header.Get("Accept") != "application/json" || r.Header.Get("Authorization") != "" {
			t.Errorf("got %s %s %v %v", r.Method, r.URL, r.Header, r.PostForm)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if claims, err := check.Ask(t.Context(), alice); err != nil || len(claims) != 0 {
		t.Errorf("got %v and error %v", claims, err)
	}
	now := time.Now()
	if check.Due(now.Add(-time.Hour+1), now) || !check.Due(now.Add(-time.Hour), now) {
		t.Error("the default is not an hour")
	}
}

func TestSiteSaysThatThereIsAnAccount(t *testing.T) {
	for _, tt := range []struct {
		name   string
		claims []string
		status int
		body   string
		want   map[string]any
	}{
		{"200 and nothing", nil, 200, "", map[string]any{}},
		{"204", nil, 204, "", map[string]any{}},
		{"an object", nil, 200, `{"role":"admin"}`, map[string]any{}},
		{"claims", []string{"role", "groups"}, 201, `{"role":"admin","groups":["a"],"other":1}`, map[string]any{"role": "admin", "groups": []any{"a"}}},
		{"claims that are gone", []string{"role", "email"}, 200, `{"role":null}`, map[string]any{"role": nil, "email": nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := accountSite(t, &grants.RefreshCheck{Claims: tt.claims}, answers(tt.status, tt.body)).Ask(t.Context(), alice)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %v and error %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestSiteSaysThatThereIsNoAccount(t *testing.T) {
	for _, status := range []int{401, 403, 404, 410} {
		claims, err := accountSite(t, new(grants.RefreshCheck), answers(status, "{}")).Ask(t.Context(), alice)
		if claims != nil || !errors.Is(err, grants.ErrNoAccount) {
			t.Errorf("%d: got %v and error %v", status, claims, err)
		}
	}
}

// Neither yes nor no: an error that names the cause, and not the user.
func TestSiteSaysNothingAboutAnAccount(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { untilGone(r) }
	short := caddy.Duration(20 * time.Millisecond)
	for _, tt := range []struct {
		name  string
		check *grants.RefreshCheck
		site  http.HandlerFunc
		cause string
	}{
		{"400", &grants.RefreshCheck{}, answers(400, "{}"), "status 400"},
		{"405, as of a URL that is another", &grants.RefreshCheck{}, answers(405, ""), "status 405"},
		{"429", &grants.RefreshCheck{}, answers(429, "", "Retry-After", "5"), "status 429"},
		{"500", &grants.RefreshCheck{}, answers(500, "{}"), "status 500"},
		{"503", &grants.RefreshCheck{}, answers(503, ""), "status 503"},
		{"302 to a login page", &grants.RefreshCheck{}, answers(302, "", "Location", "/login"), "status 302"},
		{"a login page", &grants.RefreshCheck{}, answers(200, "<html>"), "not a JSON object"},
		{"nothing in place of claims", &grants.RefreshCheck{Claims: []string{"role"}}, answers(204, ""), "not a JSON object"},
		{"an array", &grants.RefreshCheck{}, answers(200, "[{}]"), "not a JSON object"},
		{"too large", &grants.RefreshCheck{}, answers(200, "{}"+strings.Repeat(" ", 64<<10)), "over 65536 bytes"},
		{"a timeout", &grants.RefreshCheck{Timeout: short}, hang, "deadline exceeded"},
		{"no answer", &grants.RefreshCheck{}, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claims, err := accountSite(t, tt.check, tt.site).Ask(t.Context(), alice)
			if claims != nil || err == nil || errors.Is(err, grants.ErrNoAccount) || !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("got %v and error %v, want %s", claims, err, tt.cause)
			}
			if err != nil && strings.Contains(err.Error(), "alice") {
				t.Errorf("the error has the user: %v", err)
			}
		})
	}
}

// Requests with tokens of one family ask once, even if the first of them is given up.
func TestQuestionsAtOnce(t *testing.T) {
	var asked atomic.Int32
	arrived, answer := make(chan struct{}), make(chan struct{})
	check := accountSite(t, new(grants.RefreshCheck), func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("sub") == alice.Subject {
			if asked.Add(1) == 1 {
				close(arrived)
			}
			<-answer
		}
		w.WriteHeader(http.StatusNoContent)
	})
	ctx, giveUp := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := check.Ask(ctx, alice)
		first <- err
	}()
	<-arrived
	giveUp()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first request gets %v", err)
	}
	for range crowd { // these do not wait for the answer either
		if _, err := check.Ask(ctx, alice); !errors.Is(err, context.Canceled) {
			t.Errorf("another request gets %v", err)
		}
	}
	bob := &grants.Account{Subject: "bob", Client: "app", Family: "another"}
	if _, err := check.Ask(t.Context(), bob); err != nil {
		t.Errorf("a request of another family gets %v", err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the site was asked %d times", n)
	}
	close(answer)
	if _, err := check.Ask(t.Context(), alice); err != nil {
		t.Errorf("the last request gets %v", err)
	}
}

// The site may answer differently for other scopes.
func TestQuestionsAboutOtherScopes(t *testing.T) {
	asked, answer := make(chan string, 2), make(chan struct{})
	check := accountSite(t, &grants.RefreshCheck{Claims: []string{"scope"}}, func(w http.ResponseWriter, r *http.Request) {
		scope := r.PostFormValue("scope")
		asked <- scope
		<-answer // both questions are on their way
		_ = json.NewEncoder(w).Encode(map[string]string{"scope": scope})
	})
	fewer := *alice
	fewer.Scopes = alice.Scopes[:1]
	var group sync.WaitGroup
	for _, account := range []*grants.Account{alice, &fewer} {
		group.Go(func() {
			claims, err := check.Ask(t.Context(), account)
			if want := strings.Join(account.Scopes, " "); err != nil || claims["scope"] != want {
				t.Errorf("the claims for %s are %v, and error %v", want, claims, err)
			}
		})
	}
	for range 2 {
		select {
		case <-asked:
		case <-time.After(30 * time.Second):
			t.Error("the site was asked once for both sets of scopes")
		}
	}
	close(answer)
	group.Wait()
}

// Callers that share an answer each change their claims: the race detector, or the runtime, notices a shared map.
func TestClaimsOfASharedAnswer(t *testing.T) {
	arrived, answer := make(chan struct{}, crowd), make(chan struct{})
	check := accountSite(t, &grants.RefreshCheck{Claims: []string{"role", "email"}}, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
		_, _ = w.Write([]byte(`{"role":"admin","email":null}`))
	})
	waiting := make(chan struct{}, crowd)
	var group sync.WaitGroup
	for range crowd {
		group.Go(func() {
			waiting <- struct{}{}
			claims, err := check.Ask(t.Context(), alice)
			if err != nil || claims["role"] != "admin" {
				t.Errorf("claims %v and error %v", claims, err)
				return
			}
			for range 1000 {
				claims["email"] = "x"
				delete(claims, "email")
			}
		})
	}
	<-arrived
	for range crowd {
		<-waiting
	}
	close(answer)
	group.Wait()
}

func TestImpossibleRefreshCheck(t *testing.T) {
	const here = "http://app:9000/account"
	for name, check := range map[string]*grants.RefreshCheck{
		"no URL":               {},
		"a path":               {URL: "/account"},
		"another scheme":       {URL: "ftp://app/account"},
		"credentials in it":    {URL: "http://user:secret@app/account"},
		"a fragment":           {URL: here + "#top"},
		"every below a second": {URL: here, Every: caddy.Duration(time.Second - 1)},
		"every below zero":     {URL: here, Every: -1},
		"a timeout below zero": {URL: here, Timeout: -1},
	} {
		if err := check.Check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, check := range []*grants.RefreshCheck{
		{URL: here},
		{URL: "https://app/account?realm=x", Every: caddy.Duration(time.Second), Timeout: 1, Claims: []string{"name"}},
	} {
		if err := check.Check(); err != nil {
			t.Errorf("%s: %v", check.URL, err)
		}
	}
}
