package authserver

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// TestDescriptions checks the text of every refusal in the source. Requests cannot change them, so this is complete.
func TestDescriptions(t *testing.T) {
	found := 0
	for _, dir := range []string{".", "../clients", "../wire", "../../grants"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				for _, literal := range descriptions(n) {
					found++
					checkDescription(t, literal)
				}
				return true
			})
		}
	}
	if found < 40 {
		t.Errorf("found only %d descriptions", found)
	}
}

// descriptions returns the descriptions in a node that makes a grants.Error.
func descriptions(n ast.Node) (literals []string) {
	var from ast.Node
	switch n := n.(type) {
	case *ast.CallExpr:
		if strings.EqualFold(callee(n.Fun), "refuse") {
			from = n.Args[min(1, len(n.Args)-1)] // after the error code, if the function takes one
		}
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Description" {
			from = n.Value
		}
	}
	if from == nil {
		return nil
	}
	ast.Inspect(from, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, _ := strconv.Unquote(lit.Value)
			literals = append(literals, text)
		}
		return true
	})
	return literals
}

func callee(fun ast.Expr) string {
	switch fun := fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		return fun.Sel.Name
	}
	return ""
}

func checkDescription(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			t.Errorf("RFC 6749 §5.2: %q is not allowed in the description %q", r, text)
		}
	}
}

func TestDescriptionsDoNotEcho(t *testing.T) {
	const mark = `"hostile\` + "\r\n\u00fc"
	s := newTestServer(t)
	for _, name := range []string{"grant_type", "client_id", "client_secret", "scope", "resource", mark} {
		a := s.token(t, asBilling(name, mark))
		description, _ := a.json(t)["error_description"].(string)
		checkDescription(t, description)
		if strings.Contains(a.Body.String(), "hostile") {
			t.Errorf("RFC 6749 §5.2: %s is echoed in %s", name, a.Body)
		}
	}
	for _, name := range []string{"response_type", "response_mode", "scope", "prompt", "resource", "code_challenge", "code_challenge_method", "request"} {
		got := s.get(t, asks("webapp", name, mark)).location()
		checkDescription(t, got.Get("error_description"))
		if strings.Contains(got.Encode(), "hostile") {
			t.Errorf("RFC 6749 §4.1.2.1: %s is echoed in %s", name, got.Encode())
		}
	}
}

// The response and one line of the log have the same error ID.
func TestErrorIDs(t *testing.T) {
	for name, tt := range map[string]struct {
		params url.Values
		id     func(answer) string
	}{
		"redirect":  {asks("webapp", "scope", "magic"), func(a answer) string { return a.location().Get("error_id") }},
		"page":      {asks("webapp", "client_id", ""), func(a answer) string { return a.page.ID }},
		"form_post": {asks("webapp", "scope", "magic", "response_mode", "form_post"), func(a answer) string { return formPost(t, a).Get("error_id") }},
		"JSON":      {nil, func(a answer) string { return a.json(t)["error_id"].(string) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			send := func() string {
				if tt.params == nil {
					return tt.id(s.token(t, redeems("x")))
				}
				return tt.id(s.get(t, tt.params))
			}
			id, next := send(), send()
			if len(id) != 8 || id == next {
				t.Errorf("IDs %q, %q", id, next)
			}
			lines := s.logs.FilterField(zap.String("error_id", id)).All()
			if len(lines) != 1 || lines[0].Level != zap.InfoLevel {
				t.Fatalf("%d lines of the log have the ID: %v", len(lines), lines)
			}
			if ip := lines[0].ContextMap()["client_ip"]; ip != "192.0.2.7" {
				t.Errorf("client_ip %v", ip)
			}
		})
	}
}

// damagedInLog returns how many errors in the log name a record.
func damagedInLog(s *testServer, record string) int {
	return s.logs.FilterLevelExact(zap.ErrorLevel).FilterField(zap.String("record", record)).Len()
}

func TestStoreFails(t *testing.T) {
	start := func(t *testing.T) (s *testServer, code, refresh string) {
		t.Helper()
		s = newTestServer(t)
		refresh = s.tokens(t)["refresh_token"].(string)
		return s, s.code(t, asks("webapp")), refresh
	}
	t.Run("RFC 9110 §15.6.4 503 with Retry-After, and success afterwards", func(t *testing.T) {
		s, code, refresh := start(t)
		s.store.Err = errors.New("the disk is on fire")
		for _, form := range []map[string][]string{redeems(code), refreshes(refresh)} {
			a := s.token(t, form)
			a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
			checkJSONHeaders(t, a)
			if after, err := strconv.Atoi(a.Header().Get("Retry-After")); err != nil || after < 1 {
				t.Errorf("Retry-After %q", a.Header().Get("Retry-After"))
			}
			if strings.Contains(a.Body.String(), "fire") {
				t.Errorf("the client learns the cause: %s", a.Body)
			}
		}
		for _, line := range s.logs.FilterLevelExact(zap.ErrorLevel).All() {
			if cause, _ := line.ContextMap()["cause"].(string); !strings.Contains(cause, "fire") {
				t.Errorf("the operator does not learn the cause: %q", cause)
			}
		}
		if n := s.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
			t.Errorf("%d errors in the log, want 1 for the one cause", n)
		}
		s.store.Err = nil
		s.token(t, redeems(code)).check(t, http.StatusOK, "")
		s.token(t, refreshes(refresh)).check(t, http.StatusOK, "")
	})
	t.Run("corrupt record", func(t *testing.T) {
		s, code, _ := start(t)
		key, _ := storage.CodeKey(code)
		if err := s.store.Put(t.Context(), key, []byte(`{"client_id":"web`), time.Time{}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // it stays so: the app must ask the person again, and not try again
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
		}
		if n := damagedInLog(s, string(key.Kind)+"/"+key.ID); n != 1 {
			t.Errorf("the log names the record %d times", n)
		}
		if err := s.revoker.RevokeFamily(t.Context(), key.ID, "test", ""); err != nil || !s.cutoffs.HasFamilyCutoff(key.ID) {
			t.Errorf("the access tokens of the family cannot be revoked: %v", err)
		}
	})
	t.Run("corrupt consents", func(t *testing.T) {
		s := newTestServer(t)
		if err := s.store.Put(t.Context(), storage.ConsentKey("alice"), []byte("]"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		page := s.get(t, asks("webapp")) // it is made anew
		if err := s.store.Put(t.Context(), storage.ConsentKey("alice"), []byte("]"), time.Time{}); err != nil {
			t.Fatal(err)
		}
		if s.decide(t, page, "allow").location().Get("code") == "" || s.get(t, asks("webapp")).location().Get("code") == "" {
			t.Error("the consent is not remembered")
		}
		if n := damagedInLog(s, "consent/"+storage.ConsentKey("alice").ID); n != 1 {
			t.Errorf("the log names the record %d times", n)
		}
	})
	t.Run("no keys can be made", func(t *testing.T) {
		s := newTestServer(t)
		s.store.Err = errDown
		s.token(t, asBilling()).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	})
	t.Run("a client that hung up is no fault of the server", func(t *testing.T) {
		s, code, refresh := start(t)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		for _, form := range []map[string][]string{redeems(code), refreshes(refresh)} {
			s.token(t, form, func(r *http.Request) { *r = *r.WithContext(gone) })
		}
		if n := s.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 0 {
			t.Errorf("%d errors in the log", n)
		}
		s.token(t, redeems(code)).check(t, http.StatusOK, "")
		s.token(t, refreshes(refresh)).check(t, http.StatusOK, "")
	})
}

// brokenGrant returns an error that is no grants.Error.
type brokenGrant struct{}

func (brokenGrant) Type() string { return "broken" }

func (brokenGrant) Exchange(context.Context, *grants.Request) (*grants.Authorization, error) {
	return &grants.Authorization{Subject: "alice"}, errors.New("both a result and an error")
}

func TestErrorOfAGrantWins(t *testing.T) {
	s := newTestServer(t, func(c *Config) {
		c.Grants = append(c.Grants, brokenGrant{})
		c.Clients["webapp"].GrantTypes = append(c.Clients["webapp"].GrantTypes, "broken")
	})
	s.token(t, map[string][]string{"grant_type": {"broken"}}).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
}

// Every test searches its log for the secrets it sent and received. This one sends secrets in the wrong places.
func TestNoSecretInTheLog(t *testing.T) {
	const misplaced = "a-misplaced-secret"
	s := newTestServer(t)
	s.seen = append(s.seen, misplaced)
	s.tokens(t)
	for _, form := range []map[string][]string{
		asBilling("client_secret", misplaced), asBilling(misplaced, "x"), asBilling("client_id", "nobody", "client_secret", misplaced),
		redeems(misplaced), refreshes(misplaced), redeems("x", "code_verifier", misplaced),
		redeems("x", "redirect_uri", webRedirect+"?code="+misplaced),
	} {
		s.token(t, form)
	}
	for _, authorization := range []string{"Bearer " + misplaced, "Token " + misplaced, misplaced, misplaced + " x", "Basic " + misplaced} {
		s.token(t, redeems("x"), header("Authorization", authorization))
	}
	s.token(t, redeems("x"), basic(misplaced+":billing"))                                                                  // ID and secret are swapped
	s.token(t, redeems("x", "client_id", "billing"), basic(misplaced+":billing"))                                          // and the ID is in the body too
	s.token(t, asBilling("client_id", "eyJ."+misplaced+".x", "scope", "eyJ."+misplaced+".x"), header("Authorization", "")) // a JWT
	s.do(t, postRequest("/oauth/token?client_secret="+misplaced, asBilling().Encode()))
	for _, name := range []string{"state", "code_challenge", "request", "request_uri", "login_hint", "id_token_hint"} {
		s.get(t, asks("webapp", name, misplaced))
	}
	for _, uri := range []string{webRedirect + "?code=" + misplaced, webRedirect + "#access_token=" + misplaced, "https://u:" + misplaced + "@example.com/"} {
		s.get(t, asks("webapp", "redirect_uri", uri))
	}
	s.post(t, map[string][]string{"request": {misplaced}, "decision": {misplaced}})
	if levels := logLevels(s); !levels[zap.DebugLevel] || !levels[zap.InfoLevel] {
		t.Errorf("the log has the levels %v", levels)
	}
}

func logLevels(s *testServer) map[zapcore.Level]bool {
	levels := map[zapcore.Level]bool{}
	for _, entry := range s.logs.All() {
		levels[entry.Level] = true
	}
	return levels
}
