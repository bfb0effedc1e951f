package cli

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
)

const initHelp = `
Writes a Caddyfile for a site that is there already: it asks five questions, or
takes the answers from flags. A client that is a script gets a secret, which is
written to a file beside the Caddyfile that only you can read.

It overwrites nothing. Go on with: caddy oauth check`

// question is a question of init, and the flag that answers it.
type question struct {
	flag, asks, otherwise string
	check                 func(answer string) error
}

var questions = []question{
	{"url", "What is the URL of your site?", "https://example.com", checkSiteURL},
	{"upstream", "Where does your site listen, for Caddy?", "127.0.0.1:9000", checkWord},
	{"login", "How do people sign in? The path at which your site says who is signed in (as a header Remote-User), or none if only scripts get tokens.", "/whoami", checkLogin},
	{"client", "Which app or script comes first? An ID for it, such as shop-app, and for an app, after a space, the URL to which people come back.", "shop-app https://app.example.com/callback", checkFirstClient},
	{"guard", "Which paths are your API, which needs tokens?", "/api/*", checkGuardPath},
}

func initFlags(f caddycmd.Flags) {
	for _, q := range questions {
		f.FlagSet.String(q.flag, "", "Answer to: "+q.asks)
	}
	f.FlagSet.StringP("output", "o", "Caddyfile", "File to write, - for standard output")
}

func checkSiteURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || strings.TrimSuffix(u.Path, "/") != "" || u.RawQuery != "" {
		return errors.New("expected a URL such as https://example.com")
	}
	return checkWord(s)
}

func checkWord(s string) error {
	if s == "" || strings.ContainsAny(s, " \t\"`{}#") {
		return errors.New("expected one word without quotes and braces")
	}
	return nil
}

func checkLogin(s string) error {
	if s != "none" && !strings.HasPrefix(s, "/") {
		return errors.New("expected a path such as /whoami, or none")
	}
	return checkWord(s)
}

func checkFirstClient(s string) error {
	words := strings.Fields(s)
	if len(words) < 1 || len(words) > 2 {
		return errors.New("expected an ID, or an ID and a URL")
	}
	for _, word := range words {
		if err := checkWord(word); err != nil {
			return err
		}
	}
	return nil
}

func checkGuardPath(s string) error {
	if !strings.HasPrefix(s, "/") {
		return errors.New("expected a path such as /api/*")
	}
	return checkWord(s)
}

func runInit(c *invocation) error {
	answers, err := c.answers()
	if err != nil {
		return err
	}
	name := c.flags.String("output")
	if name != "-" {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			return cmp.Or(err, fmt.Errorf("%s is there already; name another file with --output", name))
		}
	}
	site, secret := newSite(answers), ""
	if site.Redirect == "" && name != "-" {
		path, err := filepath.Abs(name)
		if err != nil {
			return err
		}
		secret = filepath.Join(filepath.Dir(path), site.Client+".secret")
		site.Secret = "{file." + filepath.ToSlash(secret) + "}"
	}
	text, err := site.caddyfile()
	if err != nil {
		return err
	}
	if name == "-" {
		_, err := c.out.Write(text)
		return err
	}
	if secret != "" {
		if err := writeNew(secret, []byte(rand.Text()+rand.Text()+"\n")); err != nil {
			return err
		}
		fmt.Fprintf(c.notes, "The secret of %s is in %s. Give it to the script.\n", site.Client, secret)
	}
	if err := writeNew(name, text); err != nil {
		return err
	}
	fmt.Fprintf(c.notes, "Wrote %s. Check it with: caddy oauth check --config %s\n", name, name)
	return nil
}

// writeNew writes a file that is not there yet, for its owner only.
func writeNew(name string, text []byte) error {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	return errors.Join(err, file.Close())
}

// answers returns the answers to the questions, by their flags. It asks those that have no flag.
func (c *invocation) answers() (map[string]string, error) {
	answers := make(map[string]string)
	in := bufio.NewReader(c.in)
	for _, q := range questions {
		if c.flags.Changed(q.flag) {
			answers[q.flag] = c.flags.String(q.flag)
			if err := q.check(answers[q.flag]); err != nil {
				return nil, fmt.Errorf("--%s: %w", q.flag, err)
			}
			continue
		}
		for {
			paragraph(c.notes, "", q.asks)
			fmt.Fprintf(c.notes, "[%s] ", q.otherwise)
			line, err := in.ReadString('\n')
			if err != nil && (!errors.Is(err, io.EOF) || line == "") {
				return nil, fmt.Errorf("no answer; give it with --%s", q.flag)
			}
			answer := cmp.Or(strings.TrimSpace(line), q.otherwise)
			if err := q.check(answer); err != nil {
				fmt.Fprintln(c.notes, err)
				continue
			}
			answers[q.flag] = answer
			break
		}
	}
	return answers, nil
}

// site is what the Caddyfile of init is made of.
type site struct {
	URL, Address, Upstream, Whoami   string
	Client, Redirect, Secret, Guards string
}

func newSite(answers map[string]string) *site {
	client := strings.Fields(answers["client"])
	s := &site{
		URL: strings.TrimSuffix(answers["url"], "/"), Upstream: answers["upstream"], Client: client[0], Guards: answers["guard"],
	}
	s.Address = strings.TrimPrefix(s.URL, "https://")
	if answers["login"] != "none" {
		s.Whoami = answers["login"]
	}
	if len(client) == 2 {
		s.Redirect = client[1]
	}
	s.Secret = "{env." + strings.ToUpper(strings.ReplaceAll(s.Client, "-", "_")) + "_SECRET}"
	return s
}

// siteTemplate is the Caddyfile of init.
var siteTemplate = template.Must(template.New("Caddyfile").Parse(`{{.Address}} {
	oauth {{.URL}} {
{{- if .Whoami}}
		login {
			forward_auth {{.Upstream}} {
				uri {{.Whoami}}
			}
		}
		user {rp.header.Remote-User}
{{- end}}

		scope api "use the API for you"
		client {{.Client}} {
{{- if .Redirect}}
			redirect_uris {{.Redirect}}
{{- else}}
			secret {{.Secret}}
{{- end}}
			scopes api
		}
	}
	oauth_guard {{.Guards}} {
		scopes api
		header X-User {http.auth.user.id}
	}
	reverse_proxy {{.Upstream}}
}
`))

// caddyfile returns the Caddyfile, which Caddy has read.
func (s *site) caddyfile() ([]byte, error) {
	if s.Redirect != "" && s.Whoami == "" {
		return nil, errors.New("an app for people needs a login: expected a path for --login, or a client without a URL")
	}
	var text strings.Builder
	if err := siteTemplate.Execute(&text, s); err != nil {
		return nil, err
	}
	formatted := caddyfile.Format([]byte(text.String()))
	if _, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(formatted, map[string]any{"filename": "Caddyfile"}); err != nil {
		return nil, err
	}
	return formatted, nil
}
