package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

const watchHelp = `
Shows each request at the endpoints and the guards while it happens, so that you
can follow a login step by step: what came, and what the server did. Secrets,
codes and tokens are not shown. Nothing is recorded unless somebody watches.
End it with Ctrl+C.`

func watchFlags(f caddycmd.Flags) {
	f.FlagSet.String("client", "", "ID of the only client to watch")
}

// While Caddy changes its configuration, its admin API may be away for a moment.
const (
	attempts     = 20
	betweenTries = 250 * time.Millisecond
)

func runWatch(c *invocation) error {
	resp, err := c.send(http.MethodGet, "/oauth/@all/watch", nil)
	for err == nil {
		fmt.Fprintln(c.notes, "Watching. Start the login now.")
		err = c.showSteps(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return err
		}
		fmt.Fprintln(c.notes, "The configuration has changed.")
		for range attempts {
			if resp, err = c.send(http.MethodGet, "/oauth/@all/watch", nil); err == nil {
				break
			}
			time.Sleep(betweenTries)
		}
	}
	return err
}

// showSteps prints steps until the configuration changes.
func (c *invocation) showSteps(steps io.Reader) error {
	only, issuer := c.flags.String("client"), c.flags.String("issuer")
	for lines := json.NewDecoder(steps); ; {
		var step trail.Step
		if err := lines.Decode(&step); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return err
		}
		if only != "" && step.Client != only || issuer != "" && step.Issuer != issuer {
			continue
		}
		if c.flags.Bool("json") {
			if err := json.NewEncoder(c.out).Encode(step); err != nil {
				return err
			}
			continue
		}
		printStep(c.out, &step)
	}
}

func printStep(w io.Writer, s *trail.Step) {
	line := []string{s.Time.Local().Format(time.TimeOnly), s.Endpoint}
	if s.Client != "" {
		line = append(line, "client "+s.Client)
	}
	if s.Subject != "" && s.Subject != s.Client {
		line = append(line, "user "+s.Subject)
	}
	fmt.Fprintln(w, strings.Map(printable, strings.Join(line, "  ")+": "+outcome(s)))
	sent := make([]string, 0, len(s.Sent))
	for _, name := range slices.Sorted(maps.Keys(s.Sent)) {
		sent = append(sent, name+"="+s.Sent[name])
	}
	if len(sent) > 0 {
		paragraph(w, "          ", s.Method+" with "+strings.Join(sent, " "))
	}
}

// outcome says what the server did.
func outcome(s *trail.Step) string {
	to, err := url.Parse(s.Location)
	back := err == nil && s.Location != ""
	switch {
	case s.Endpoint == "guard" && s.Result == "ok":
		return "passes"
	case back && to.Query().Has("error"):
		return "sends the browser back to the app with the error " + to.Query().Get("error") + explained(s)
	case s.Result != "ok":
		return fmt.Sprintf("refused: %s, status %d%s", s.Result, s.Status, explained(s))
	case back && to.Query().Has("code"):
		to.RawQuery = ""
		return "sends the browser back to the app with a code: " + to.String()
	case back && s.Endpoint == "authorize":
		to.RawQuery = ""
		return "nobody is signed in: sends the browser to the login page " + to.String()
	case s.Endpoint == "authorize" && s.Method == http.MethodGet:
		return "shows the consent page"
	case s.Endpoint == "token":
		return "gives tokens for " + s.GrantType
	}
	return fmt.Sprintf("answered, status %d", s.Status)
}

func explained(s *trail.Step) string {
	if s.ErrorID == "" {
		return ""
	}
	return " (caddy oauth explain " + s.ErrorID + ")"
}
