package caddyoauth_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// caddyCommand runs a caddy command with an empty home, and returns its output and whether it succeeded.
func caddyCommand(t *testing.T, home string, args ...string) (output string, ok bool) {
	t.Helper()
	said, err := homeless(t, asCaddy, home, args...).CombinedOutput()
	return string(said), err == nil
}

// homeless returns the command that runs this program as another one with an empty home.
func homeless(t *testing.T, as, home string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), as+"=1", "HOME="+home,
		"XDG_DATA_HOME="+filepath.Join(home, "data"), "XDG_CONFIG_HOME="+filepath.Join(home, "config"), "EMPTY_VARIABLE=", "LINE_VARIABLE=do-not-tell\nanybody", "LINES_VARIABLE=do-not-tell-anybody\n\n", "BREAK_VARIABLE=\r\n", "ENDED_VARIABLE=do-not-tell-anybody\n", "SPACED_VARIABLE=do-not-tell-anybody ", "URL_VARIABLE=https://example.com")
	return cmd
}

// write writes a file into the directory and returns its name.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func validate(t *testing.T, caddyfile string) (output string, ok bool) {
	t.Helper()
	dir := t.TempDir()
	return caddyCommand(t, dir, "validate", "--adapter", "caddyfile", "--config", write(t, dir, "Caddyfile", caddyfile))
}

// validation is what caddy validate says of a Caddyfile.
type validation struct {
	output string
	ok     bool
}

// validateAll validates Caddyfiles in one process, which is much faster than one for each.
func validateAll(t *testing.T, caddyfiles ...string) []validation {
	t.Helper()
	var names []string
	for _, caddyfile := range caddyfiles {
		names = append(names, write(t, t.TempDir(), "Caddyfile", caddyfile))
	}
	said, err := homeless(t, asValidator, t.TempDir(), names...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	rest := string(said)
	var all []validation
	for _, name := range names {
		output, after, found := strings.Cut(rest, outcomeOf(name, nil))
		if !found {
			t.Fatalf("no outcome of %s in %s", name, said)
		}
		failure, others, _ := strings.Cut(after, "\n")
		all, rest = append(all, validation{output + failure, failure == " valid"}), others
	}
	return all
}

// outcomeOf is the line behind the output about a Caddyfile; without an error, its begin.
func outcomeOf(name string, err error) string {
	line := "outcome of " + name + ":"
	if err != nil {
		line += " " + strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return line
}

var errValid = errors.New("valid")

// validateFile does what caddy validate does. It always returns an error.
func validateFile(name string) error {
	text, _, _, err := caddycmd.LoadConfig(name, "caddyfile")
	if err != nil {
		return err
	}
	config := new(caddy.Config)
	if err := caddy.StrictUnmarshalJSON(text, config); err != nil {
		return err
	}
	if err := caddy.Validate(config); err != nil {
		return err
	}
	return errValid
}

// Validating a Caddyfile finds the mistakes that adapting it cannot find, and names the setting.
func TestValidateNamesTheSetting(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string { return write(t, dir, name, text) }
	issuer := func(settings string) string {
		return "{\noauth {\nissuer https://example.com {\n" + settings + "\n}\n}\n}\n"
	}
	client := func(settings string) string { return issuer("client app {\n" + settings + "\n}") }
	page := func(settings string) string { return issuer("page {\n" + settings + "\n}") }
	const missing = "/no/such/file"
	tests := []struct {
		name, caddyfile string
		expected        []string
	}{
		{"secret of an empty variable", client("secret {env.EMPTY_VARIABLE}\ngrant_types client_credentials"), []string{"issuer default: client app: secret: ", "{env.EMPTY_VARIABLE} is empty"}},
		{"secret of no variable", client("secret {env.NO_SUCH_VARIABLE}\ngrant_types client_credentials"), []string{"client app: secret: ", "{env.NO_SUCH_VARIABLE} is empty"}},
		{"secret of an unknown placeholder", client("secret {vault.app}\ngrant_types client_credentials"), []string{"client app: secret: ", "{vault.app}"}},
		{"secret of no file", client("secret {file." + missing + "}\ngrant_types client_credentials"), []string{"client app: secret: ", missing}},
		{"secret of an empty file", client("secret {file." + file("empty", "\n") + "}\ngrant_types client_credentials"), []string{"client app: secret: ", "is empty"}},
		{"secret of a variable with a line break", client("secret {env.LINE_VARIABLE}\ngrant_types client_credentials"), []string{"client app: secret: expected no line break"}},
		{"secret of a variable with two line breaks at its end", client("secret {env.LINES_VARIABLE}\ngrant_types client_credentials"), []string{"client app: secret: expected no line break"}},
		{"secret of a variable that is a line break", client("secret {env.BREAK_VARIABLE}\ngrant_types client_credentials"), []string{"client app: secret: ", "{env.BREAK_VARIABLE} is empty"}},
		{"secret that is quoted with a line break", client("secret \"do-not-tell-anybody\n\"\ngrant_types client_credentials"), []string{"client app: secret: expected no line break"}},
		{"one of two secrets with a line break", client("secret do-not-tell-nobody {env.LINE_VARIABLE}\ngrant_types client_credentials"), []string{"client app: secret: expected no line break"}},
		{"secret of a variable with a space", client("secret {env.SPACED_VARIABLE}\ngrant_types client_credentials"), []string{"client app: secret: expected no spaces around it"}},
		{"secret of a file with two line breaks", client("secret {file." + file("lines", "do-not-tell\n\n") + "}\ngrant_types client_credentials"), []string{"client app: secret: expected no line break"}},
		{"hash from a variable that is none", client("secret_hash {env.HOME}\ngrant_types client_credentials"), []string{"client app: secret_hash: expected sha256:"}},
		{"redirect URI from a variable that is none", client("redirect_uris {env.HOME}"), []string{"client app: redirect_uris: expected an absolute URI"}},
		{"redirect URI with a brace", client("redirect_uris http://example.com/{"), []string{"client app: redirect_uris: ", "braces"}},
		{"issuer URL of an empty variable", "{\noauth {\nissuer {env.EMPTY_VARIABLE}\n}\n}", []string{"issuer default: ", "{env.EMPTY_VARIABLE} is empty"}},
		{"issuer URL from a variable that is none", "{\noauth {\nissuer {env.HOME}\n}\n}", []string{"issuer default: expected the issuer's URL"}},
		{"issuer URL with a brace", "{\noauth {\nissuer ftp://example.com/{\n}\n}", []string{"issuer default: expected a URL without braces"}},
		{"two issuers with one URL after all", "{\noauth {\nissuer one https://example.com\nissuer two {env.URL_VARIABLE}\n}\n}", []string{"issuer two: expected another URL than that of issuer one"}},
		{"audience of an empty variable", issuer("audience {env.EMPTY_VARIABLE}"), []string{"issuer default: audience: "}},
		{"no consent page", page("template consent " + missing), []string{"issuer default: page: template consent: open " + missing}},
		{"consent page that is no template", page("template consent " + file("bad.html", "{{.User")), []string{"issuer default: page: template consent: "}},
		{"consent page that uses an unknown field", page("template code " + file("unknown.html", "{{.Nonsense}}")), []string{"issuer default: page: template code: ", "Nonsense"}},
		{"logo that is no image", page("logo " + file("logo.svg", "<html>")), []string{"issuer default: page: logo: expected an image: SVG, PNG, JPEG or WebP"}},
		{"logo of a client that is too long", client("redirect_uris https://a.example/\nlogo " + file("long.png", "\x89PNG\r\n\x1a\n"+strings.Repeat("x", 128<<10))), []string{"issuer default: client app: logo: expected an image of at most 128 KB"}},
		{"logo that is longer than a page may be", page("logo " + file("huge.png", strings.Repeat("x", 1<<20))), []string{"issuer default: page: logo: expected a file of at most 256 KB"}},
		{"language with words missing", page("language nl " + file("nl.json", "{}")), []string{"issuer default: page: language nl: there are no words for allow, apps_can_use"}},
		{"no file with the keys of a client", client("jwks " + missing), []string{"issuer default: client app: jwks: open " + missing}},
		{"keys of a client that are none", client("jwks " + file("keys", "keys")), []string{"client app: jwks: ", "expected a JWK set"}},
		{"no key among the keys of a client", client("jwks " + file("empty.json", `{"keys":[]}`)), []string{"client app: jwks: ", "expected at least one key"}},
		{"a secret as the key of a client", client("jwks " + file("oct.json", `{"kty":"oct","k":"ZG8tbm90LXRlbGwtYW55Ym9keQ"}`)), []string{"client app: jwks: ", "a shared secret, expected a public key"}},
		{"a private key of a client in PEM", client("jwks " + file("private.pem", "-----BEGIN PRIVATE KEY-----\nZG8tbm90LXRlbGwtYW55Ym9keQ==\n-----END PRIVATE KEY-----\n")), []string{"client app: jwks: ", "expected a PUBLIC KEY in PEM, not a PRIVATE KEY"}},
		{"a private key of a client", client("jwks " + file("private.json", privateKey)), []string{"client app: jwks: ", "a private key, expected the public one"}},
		{"keys of a client in two places", client("jwks " + file("two.json", "{}") + "\njwks_uri https://a.example/jwks"), []string{"client app: jwks: expected the keys in one place"}},
		{"keys of a client without https", client("jwks_uri http://a.example/jwks"), []string{"client app: jwks_uri: expected https"}},
		{"keys of a client at no URL", client("jwks_uri /jwks"), []string{"client app: jwks_uri: expected a URL with https"}},
		{"keys of a trusted issuer on this machine", issuer("grant jwt_bearer {\nissuer https://a.example {\njwks_uri http://localhost/jwks\nsubjects *@a.example\n}\n}"), []string{"grant jwt_bearer: issuer https://a.example: jwks_uri: expected https"}},
		{"an audience that is none", issuer("client_assertion_audience endpoint"), []string{"client_assertion_audience: expected issuer or any"}},
		{"no JWKS file", issuer("signing {\njwks_file " + missing + "\n}"), []string{"issuer default: signing: jwks_file: open " + missing}},
		{"JWKS file that is no JSON", issuer("signing {\njwks_file " + file("text", "keys") + "\n}"), []string{"issuer default: signing keys: the file is no JWK set"}},
		{"JWKS file without keys", issuer("signing {\njwks_file " + file("none", `{"keys":[]}`) + "\n}"), []string{"issuer default: signing keys: the file is no JWK set"}},
		{"JWKS file with a public key only", issuer("signing {\njwks_file " + file("public", `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`) + "\n}"), []string{"issuer default: signing keys: the file has no private key"}},
		{"JWKS file that signs the access tokens of a client with a profile", issuer("signing {\njwks_file " + file("rsa.json", `{"keys":[`+string(jwttest.NewKey(t, "RS256").JWK)+`]}`) + "\n}\nclient app {\nprofile fapi2\njwks_uri https://app.example/jwks.json\nredirect_uris https://app.example/cb\n}"), []string{"issuer default: client app: profile: expected signing with one of ES256, EdDSA, PS256 at the issuer, not RS256"}},
		{"JWKS file without a key for the ID tokens of described clients", issuer("dynamic\nopenid {\ndynamic\n}\nsigning {\njwks_file " + file("eddsa.json", `{"keys":[`+privateKey+`]}`) + "\n}"), []string{"issuer default: openid: id_token_signed_response_alg: expected EdDSA, of which jwks_file has a private key, not RS256"}},
		{"directive without the global option", "http://example.com {\noauth\n}", []string{"expected the URL of an issuer and its settings, or the global option oauth with an issuer", "Caddyfile:2"}},
		{"directive of an unknown issuer", issuer("") + "http://example.com {\noauth shop\n}", []string{`there is no issuer \"shop\" above this line, expected default`, "Caddyfile:"}},
		{"directive that must name one of several", "{\noauth {\nissuer one https://one.example.com\nissuer two https://two.example.com\n}\n}\nhttp://example.com {\noauth\n}", []string{"oauth: expected the name of an issuer, one of: one, two", "Caddyfile:8"}},
	}
	var caddyfiles []string
	for _, tt := range tests {
		caddyfiles = append(caddyfiles, tt.caddyfile)
	}
	validations := validateAll(t, caddyfiles...)
	for n, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			output := validations[n].output
			if validations[n].ok {
				t.Fatal("it is valid")
			}
			if strings.Contains(output, "do-not-tell") {
				t.Errorf("a secret is in the output: %s", output)
			}
			for _, expected := range tt.expected {
				if !strings.Contains(output, expected) && !strings.Contains(output, strings.ReplaceAll(expected, `\"`, `"`)) {
					t.Errorf("expected %s, got %s", expected, output)
				}
			}
		})
	}
}

// A secret that stands in the configuration and can be guessed is a warning. Of a file and of a variable, the line break at the end is left out.
func TestValidateWarnsOfShortSecrets(t *testing.T) {
	long := write(t, t.TempDir(), "secret", "8jXq2vLw7Rz4Tn1KcYp5\n")
	tests := []struct {
		secrets string
		warned  bool
	}{
		{"hunter2", true}, {"8jXq2vLw7Rz4Tn1KcYp5", false}, {"8jXq2vLw7Rz4Tn1KcYp5 hunter2", true}, {"{file." + long + "}", false}, {"{env.ENDED_VARIABLE}", false},
	}
	var caddyfiles []string
	for _, tt := range tests {
		caddyfiles = append(caddyfiles, "{\noauth {\nissuer https://example.com {\nclient app {\nsecret "+tt.secrets+"\ngrant_types client_credentials\n}\n}\n}\n}")
	}
	validations := validateAll(t, caddyfiles...)
	for n, tt := range tests {
		output := validations[n].output
		if !validations[n].ok {
			t.Errorf("%s: %s", tt.secrets, output)
		}
		if warned := strings.Contains(output, "so short that it can be guessed"); warned != tt.warned || strings.Contains(output, "hunter2") {
			t.Errorf("%s: warned %t, want %t: %s", tt.secrets, warned, tt.warned, output)
		}
	}
}

// No message contains a secret or a part of one.
func TestValidateKeepsSecrets(t *testing.T) {
	dir := t.TempDir()
	secret := write(t, dir, "secret", "do-not-tell")
	output, ok := validate(t, "{\noauth {\nissuer https://example.com {\nclient app {\nsecret {file."+secret+"}\nredirect_uris https://app.example.com/\nscopes nonsense{env.HOME}\n}\n}\n}\n}")
	if ok || strings.Contains(output, "do-not-tell") {
		t.Errorf("valid: %t, %s", ok, output)
	}
	jwks := write(t, dir, "jwks", `{"keys":[{"kty":"oct","k":"do-not-tell"}]}`)
	output, ok = validate(t, "{\noauth {\nissuer https://example.com {\nsigning HS256 {\njwks_file "+jwks+"\n}\n}\n}\n}")
	if ok || strings.Contains(output, "do-not-tell") {
		t.Errorf("valid: %t, %s", ok, output)
	}
}

// Validating neither writes nor listens: the port of the site is in use.
func TestValidateLeavesNoTrace(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // of no consequence
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	home := t.TempDir()
	storage := filepath.Join(home, "storage")
	config := write(t, home, "Caddyfile", "{\nadmin "+listener.Addr().String()+"\nstorage file_system "+storage+`
	oauth {
		issuer http://localhost:8080 {
			client app {
				redirect_uris http://127.0.0.1/callback
			}
		}
		issuer rsa https://example.com {
			signing RS256
		}
	}
}
http://`+listener.Addr().String()+` {
	oauth default
	oauth rsa
}`)
	for _, command := range [][]string{{"validate"}, {"adapt", "--validate"}} {
		output, ok := caddyCommand(t, home, append(command, "--adapter", "caddyfile", "--config", config)...)
		if !ok {
			t.Fatalf("%s: %s", command, output)
		}
		err := filepath.WalkDir(home, func(path string, _ fs.DirEntry, err error) error {
			if strings.Contains(path[len(home):], "oauth") || path == storage {
				t.Errorf("%s left %s", command, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
