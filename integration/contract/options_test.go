package contract_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
)

// TestEveryOptionIsNeeded removes each option from each example, and expects that a check of the document then fails.
func TestEveryOptionIsNeeded(t *testing.T) {
	for _, c := range []*contract{membership, payments, payload, retail, username} {
		t.Run(c.example, func(t *testing.T) {
			text := c.text(t)
			if name, err := c.firstFailure(t, text); err != nil {
				t.Fatalf("with all options: %s: %v", name, err)
			}
			var table strings.Builder
			w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
			for _, o := range options(text) {
				name, err := c.firstFailure(t, c.without(text, o))
				if err == nil {
					t.Errorf("without %s, all checks pass: is it needed?", o)
					continue
				}
				reason, _, _ := strings.Cut(err.Error(), "\n")
				_, _ = fmt.Fprintf(w, "%s\t%s\t%.100s\n", o, name, reason) // it writes to memory
			}
			_ = w.Flush() // as above
			t.Logf("option, what fails without it, and how\n%s", &table)
		})
	}
}

// firstFailure returns the first check that fails with a Caddyfile, and its error. It skips the checks with curl, since other checks
// cover the same.
func (c *contract) firstFailure(t *testing.T, text string) (name string, err error) {
	t.Helper()
	text, storage := c.withOther(t, text), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := c.inMemory(t, text, storage)
		for _, check := range c.checks {
			if check.curl {
				continue
			}
			if err = failure(t.Context(), check.run, e); err != nil {
				name = check.name
				return
			}
		}
	})
	return name, err
}

// option is a setting that can be removed from a Caddyfile.
type option struct {
	path  string // such as "access_token format"
	text  string // such as "access_token format opaque"
	index int    // the index of the line
	value string // the value of a list to remove; "" is the whole option
}

func (o option) String() string {
	if o.value != "" {
		return o.path + ": " + o.value
	}
	return o.text
}

// given are the settings that every example has: scopes, and the clients with what they may do.
var given = []string{"login", "scope", "client", "name", "secret", "redirect_uris", "grant_types", "scopes"}

// options returns the options of an issuer, of its clients and of the directive, of a Caddyfile as caddy fmt writes it.
func options(text string) (all []option) {
	var blocks [][]string // the words that opened the current blocks
	for i, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#":
			continue
		case words[0] == "}":
			blocks = blocks[:len(blocks)-1]
			continue
		}
		opens := words[len(words)-1] == "{"
		words = slices.DeleteFunc(words, func(w string) bool { return w == "{" })
		names := names(blocks)
		at := max(slices.Index(names, "oauth"), slices.Index(names, "oauth_guard")) + 1
		if at > 0 && !slices.Contains(names[at:], "grant") && !slices.Contains(names, "login") && !slices.Contains(given, words[0]) {
			path := strings.Join(append(names[at:], words[0]), " ")
			o := option{path: path, text: strings.Join(append(names[at:], words...), " "), index: i}
			if !opens || len(words) > 1 {
				all = append(all, o)
			}
			if words[0] == "request_body" { // each of its values is an option of its own
				for _, o.value = range words[1:] {
					all = append(all, o)
				}
			}
		}
		if opens {
			blocks = append(blocks, words)
		}
	}
	return all
}

// names returns the first words of blocks.
func names(blocks [][]string) (all []string) {
	for _, words := range blocks {
		all = append(all, strings.Join(words[:min(1, len(words))], ""))
	}
	return all
}

// without returns a Caddyfile without an option and the lines that depend on it. If the option is a block with an argument, only the
// argument is removed, except for grant types, whose whole block is removed.
func (c *contract) without(text string, o option) string {
	lines := strings.Split(text, "\n")
	depth := func(line string) int { return len(line) - len(strings.TrimLeft(line, "\t")) }
	own, end := depth(lines[o.index]), o.index+1
	for end < len(lines) && (lines[end] == "" || depth(lines[end]) >= own) {
		end++ // to the end of the block with the option
	}
	for i := o.index + 1; i < end; i++ {
		for _, pair := range c.along[o.path] {
			if strings.TrimSpace(lines[i]) == pair[0] {
				lines[i] = pair[1]
			}
		}
	}
	word, _, _ := strings.Cut(strings.TrimSpace(lines[o.index]), " ")
	switch {
	case o.value != "":
		lines[o.index] = strings.Replace(lines[o.index], " "+o.value, "", 1)
	case !strings.HasSuffix(lines[o.index], "{"):
		lines[o.index] = ""
	case word != "grant":
		lines[o.index] = word + " {"
	default:
		closing := o.index + slices.Index(lines[o.index:], strings.Repeat("\t", own)+"}")
		lines = slices.Delete(lines, o.index, closing+1)
	}
	return strings.Join(lines, "\n")
}
