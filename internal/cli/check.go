package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/net/http/httpguts"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/check"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

const checkHelp = `
Checks the configuration, the site that runs, and what apps, scripts and APIs
would meet there, as far as the login page. It uses no secret. It writes nothing,
but where clients can register themselves, it does so as known AI agents do; the
issuer removes these records after a day.

With --as-user, it goes on as the person whose headers you give: it approves each
client of the configuration as that person (and of the agents, the one that
--client names), gets tokens where no secret is needed, calls what the guards
protect with a GET, and revokes the tokens. Use an account that is there for tests:
the approvals stay until that person takes them back. The headers go to the issuer
alone, and are never printed.

The configuration is --config, or the Caddyfile in the current directory. It need
not run: what does not answer is "not checked". --url checks an issuer whose
configuration is elsewhere.

The exit status is 0 if nothing failed, 1 if something did (with --fail-on warn
also for warnings), and 2 if there was nothing to check.`

func checkFlags(f caddycmd.Flags) {
	f.StringP("config", "c", "", "Configuration file (default: Caddyfile in the current directory)")
	f.StringP("adapter", "a", "", "Name of the config adapter to apply")
	f.FlagSet.String("url", "", "URL of an issuer, to check it without its configuration")
	f.FlagSet.String("from-outside", "", "URL of an HTTP or SOCKS proxy on another machine, to ask the site as others see it")
	f.FlagSet.String("as-user", "", "File with headers of somebody who is signed in, such as Cookie: session=… (- is standard input), to go on from the login")
	f.FlagSet.String("address", "", "Address of the admin API (default: that of the configuration)")
	f.FlagSet.String("issuer", "", "Name of the only issuer to check")
	f.FlagSet.String("client", "", "ID of the only client to test, a kind (browser, web, script or api), or an agent, such as claude or cursor")
	f.FlagSet.Bool("offline", false, "Check the configuration only")
	f.FlagSet.String("fail-on", "fail", "What makes the command fail: fail or warn")
	f.FlagSet.Bool("json", false, "Print JSON")
}

func runCheck(c *invocation) error {
	report, err := c.check()
	if err != nil {
		fmt.Fprintln(c.notes, "Error:", err)
		return exitStatus(2)
	}
	if err := c.print(report, func(w io.Writer) { printReportOfCheck(w, report) }); err != nil {
		return err
	}
	switch worst := report.Worst(); {
	case worst == check.Fail:
		return errors.New("a check failed")
	case worst == check.Warning && c.flags.String("fail-on") == "warn":
		return errors.New("a check gave a warning (--fail-on warn)")
	}
	return nil
}

func (c *invocation) check() (*check.Report, error) {
	if on := c.flags.String("fail-on"); on != "fail" && on != "warn" {
		return nil, fmt.Errorf("--fail-on: expected fail or warn, not %s", on)
	}
	checker := &check.Checker{Issuer: c.flags.String("issuer"), Client: c.flags.String("client"), Offline: c.flags.Bool("offline")}
	if name := c.flags.String("as-user"); name != "" {
		header, err := c.readHeaders(name)
		if err != nil {
			return nil, fmt.Errorf("--as-user: %w", err)
		}
		checker.AsUser = header
	}
	checker.NameEndpoint = func(issuer string) ([]string, error) { return c.naming(checker.Config, issuer) }
	checker.Noted = func(id string) (string, error) { return c.noted(checker.Config, id) }
	if outside := c.flags.String("from-outside"); outside != "" {
		proxy, err := url.Parse(outside)
		if err != nil || proxy.Host == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, proxy.Scheme) {
			return nil, fmt.Errorf("--from-outside: expected the URL of a proxy, such as http://proxy.example:3128 or socks5h://localhost:1080, not %s", outside)
		}
		checker.Outside = proxy
	}
	var loaded []check.Finding
	if issuer := c.flags.String("url"); issuer != "" {
		checker.URLs = []string{issuer}
	} else {
		name := cmp.Or(c.flags.String("config"), "Caddyfile")
		config, adapted, err := adaptFile(name, c.flags.String("adapter"))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("%w; name the configuration with --config, or an issuer with --url", err)
		case err != nil:
			return &check.Report{Findings: []check.Finding{notLoaded(err)}}, nil
		}
		checker.Config, loaded = config, append(adapted, validate(name, config)...)
	}
	report, err := checker.Run(context.Background())
	if err != nil {
		return nil, err
	}
	report.Findings = append(loaded, report.Findings...)
	return report, nil
}

// noted returns the address from which a request came that the running Caddy has refused.
func (c *invocation) noted(config json.RawMessage, errorID string) (string, error) {
	var f trail.Failure
	err := c.askRunning(config, "/oauth/@all/failures/"+url.PathEscape(errorID), &f)
	return f.Address, err
}

// naming returns the clients that the running Caddy has seen sign for the token endpoint.
func (c *invocation) naming(config json.RawMessage, issuer string) ([]string, error) {
	var stats authserver.Stats
	err := c.askRunning(config, "/oauth/"+url.PathEscape(issuer)+"/stats", &stats)
	return stats.NamingEndpoint, err
}

// askRunning asks the admin API of the Caddy that runs the configuration.
func (c *invocation) askRunning(config json.RawMessage, path string, answer any) error {
	var settings struct {
		Admin struct {
			Listen string `json:"listen"`
		} `json:"admin"`
	}
	_ = json.Unmarshal(config, &settings) // Caddy has loaded it, or there is none
	address := cmp.Or(c.flags.String("address"), settings.Admin.Listen, caddy.DefaultAdminListen)
	resp, err := caddycmd.AdminAPIRequest(address, http.MethodGet, path, nil, nil)
	if err != nil {
		return fmt.Errorf("the admin API does not say: %w", err)
	}
	return readAnswer(resp, answer)
}

// maxHeaders bounds the file with the headers of a person, in bytes.
const maxHeaders = 64 << 10

// readHeaders reads a file with a header in each line, and returns their names and values. Those that are about one request of a
// browser are left out, and the lines of Cookie are joined (RFC 9113 §8.2.3). An error quotes no value.
func (c *invocation) readHeaders(name string) (header []string, err error) {
	from := c.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxHeaders))
	if err != nil {
		return nil, err
	}
	cookie := 0 // where the value of Cookie is
	for n, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		field, value, found := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !found || !httpguts.ValidHeaderFieldName(field) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("line %d: expected a header, such as Cookie: session=…", n+1)
		}
		switch field = http.CanonicalHeaderKey(field); {
		case ofOneRequest(field):
		case field == "Cookie" && cookie > 0:
			header[cookie] += "; " + value
		default:
			header = append(header, field, value)
			if field == "Cookie" {
				cookie = len(header) - 1
			}
		}
	}
	if len(header) == 0 {
		return nil, errors.New("expected a header, such as Cookie: session=…")
	}
	return header, nil
}

// ofOneRequest reports whether a header is about the request from which it was copied: its host, its body, or what answer it wants.
func ofOneRequest(field string) bool {
	return slices.Contains([]string{"Accept-Encoding", "Connection", "Host", "Range", "Transfer-Encoding"}, field) ||
		strings.HasPrefix(field, "If-") || strings.HasPrefix(field, "Content-")
}

// adaptFile returns Caddy's JSON for a configuration file, and what the adapter says about our directives.
func adaptFile(name, adapter string) (json.RawMessage, []check.Finding, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, nil, err
	}
	if adapter == "" && filepath.Ext(name) == ".json" {
		return text, nil, nil
	}
	adapter = cmp.Or(adapter, "caddyfile")
	found := caddyconfig.GetAdapter(adapter)
	if found == nil {
		return nil, nil, fmt.Errorf("there is no config adapter %s", adapter)
	}
	_, before, said := caddy.BufferedLog()
	config, _, err := found.Adapt(text, map[string]any{"filename": name})
	log := new(bytes.Buffer)
	said.FlushTo(zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(log), zap.WarnLevel)))
	caddy.UnbufferDefaultLogger(before)
	return config, warnings(log), err
}

// validate loads a configuration without running it, as caddy validate does, and returns what it says about our modules.
func validate(name string, config json.RawMessage) []check.Finding {
	dir, err := os.MkdirTemp("", "caddy-oauth-check")
	if err != nil {
		return []check.Finding{{Verdict: check.NotChecked, Check: "config", Seen: "whether Caddy loads " + name + ": " + err.Error()}}
	}
	defer func() { _ = os.RemoveAll(dir) }() // in the directory for temporary files
	log := filepath.Join(dir, "log")
	loaded := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(config, loaded); err != nil {
		return []check.Finding{notLoaded(err)}
	}
	writer := caddyconfig.JSONModuleObject(map[string]string{"filename": log}, "output", "file", nil)
	loaded.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{
		WriterRaw: writer, EncoderRaw: json.RawMessage(`{"format": "json"}`), Level: "WARN",
	}}}}
	err = caddy.Validate(loaded)
	findings := loadWarnings(log)
	switch {
	case err == nil:
		return append(findings, check.Finding{Verdict: check.OK, Check: "config", Seen: "Caddy loads " + name})
	case strings.Contains(err.Error(), "{env.") || strings.Contains(err.Error(), "{file."):
		return append(findings, check.Finding{
			Verdict: check.NotChecked, Check: "config",
			Seen: "whether Caddy loads " + name + ", since a variable or a file is not here: " + err.Error() + ". Run this as the user of Caddy, with its environment",
		})
	}
	return append(findings, notLoaded(err))
}

func notLoaded(err error) check.Finding {
	return check.Finding{Verdict: check.Fail, Check: "config", Seen: err.Error(), Why: "Caddy does not load it."}
}

// loadWarnings returns the warnings of our modules in a log file.
func loadWarnings(name string) []check.Finding {
	log, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer log.Close()
	return warnings(log)
}

// warnings returns the warnings of our modules and directives in a log.
func warnings(log io.Reader) (findings []check.Finding) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		logger, _ := line["logger"].(string)
		message, _ := line["msg"].(string)
		seen, mistake := line["seen"].(string)
		if !mistake && !strings.HasPrefix(logger, "oauth") && !strings.HasPrefix(logger, "http.handlers.oauth") {
			continue
		}
		for _, field := range []string{"setting", "value"} {
			if text, ok := line[field].(string); ok {
				message += "; " + field + ": " + text
			}
		}
		client, _ := line["client_id"].(string)
		issuer, _ := line["issuer"].(string)
		instead, _ := line["instead"].(string)
		if mistake {
			message = seen
		}
		if file, ok := line["file"].(string); ok {
			message = fmt.Sprintf("%s:%v: %s", file, line["line"], message)
		}
		findings = append(findings, check.Finding{
			Verdict: check.Warning, Check: "config", Issuer: issuer, Client: client, Seen: message, Why: "Caddy says so when it loads the configuration.",
			Paste: instead,
		})
	}
	return findings
}

// printReportOfCheck prints what was found, and counts the verdicts.
func printReportOfCheck(w io.Writer, report *check.Report) {
	count := make(map[check.Verdict]int)
	for _, f := range report.Findings {
		count[f.Verdict]++
		of := f.Check
		if f.Client != "" {
			of = "client " + f.Client + " " + of
		}
		if f.Issuer != "" {
			of = f.Issuer + ": " + of
		}
		paragraph(w, fmt.Sprintf("%-12s ", f.Verdict), of+": "+f.Seen)
		const indent = "             "
		if f.Why != "" {
			paragraph(w, indent, f.Why)
		}
		if f.Paste != "" {
			for line := range strings.SplitSeq(f.Paste, "\n") {
				fmt.Fprintln(w, indent+"    "+strings.Map(printable, strings.ReplaceAll(line, "\t", "    ")))
			}
		}
		if f.Read != "" {
			fmt.Fprintln(w, indent+"See "+f.Read)
		}
	}
	fmt.Fprintf(w, "\n%d ok, %d warnings, %d failed, %d not checked\n",
		count[check.OK], count[check.Warning], count[check.Fail], count[check.NotChecked])
}
