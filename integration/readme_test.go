package integration_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// TestReadme follows the section "Try it" of the README exactly, except for the ports. It opens the link, runs the commands with
// curl, pastes the values that the reader has to paste, and checks the answers.
func TestReadme(t *testing.T) {
	s := integration.Start(t, integration.Config{Caddyfile: func(s *integration.Server) string {
		return ports(s).Replace(readFile(t, "../Caddyfile.example"))
	}})
	s.Secrets.Add("wonderland", "only-for-trying-it-out")
	r := &reader{t: t, s: s, client: s.Client(t), pasted: map[string]string{}}
	r.client.Transport = s.Secrets.Record(curl(t))

	readme := ports(s).Replace(section(t, readFile(t, "../README.md"), "## Try it"))
	link := regexp.MustCompile(`<(http://[^>]*/oauth/authorize\?[^>]*)>`).FindStringSubmatch(readme)
	if link == nil {
		t.Fatal("the README has no link to the authorize endpoint")
	}
	alice := &integration.Person{Name: "alice", Password: "wonderland", Browser: s.Client(t)}
	callback := alice.Allow(t, link[1])
	asked, err := url.Parse(link[1])
	must(t, err)
	if callback.Get("state") != asked.Query().Get("state") || callback.Get("iss") == "" {
		t.Errorf("the authorization response has state %q and iss %q", callback.Get("state"), callback.Get("iss"))
	}
	if page := alice.Open(t, "http://localhost:"+integration.Port(s.Address)+"/callback?"+callback.Encode()).Text; !strings.Contains(page, "Playground") {
		t.Errorf("the page at the app's address is not the playground: %q", page)
	}
	r.pasted["CODE"] = callback.Get("code")

	for _, command := range commands(readme) {
		r.follow(command)
	}
	want := []string{
		"200 access_token refresh_token", // the code
		"200 keys",
		"verified",
		"200 access_token refresh_token", // the first refresh token
		"200 access_token refresh_token", // the second
		"400 invalid_grant",              // the first, again
		"400 invalid_grant",              // the second: the family is revoked
		"200 access_token",               // the script
	}
	if got := strings.Join(r.seen, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("the commands gave\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// ports replaces the addresses in documents by those of a server.
func ports(s *integration.Server) *strings.Replacer {
	port := integration.Port(s.Address)
	return strings.NewReplacer("localhost:2018", s.Admin, "localhost:8080", "localhost:"+port,
		"localhost%3A8080", "localhost%3A"+port, "root examples/", "root ../examples/")
}

// reader is a person who follows the README in a shell.
type reader struct {
	t      *testing.T
	s      *integration.Server
	client *http.Client
	pasted map[string]string
	last   integration.Answer // the last one with tokens
	seen   []string
}

func (r *reader) follow(command string) {
	r.t.Helper()
	name, value, assigns := strings.Cut(command, "=")
	if assigns && strings.HasPrefix(value, "paste-") {
		switch {
		case strings.Contains(value, "access-token"):
			r.pasted[name] = r.last.AccessToken
		case strings.Contains(value, "refresh-token"):
			r.pasted[name] = r.last.RefreshToken
		}
		return
	}
	args := strings.Fields(os.Expand(command, func(name string) string { return r.pasted[name] }))
	switch args[0] {
	case "curl":
		r.request(args[1:])
	case "go":
		if strings.Contains(command, "/cmd/caddy") || args[1] == "test" {
			return // the server is already running, and so are the tests
		}
		verify := exec.CommandContext(r.t.Context(), args[0], args[1:]...)
		verify.Dir = ".."
		output, err := verify.CombinedOutput()
		if err != nil {
			r.t.Fatalf("%s: %v\n%s", command, err, output)
		}
		r.seen = append(r.seen, "verified")
	default:
		r.t.Errorf("unexpected command %q", command)
	}
}

// request sends the request that curl would send with these arguments.
func (r *reader) request(args []string) {
	r.t.Helper()
	var target string
	var data []string
	var user *url.Userinfo
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-d":
			i++
			data = append(data, args[i])
		case "-u":
			i++
			name, password, _ := strings.Cut(args[i], ":")
			user = url.UserPassword(name, password)
		default:
			target = args[i]
		}
	}
	method := http.MethodGet
	if data != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(r.t.Context(), method, target, strings.NewReader(strings.Join(data, "&")))
	must(r.t, err)
	if data != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if user != nil {
		password, _ := user.Password()
		req.SetBasicAuth(user.Username(), password)
	}
	resp, err := r.client.Do(req)
	must(r.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(r.t, err)
	var answer integration.Answer
	must(r.t, json.Unmarshal(text, &answer))
	if answer.AccessToken != "" {
		r.last = answer
	}
	seen := resp.Status[:3]
	for _, member := range []string{"access_token", "refresh_token", "keys"} {
		if bytes.Contains(text, []byte(`"`+member+`":`)) {
			seen += " " + member
		}
	}
	if answer.Error != "" {
		seen += " " + answer.Error
	}
	r.seen = append(r.seen, seen)
}

// curl returns a transport that sends requests with curl, if it is installed.
func curl(t *testing.T) http.RoundTripper {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		return http.DefaultTransport
	}
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		var body bytes.Buffer
		if _, err := body.ReadFrom(req.Body); err != nil {
			return nil, err
		}
		args := []string{"--silent", "--show-error", "--include", "--noproxy", "*", req.URL.String()}
		for name, values := range req.Header {
			args = append(args, "--header", name+": "+values[0])
		}
		if req.Method == http.MethodPost {
			args = append(args, "--data-binary", "@-")
		}
		run := exec.CommandContext(req.Context(), path, args...)
		run.Stdin = &body
		output, err := run.Output()
		if err != nil {
			return nil, err
		}
		return http.ReadResponse(bufio.NewReader(bytes.NewReader(output)), req)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	return string(text)
}

// section returns a section of a Markdown text, with its subsections.
func section(t *testing.T, markdown, heading string) string {
	t.Helper()
	_, rest, found := strings.Cut(markdown, "\n"+heading+"\n")
	if !found {
		t.Fatalf("there is no section %q", heading)
	}
	text, _, _ := strings.Cut(rest, "\n## ")
	return text
}

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// commands returns the shell commands of a Markdown text.
func commands(markdown string) (all []string) {
	for _, block := range shellBlock.FindAllStringSubmatch(markdown, -1) {
		text := strings.ReplaceAll(block[1], "\\\n", " ")
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); line != "" {
				all = append(all, line)
			}
		}
	}
	return all
}
