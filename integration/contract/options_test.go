package contract_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
)

// TestEveryOptionIsNeeded takes from each example one option after the other, and finds what the document then has to
// complain of.
func TestEveryOptionIsNeeded(t *testing.T) {
	for _, c := range []*contract{membership, payments, payload, retail, username} {
		t.Run(c.example, func(t *testing.T) {
			text := c.text(t)
			if name, err := c.complaint(t, text); err != nil {
				t.Fatalf("with all options: %s: %v", name, err)
			}
			var table strings.Builder
			w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
			for _, o := range options(text) {
				name, err := c.complaint(t, c.without(text, o))
				if err == nil {
					t.Errorf("without %s all is well: is it needed?", o)
					continue
				}
				reason, _, _ := strings.Cut(err.Error(), "\n")
				_, _ = fmt.Fprintf(w, "%s\t%s\t%.100s\n", o, name, reason) // to memory
			}
			_ = w.Flush() // the same
			t.Logf("option, what fails without it, and how\n%s", &table)
		})
	}
}

// complaint returns the first check that a Caddyfile does not pass, with the reason. Those in curl are left out: whatever they
// find, others find too.
func (c *contract) complaint(t *testing.T, text string) (name string, err error) {
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

// option is a setting that a Caddyfile could do without and still be one.
type option struct {
	path  string // such as "access_token format"
	text  string // such as "access_token format opaque"
	index int    // of the line
	value string // of a list, the value that it could do without; else all of it
}

func (o option) String() string {
	if o.value != "" {
		return o.path + ": " + o.value
	}
	return o.text
}

// What every example has: what people may allow, who the clients are and what they may do.
var given = []string{"issuer", "scope", "client", "name", "secret", "redirect_uris", "grant_types", "scopes"}

// options returns the options of an issuer, of its clients and of the directive, of a Caddyfile as caddy fmt writes it.
func options(text string) (all []option) {
	var blocks [][]string // those that are open, by the words that open them
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
		at := max(slices.Index(names, "issuer"), slices.Index(names, "oauth"), slices.Index(names, "oauth_guard")) + 1
		if at > 0 && !slices.Contains(names[at:], "grant") && !slices.Contains(given, words[0]) {
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

// without returns a Caddyfile without an option, nor what must go along with it. Of a block that has an argument, this goes
// alone, but for grant types, whose block is the option.
func (c *contract) without(text string, o option) string {
	lines := strings.Split(text, "\n")
	depth := func(line string) int { return len(line) - len(strings.TrimLeft(line, "\t")) }
	own, end := depth(lines[o.index]), o.index+1
	for end < len(lines) && (lines[end] == "" || depth(lines[end]) >= own) {
		end++ // to the end of the block that the option stands in
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
