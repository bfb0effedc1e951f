package contract_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// The second client that the tests add to every example. It has the same settings as the first one, but other credentials.
const (
	otherID     = "other-app"
	otherSecret = "the-other-app-has-its-own"
)

var (
	clientBlock = regexp.MustCompile(`(?ms)^\t\tclient (\S+) \{$.*?^\t\t\}$`)
	secretLine  = regexp.MustCompile(`secret .*`)
	adminLine   = regexp.MustCompile(`(?m)^\tadmin localhost:\d+\n`)
	hostOf      = regexp.MustCompile(`\toauth .*http://(localhost:\d+) \{\n`)
	issuerLine  = regexp.MustCompile(`(?m)^\toauth http://localhost:\d+ \{\n`)
)

// text returns the Caddyfile of the example.
func (c *contract) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../examples/contract-" + c.example + ".Caddyfile")
	must(t, err)
	return string(text)
}

// withOther adds the second client to an example.
func (c *contract) withOther(t *testing.T, text string) string {
	t.Helper()
	block := clientBlock.FindString(text)
	if block == "" {
		t.Fatal("the example has no client")
	}
	other := secretLine.ReplaceAllLiteralString(block, "secret "+otherSecret)
	other = strings.Replace(other, c.clientID, otherID, 1)
	return strings.Replace(text, block, block+"\n"+other, 1)
}

// withGlobals adds global options to a Caddyfile that begins with a global block, in place of its admin option.
func withGlobals(text, options string) string {
	return strings.Replace(adminLine.ReplaceAllString(text, ""), "\n{\n", "\n{\n"+options, 1)
}

// withCodes lets a user have as many codes as the tests ask for.
func withCodes(text string) string {
	return issuerLine.ReplaceAllString(text, "${0}throttle {\ncodes 100000 1m\n}\n")
}

// host returns the host and the port of the issuer of an example.
func host(text string) string { return hostOf.FindStringSubmatch(text)[1] }

// withLog adds lines to the log block of a Caddyfile, or adds such a block.
func withLog(text, lines string) string {
	const opening = "\n\tlog {\n"
	if strings.Contains(text, opening) {
		return strings.Replace(text, opening, opening+lines, 1)
	}
	return withGlobals(text, "\tlog {\n"+lines+"\t}\n")
}

// inProcess runs the example as its reader would: as a process, on a port.
func (c *contract) inProcess(t *testing.T) *endpoint {
	t.Helper()
	secrets := new(integration.Secrets)
	secrets.Add(c.secret, otherSecret, userPassword)
	text := withCodes(c.withOther(t, c.text(t)))
	s := integration.Start(t, integration.Config{Secrets: secrets, Caddyfile: func(s *integration.Server) string {
		own := withLog(withGlobals(text, `
	admin {$ADMIN}
	persist_config off
	storage file_system {$STORAGE}
`), "\t\toutput stderr\n\t\tlevel DEBUG\n")
		return strings.ReplaceAll(own, host(own), "localhost:"+integration.Port(s.Address))
	}})
	return &endpoint{
		contract: c, site: "http://localhost:" + integration.Port(s.Address), http: s.Client(t), secrets: secrets,
	}
}

// inMemory loads a Caddyfile in the synctest bubble of a test, with its fake clock and without a network.
func (c *contract) inMemory(t *testing.T, text, storage string) *endpoint {
	t.Helper()
	// State that outlives a configuration is kept by the name of the issuer, and must not leave the bubble.
	text = strings.Replace(withCodes(text), "\toauth http", fmt.Sprintf("\toauth bubble-%d http", bubbles.Add(1)), 1)
	text = slowHash.ReplaceAllLiteralString(text, fastHash)
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(withLog(withGlobals(text, `
	admin off
	storage file_system "`+storage+`"
`), "\t\toutput discard\n")), nil)
	must(t, err)
	config := new(caddy.Config)
	must(t, json.Unmarshal(adapted, config))
	ctx, err := caddy.ProvisionContext(config)
	must(t, err)
	t.Cleanup(func() {
		for _, name := range []string{"http", "oauth", "tls"} {
			app, err := ctx.App(name)
			must(t, err)
			if cleaner, ok := app.(caddy.CleanerUpper); ok {
				must(t, cleaner.Cleanup())
			}
		}
	})
	app, err := ctx.App("http")
	must(t, err)
	return &endpoint{
		contract: c, site: "http://" + host(text), pass: time.Sleep,
		http: &http.Client{Transport: handled{app.(*caddyhttp.App).Servers["srv0"]}, CheckRedirect: stay},
	}
}

var bubbles atomic.Int64

// fastHash is a hash of the same password that takes less time.
const fastHash = "$2a$04$Fa9amRNPkBUH41T.rJRCjeSHGEv3uF869Z6F9NJEd1xZF8Y3opO2S"

var slowHash = regexp.MustCompile(`\$2a\$\S+`)

func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// handled is a transport that calls a handler.
type handled struct{ http.Handler }

// RoundTrip implements http.RoundTripper.
func (h handled) RoundTrip(sent *http.Request) (*http.Response, error) {
	r := sent.Clone(sent.Context())
	var err error
	r.RequestURI = sent.URL.RequestURI()
	if r.URL, err = url.ParseRequestURI(r.RequestURI); err != nil {
		return nil, err
	}
	r.Host, r.RemoteAddr = sent.URL.Host, "127.0.0.1:49152"
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = sent
	return resp, nil
}
