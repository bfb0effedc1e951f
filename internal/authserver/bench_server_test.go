package authserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// benchServer is a Server with the defaults of a site, on the real clock, with a store in memory, a log of errors only, and alice's
// consent for webapp. The requests to it allocate nothing, so that all allocations of a benchmark are the server's.
type benchServer struct {
	*Server
	site   *testSite
	answer sink
}

func newBenchServer(tb testing.TB, algorithm string) *benchServer {
	tb.Helper()
	issuer, _ := url.Parse(testIssuer)
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(tb.Output()), zap.ErrorLevel))
	clients := testClients()
	for _, c := range clients {
		c.Audience = []string{testIssuer}
	}
	clients["webapp"].GrantTypes = append(clients["webapp"].GrantTypes, "client_credentials")
	server, err := New(Config{
		Identity: Identity{
			Name: "default", URL: testIssuer, Paths: DefaultPaths(issuer),
			Scopes: []Scope{{Name: "profile", Description: "your name"}, {Name: "orders", Description: "your orders"}},
		},
		ClientConfig: ClientConfig{
			Clients: clients,
			Grants:  []grants.Grant{grants.AuthorizationCode{}, grants.RefreshToken{}, grants.ClientCredentials{}},
		},
		Persistence: Persistence{Store: memory.New()},
		Observers:   Observers{Logger: log, Audit: log.Named("audit")},
		Keys:        keyring.Policy{Algorithm: algorithm, Lifetime: 10 * time.Minute, Publish: time.Hour},
		Limits:      throttle.Limits{Codes: []throttle.Limit{{Burst: 1 << 30, Every: 1}, {Burst: 1 << 30, Every: 1}}},
	})
	must(tb, err)
	s := &benchServer{Server: server, site: &testSite{user: &User{Subject: "alice"}}, answer: sink{header: http.Header{}}}
	must(tb, s.store.Update(tb.Context(), storage.ConsentKey("alice"), func([]byte) ([]byte, time.Time, error) {
		consents, err := storage.DecodeConsents("alice", nil)
		must(tb, err)
		consents.Approve("webapp", clients["webapp"].Scopes, clients["webapp"].Audience, time.Time{}, time.Now())
		record, err := consents.Encode()
		return record, time.Time{}, err
	}))
	return s
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// sink is a ResponseWriter that all answers reuse.
type sink struct {
	header http.Header
	status int
	body   []byte
}

func (s *sink) Header() http.Header { return s.header }

func (s *sink) WriteHeader(status int) { s.status = status }

func (s *sink) Write(b []byte) (int, error) {
	s.status = cmp.Or(s.status, http.StatusOK)
	s.body = append(s.body, b...)
	return len(b), nil
}

// SetReadDeadline is that of a connection, for http.ResponseController.
func (*sink) SetReadDeadline(time.Time) error { return nil }

func (s *sink) reset() {
	clear(s.header)
	s.status, s.body = 0, s.body[:0]
}

// cut returns the part of the body between a text and a byte.
func (s *sink) cut(after string, before byte) []byte {
	_, rest, _ := bytes.Cut(s.body, []byte(after))
	value, _, _ := bytes.Cut(rest, []byte{before})
	return value
}

// codeSent returns the code in the redirect.
func (s *sink) codeSent() string {
	_, rest, _ := strings.Cut(s.header.Get("Location"), "code=")
	code, _, _ := strings.Cut(rest, "&")
	return code
}

// member returns a string member of the JSON object in the answer.
func (s *sink) member(tb testing.TB, name string) string {
	tb.Helper()
	var body map[string]any
	must(tb, json.Unmarshal(s.body, &body))
	value, _ := body[name].(string)
	if value == "" {
		tb.Fatalf("no %s in the answer: %d %s", name, s.status, s.body)
	}
	return value
}

// benchRequest is a request that can be sent many times.
type benchRequest struct {
	*http.Request
	form  []byte
	fixed int // how much of the form is always the same
	body  benchBody
}

type benchBody struct{ bytes.Reader }

// Close implements io.Closer.
func (*benchBody) Close() error { return nil }

// newForm returns a POST of webapp.
func newForm(path string, form url.Values) *benchRequest {
	return newFormOf(path, []byte(form.Encode()))
}

// newFormWith returns a POST of webapp with one more parameter, which put changes.
func newFormWith(path string, form url.Values, last, value string) *benchRequest {
	form.Del(last)
	r := newFormOf(path, []byte(strings.TrimPrefix(form.Encode()+"&"+last+"=", "&")))
	put(r, value)
	return r
}

func newFormOf(path string, form []byte) *benchRequest {
	r := &benchRequest{form: form, fixed: len(form), Request: &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: path}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "example.com",
		Header: http.Header{
			"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}, "User-Agent": {"bench"},
		},
	}}
	r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
	return r
}

// put sets the last parameter to a value that needs no escaping.
func put[T string | []byte](r *benchRequest, value T) { r.form = append(r.form[:r.fixed], value...) }

// send sends the request, and returns an error if the answer has another status.
func (s *benchServer) send(r *benchRequest, status int) error {
	s.answer.reset()
	r.body.Reset(r.form)
	r.ContentLength = int64(len(r.form))
	r.Body = &r.body
	if err := serveAt(s.Server, &s.answer, r.Request, s.site, here); err != nil || s.answer.status != status {
		return fmt.Errorf("%s: %d %s, %w", r.URL.Path, s.answer.status, s.answer.body, err)
	}
	return nil
}

func (s *benchServer) credentialsForm() *benchRequest {
	return newForm(s.config.Paths.Token, url.Values{"grant_type": {"client_credentials"}, "scope": {"profile orders"}})
}

// newAccessToken returns an access token of webapp by client_credentials.
func (s *benchServer) newAccessToken(tb testing.TB) string {
	tb.Helper()
	must(tb, s.send(s.credentialsForm(), http.StatusOK))
	return s.answer.member(tb, "access_token")
}

// newAuthorization returns an authorization request of webapp.
func (s *benchServer) newAuthorization() *benchRequest {
	return &benchRequest{Request: &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: s.config.Paths.Authorize, RawQuery: asks("webapp", "scope", "profile orders").Encode()},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "example.com",
		Header: http.Header{"Accept": {"text/html"}, "User-Agent": {"bench"}},
	}}
}

// newCode returns a code for webapp that alice has approved.
func (s *benchServer) newCode(tb testing.TB) string {
	tb.Helper()
	must(tb, s.send(s.newAuthorization(), http.StatusSeeOther))
	to, err := url.Parse(s.answer.header.Get("Location"))
	must(tb, err)
	return to.Query().Get("code")
}

func (s *benchServer) newRefreshToken(tb testing.TB) string {
	tb.Helper()
	must(tb, s.send(newForm(s.config.Paths.Token, redeems(s.newCode(tb))), http.StatusOK))
	return s.answer.member(tb, "refresh_token")
}
