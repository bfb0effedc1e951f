package caddyoauth_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
)

const moveKey = "Zm9yIHRoaXMgdGVzdCwgYW5kIGFzIGxvbmcgYXMgaXQgbXVzdCBiZQ=="

// target returns a configuration to import a dump into.
func (s *server) target(t *testing.T, settings string) (file, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "storage")
	file = filepath.Join(t.TempDir(), "Caddyfile")
	text := strings.Replace(shop, "store memory", settings, 1)
	text = "{\nstorage file_system " + dir + "\n" + strings.ReplaceAll(text, "PORT", s.port) + "\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, dir
}

// exported signs in at the shop, and returns the name of a dump of it.
func (s *server) exported(t *testing.T) string {
	t.Helper()
	s.signIn(t, s.url("shop.localhost"))
	file := filepath.Join(t.TempDir(), "dump")
	expect(t, s.must(t, "", "export", "--file", file), `^Exported \d+ records of issuer default\.$`)
	return file
}

// In JSON, a handler without settings of its own can say so by null.
func TestImportOfAConfigWithoutSettingsInASite(t *testing.T) {
	s := runShop(t)
	dump, file := s.exported(t), filepath.Join(t.TempDir(), "config.json")
	config := bytes.Replace(s.adapt(t, strings.Replace(shop, "store memory", "", 1), shopSite), []byte(`"handler":"oauth"`), []byte(`"handler":"oauth","settings":null`), 1)
	config = bytes.ReplaceAll(config, []byte(filepath.Join(s.dir, "storage")), []byte(t.TempDir()))
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := s.command(t, "", "import", "--file", dump, "--config", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	expect(t, out, `^Imported \d+ records into issuer default: [1-9]\d* written`)
}

func TestExportAndImport(t *testing.T) {
	s := runShop(t)
	dump := s.exported(t)
	info, err := os.Stat(dump)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the dump has mode %v, want 0600: %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(dump + "*"); err != nil || len(left) != 1 {
		t.Errorf("beside the dump there is %v", left)
	}
	t.Setenv("OAUTH_KEY", moveKey)
	config, dir := s.target(t, "encryption_key {env.OAUTH_KEY}")
	for _, want := range []string{`: [1-9]\d* written, 0 already there`, `: 0 written, [1-9]\d* already there`} {
		out, err := s.command(t, "", "import", "--file", dump, "--config", config)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		expect(t, out, `^Imported \d+ records into issuer default`+want)
	}
	keys, err := storage.NewEncryptionKeys([]string{moveKey}, false)
	if err != nil {
		t.Fatal(err)
	}
	store := storage.Encrypted(caddystore.New(&certmagic.FileStorage{Path: dir}, "default"), "default", keys)
	kinds := map[storage.Kind]int{}
	for record, err := range store.(storage.Exporter).Export(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		kinds[record.Key.Kind]++
	}
	if kinds[storage.KindFamily] != 1 || kinds[storage.KindKeys] != 1 {
		t.Errorf("there are %v", kinds)
	}
}

// readOnlyShop is the shop while it is moved.
var readOnlyShop = strings.Replace(shop, "store memory", "store memory\nread_only", 1)

func TestExportThroughAPipe(t *testing.T) {
	s := runShop(t)
	s.signIn(t, s.url("shop.localhost"))
	s.run(t, readOnlyShop, shopSite)
	out := s.must(t, "", "export")
	expect(t, out, `^\{"format":"caddy-oauth dump","version":1,.*"read_only":true`)
	expect(t, out, `^The issuer is read-only, so this export is final\.$`)
	config, _ := s.target(t, "")
	text, _, _ := strings.Cut(out, "Exported")
	out, err := s.command(t, text, "import", "--config", config, "--json")
	if err != nil || !strings.Contains(out, `"removed": 0`) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestImportRefuses(t *testing.T) {
	s := runShop(t)
	dump := s.exported(t)
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	good, dir := s.target(t, "")
	memory, _ := s.target(t, "store memory")
	keyless, _ := s.target(t, "encryption_key {env.OAUTH_KEY_THAT_IS_NOT_SET}")
	short, _ := s.target(t, "encryption_key {env.OAUTH_KEY}")
	t.Setenv("OAUTH_KEY", "hunter2")
	for _, c := range []struct {
		name, config string
		dump         []byte
		args         []string
		problem      string
	}{
		{"half a dump", good, text[:len(text)/2], nil, `^Error: line \d+: `},
		{"a dump without its end", good, text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1], nil, `it was cut off$`},
		{"no dump", good, []byte("{}"), nil, `^Error: line 1: expected the first line`},
		{"another issuer", good, text, []string{"--issuer", "other"}, `there is no issuer "other" in the configuration, expected --issuer with default$`},
		{"the memory store", memory, text, nil, `^Error: issuer default: the memory store`},
		{"no key", keyless, text, nil, `encryption_key: .*OAUTH_KEY_THAT_IS_NOT_SET`},
		{"a short key", short, text, nil, `encryption_key: expected 32 random bytes`},
		{"no such file", "nowhere", text, nil, `nowhere: no such file`},
	} {
		file := filepath.Join(t.TempDir(), "dump")
		if err := os.WriteFile(file, c.dump, 0o600); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"import", "--file", file, "--config", c.config, "--adapter", "caddyfile"}, c.args...)
		out, err := s.command(t, "", args...)
		if err == nil {
			t.Errorf("%s: no error: %s", c.name, out)
		}
		expect(t, out, c.problem)
		if strings.Contains(out, "hunter2") {
			t.Errorf("%s: the key is in\n%s", c.name, out)
		}
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused import has left a trace")
	}
	if out, err := s.command(t, string(text), "import", "--config", "-"); err == nil {
		t.Errorf("the dump and the configuration from standard input: %s", out)
	}
}

// An export that fails leaves no file.
func TestExportFails(t *testing.T) {
	s := runShop(t)
	dir := t.TempDir()
	out, err := s.command(t, "", "export", "--file", filepath.Join(dir, "dump"), "--issuer", "other", "--address", "127.0.0.1:"+s.admin)
	if err == nil {
		t.Errorf("no error: %s", out)
	}
	expect(t, out, `^Error: there is no issuer "other", expected default$`)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("there is %v", left)
	}
}

func TestEncryptCommand(t *testing.T) {
	s := newServer(t)
	t.Setenv("OAUTH_KEY", moveKey)
	run := func(setting string) {
		s.run(t, strings.Replace(shop, "store memory", setting, 1), shopSite)
	}
	run("")
	token := s.signIn(t, s.url("shop.localhost")).RefreshToken
	for _, step := range []struct{ setting, changed string }{
		{"encryption_key off {env.OAUTH_KEY}", `^(\d+) records, of which 0 were rewritten`},
		{"encryption_key {env.OAUTH_KEY}", `^(\d+) records, of which [1-9]\d* were rewritten`},
		{"encryption_key {env.OAUTH_KEY}", `^(\d+) records, of which 0 were rewritten`},
		{"encryption_key off {env.OAUTH_KEY}", `^(\d+) records, of which [1-9]\d* were rewritten`},
	} {
		run(step.setting)
		token = s.refresh(t, s.url("shop.localhost"), token).RefreshToken
		expect(t, s.must(t, "", "encrypt"), step.changed)
	}
	run("") // every record is readable without the key
	token = s.refresh(t, s.url("shop.localhost"), token).RefreshToken
	run("encryption_key {env.OAUTH_KEY}")
	s.refresh(t, s.url("shop.localhost"), token)
	run("")
	out, err := s.command(t, "", "encrypt", "--address", "127.0.0.1:"+s.admin)
	if err == nil {
		t.Errorf("without the key: %s", out)
	}
	expect(t, out, `^Error: no encryption_key is configured`)
	if got := s.refresh(t, s.url("shop.localhost"), token); got.Error != "temporarily_unavailable" {
		t.Errorf("without the key: %+v", got)
	}
}

func TestAdminMove(t *testing.T) {
	s := runShop(t)
	s.api(t, http.MethodPost, "/export", `{"freeze": "2m"}`, http.StatusBadRequest)
	s.api(t, http.MethodGet, "/export", "", http.StatusMethodNotAllowed)
	s.signIn(t, s.url("shop.localhost"))
	s.run(t, readOnlyShop, shopSite)
	body := strings.Replace(stock, "PORT", s.url("shop.localhost"), 1)
	s.api(t, http.MethodPost, "/clients", body, http.StatusServiceUnavailable)
	s.api(t, http.MethodPost, "/keys/rotate", "", http.StatusServiceUnavailable)
	s.run(t, shop, shopSite)
	s.api(t, http.MethodPost, "/clients", body, http.StatusCreated)

	answer := s.askAdmin(t, http.MethodPost, "/oauth/default/export", "")
	lines := strings.Split(strings.TrimSpace(answer.body), "\n")
	var end struct {
		End     bool `json:"end"`
		Records int  `json:"records"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &end); err != nil || !end.End || end.Records != len(lines)-2 {
		t.Errorf("%v: the last of %d lines is %s", err, len(lines), lines[len(lines)-1])
	}
	if answer.header.Get("Content-Type") != "application/jsonl" || answer.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", answer.header)
	}
}

// A request that the old configuration still serves is answered, and an export of the read-only issuer has what it wrote.
func TestReadOnlyWaitsForOlderRequests(t *testing.T) {
	s := runShop(t)
	issuer := s.url("shop.localhost")
	form := url.Values{
		"grant_type": {"refresh_token"}, "client_id": {"app"}, "client_secret": {"app-secret"},
		"refresh_token": {s.signIn(t, issuer).RefreshToken},
	}.Encode()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // all was read
	half := len(form) / 2
	_, err = fmt.Fprintf(conn, "POST /oauth/token HTTP/1.1\r\nHost: shop.localhost:%s\r\nContent-Length: %d\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n", s.port, len(form))
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	if reading, err := http.ReadResponse(answers, nil); err != nil || reading.StatusCode != http.StatusContinue { //nolint:bodyclose // it has none
		t.Fatalf("the server does not read the request: %v", err)
	}
	if _, err := io.WriteString(conn, form[:half]); err != nil {
		t.Fatal(err)
	}
	s.run(t, readOnlyShop, shopSite) // the reload does not wait for the request
	if got := s.refresh(t, issuer, "no token"); got.Error != "invalid_grant" {
		t.Errorf("a refusal: %+v", got)
	}
	exported := make(chan answer, 1)
	go func() { exported <- s.askAdmin(t, http.MethodPost, "/oauth/default/export", "") }()
	if _, err := io.WriteString(conn, form[half:]); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got tokens
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the request of before: %d %+v %v", resp.StatusCode, got, err)
	}
	dump := <-exported
	if got := s.refresh(t, issuer, got.RefreshToken); got.Error != "temporarily_unavailable" {
		t.Errorf("a refresh: %+v", got)
	}
	config, dir := s.target(t, "")
	if out, err := s.command(t, dump.body, "import", "--config", config); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	moved := s.adapt(t, strings.Replace(shop, "store memory", "", 1), shopSite)
	moved = bytes.ReplaceAll(moved, []byte(filepath.Join(s.dir, "storage")), []byte(dir))
	if err := caddy.Load(moved, true); err != nil {
		t.Fatal(err)
	}
	if got := s.refresh(t, issuer, got.RefreshToken); got.RefreshToken == "" {
		t.Errorf("after the move: %+v", got)
	}
}

// After a reload that fails, the old configuration still writes.
func TestReadOnlyReloadThatFails(t *testing.T) {
	s := runShop(t)
	token := s.signIn(t, s.url("shop.localhost")).RefreshToken
	if err := caddy.Load(withUnknownIssuer(s.adapt(t, readOnlyShop, "http://:PORT {\n oauth\n}")), true); err == nil {
		t.Fatal("the configuration was loaded")
	}
	if got := s.refresh(t, s.url("shop.localhost"), token); got.RefreshToken == "" {
		t.Errorf("after a reload that failed: %+v", got)
	}
}
