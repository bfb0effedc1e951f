package adapt

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

// TestCaddyfilesOfTheDocs adapts and validates each Caddyfile in the documents.
func TestCaddyfilesOfTheDocs(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	files := ownerFiles(t)
	for _, doc := range documents(t) {
		for _, block := range blocks(doc.text, "caddyfile") {
			t.Run(fmt.Sprintf("%s:%d", doc.name, block.line), func(t *testing.T) {
				for _, variable := range variables.FindAllStringSubmatch(block.text, -1) {
					t.Setenv(variable[1], strings.Repeat("0123456789abcdef", 4)) // long enough for a key
				}
				text := strings.ReplaceAll(block.text, "/etc/caddy/", files+"/")
				adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
				if err != nil {
					t.Fatal(err)
				}
				for _, w := range warnings {
					t.Errorf("warning: %v", w)
				}
				validate(t, adapted)
			})
		}
	}
}

// ownerFiles returns a directory with the files that stand in /etc/caddy in the documents.
func ownerFiles(t *testing.T) string {
	t.Helper()
	var logo bytes.Buffer
	if err := png.Encode(&logo, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"logo.svg":       `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="8" height="8"/></svg>`,
		"shop-app.png":   logo.String(),
		"partner-ca.pem": string(mtlstest.PEM(mtlstest.NewCA(t).Cert)),
		"billing.pub.pem": "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEJLn9eo0fBiDOhaXfS1a5UVCuKGuO\n" +
			"Ieq80KDho6LR1ACoI6bIu2xPvIdKccaypjziWi9Vf7ZbyTSSWhWJcpg+OA==\n-----END PUBLIC KEY-----\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.ToSlash(dir)
}

// variables are the environment variables that a Caddyfile reads, unless they have a default.
var variables = regexp.MustCompile(`\{(?:env\.|\$)([A-Za-z_][A-Za-z0-9_]*)\}`)

// TestLinksOfTheDocs checks that each link from a document to another file of the project leads somewhere.
func TestLinksOfTheDocs(t *testing.T) {
	headings := make(map[string]map[string]bool)
	for _, doc := range documents(t) {
		headings[doc.name] = anchors(doc.text)
	}
	for _, doc := range documents(t) {
		for _, link := range links.FindAllStringSubmatch(withoutBlocks(doc.text), -1) {
			target := link[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(target, "#")
			name := doc.name
			if file != "" {
				name = path.Join(path.Dir(doc.name), file)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(name))); err != nil {
				t.Errorf("%s: the link %s leads nowhere", doc.name, target)
			} else if anchor != "" && !headings[name][anchor] {
				t.Errorf("%s: %s has no heading for the link %s", doc.name, name, target)
			}
		}
	}
}

var (
	links   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns the anchors that GitHub gives to the headings of a document.
func anchors(text string) map[string]bool {
	found := make(map[string]bool)
	for _, h := range heading.FindAllStringSubmatch(withoutBlocks(text), -1) {
		found[strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")] = true
	}
	return found
}

// root is the directory of the project.
const root = "../.."

type document struct{ name, text string }

// documents returns the documents of the project, those in docs and those beside it.
func documents(t *testing.T) (docs []document) {
	t.Helper()
	files := os.DirFS(root)
	names, err := fs.Glob(files, "*.md")
	if err != nil {
		t.Fatal(err)
	}
	err = fs.WalkDir(files, "docs", func(name string, _ fs.DirEntry, err error) error {
		if path.Ext(name) == ".md" {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, document{name, strings.ReplaceAll(string(text), "\r\n", "\n")})
	}
	return docs
}

// codeBlock is a block of code in a document.
type codeBlock struct {
	language, text string
	line           int // of its first line
}

// blocks returns the blocks of a language.
func blocks(text, language string) (found []codeBlock) {
	eachLine(text, func(n int, line string, in *codeBlock) {
		if in != nil && in.line == n {
			found = append(found, codeBlock{in.language, "", n})
		}
		if in != nil {
			found[len(found)-1].text += line + "\n"
		}
	})
	kept := found[:0]
	for _, b := range found {
		if b.language == language {
			kept = append(kept, b)
		}
	}
	return kept
}

// withoutBlocks returns a document without its blocks of code.
func withoutBlocks(text string) string {
	var kept strings.Builder
	eachLine(text, func(_ int, line string, in *codeBlock) {
		if in == nil {
			kept.WriteString(line + "\n")
		}
	})
	return kept.String()
}

// eachLine calls visit with each line of a document but the fences of its blocks, and with the block that the line is in.
func eachLine(text string, visit func(n int, line string, in *codeBlock)) {
	var in *codeBlock
	for n, line := range strings.Split(text, "\n") {
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && in == nil:
			in = &codeBlock{language: strings.TrimSpace(language), line: n + 2}
		case fence:
			in = nil
		default:
			visit(n+1, line, in)
		}
	}
}
