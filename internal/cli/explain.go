package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/explain"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

const (
	explainHelp = `
Explains an error by its ID, which is in the answer that the app or the person
got: what came, what was expected, which setting decides, the likely cause, what
the client will do, and what to do about it. No secret is shown.

The running Caddy remembers its last 1,000 errors. --log reads an older one from
a log file of Caddy's, or with - from standard input, and needs no running Caddy.
The line of the setting is shown if --config names the Caddyfile, or if there is
one in the current directory.

Without an ID, it lists the last errors.`

	explainCodeHelp = `
Explains an error code of OAuth that this server sends, such as invalid_grant.`

	explainSettingHelp = `
Explains a setting, by its name in a Caddyfile or in JSON. More words tell
settings of the same name apart: "client scopes", "refresh_token lifetime".`
)

func explainFlags(f caddycmd.Flags) {
	f.FlagSet.String("log", "", "Log file to find the error in, - for standard input (default: the running Caddy)")
}

func runExplain(c *invocation) error {
	if c.arg == "" {
		return c.listFailures()
	}
	f, err := c.failure(strings.ToLower(strings.TrimSpace(c.arg)))
	if err != nil {
		return err
	}
	explained := struct {
		*explain.Explanation
		Place string `json:"place,omitempty"`
	}{explain.Failure(f), c.place(f)}
	return c.print(explained, func(w io.Writer) { printExplanation(w, explained.Explanation, explained.Place) })
}

// listFailures prints the last failures of the running Caddy.
func (c *invocation) listFailures() error {
	var failures []trail.Failure
	if err := c.request(http.MethodGet, "/oauth/@all/failures", nil, &failures); err != nil {
		return err
	}
	return c.print(failures, func(w io.Writer) {
		row(w, "ERROR ID", "TIME", "ENDPOINT", "CLIENT", "ERROR", "DESCRIPTION")
		for _, f := range failures {
			row(w, f.ID, formatTime(f.Time), f.Endpoint, f.Client, f.Code, cmp.Or(f.Description, f.Cause))
		}
	})
}

// failure finds a failure by its error ID.
func (c *invocation) failure(id string) (*trail.Failure, error) {
	name := c.flags.String("log")
	if name == "" {
		f := new(trail.Failure)
		return f, c.request(http.MethodGet, "/oauth/@all/failures/"+url.PathEscape(id), nil, f)
	}
	log := c.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		log = file
	}
	f, ok, err := explain.FromLog(log, id)
	if err == nil && !ok {
		err = fmt.Errorf("no error with the ID %s in the log", id)
	}
	return &f, err
}

// place returns where the setting that decides stands in the Caddyfile, "" if that cannot be found.
func (c *invocation) place(f *trail.Failure) string {
	name := cmp.Or(c.flags.String("config"), "Caddyfile")
	text, err := os.ReadFile(name)
	if err != nil || f.Setting == "" || filepath.Ext(name) == ".json" {
		return ""
	}
	lines, err := directive.ReadLines(name, text)
	if err != nil {
		return ""
	}
	path, what := settingPath(f)
	if f.Endpoint == "guard" {
		lines = guardsLike(lines, f)
	}
	if len(path) > 0 && path[0] == "oauth" { // the directive, not the global option
		lines = slices.DeleteFunc(lines, func(site directive.Line) bool { return len(site.Words) == 0 })
	}
	// A setting can have two names: the first one that is there.
	var line directive.Line
	var whole, ok bool
	for _, alternative := range what {
		full := append(slices.Clone(path), alternative)
		if line, whole, ok = directive.Find(lines, append([]string{"issuer " + f.Issuer}, full...)...); !whole {
			line, whole, ok = directive.Find(lines, full...)
		}
		if whole {
			return fmt.Sprintf("%s:%d", line.File, line.Number)
		}
	}
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s:%d, in the block that begins there; it is not set", line.File, line.Number)
}

// guardsLike returns the guard that a failure is from, or none if that cannot be told: the only one there is, or the only one that
// requires the scopes.
func guardsLike(lines []directive.Line, f *trail.Failure) []directive.Line {
	var all, same []directive.Line
	var visit func(lines []directive.Line)
	visit = func(lines []directive.Line) {
		for _, line := range lines {
			if line.Words[0] == "oauth_guard" {
				all = append(all, line)
				if scopes, whole, _ := directive.Find(line.Block, "scopes"); whole && strings.Join(scopes.Words[1:], " ") == f.Expected {
					same = append(same, line)
				}
			}
			visit(line.Block)
		}
	}
	for _, site := range lines {
		visit(site.Block)
	}
	switch {
	case len(all) == 1:
		return all
	case len(same) == 1:
		return same
	}
	return nil
}

// settingPath returns the names that lead to the setting of a failure, and the names that the setting itself may have.
func settingPath(f *trail.Failure) (path, names []string) {
	setting, inDirective := strings.CutSuffix(f.Setting, " of the oauth directive")
	steps := strings.Split(setting, ": ")
	last := strings.NewReplacer(" and ", ", ").Replace(steps[len(steps)-1])
	path = slices.Clone(steps[:len(steps)-1])
	if inDirective {
		path = []string{"oauth"}
	}
	if block, inner, ok := strings.Cut(last, " "); ok && !strings.Contains(last, ",") && block != "client" && block != "issuer" { // "refresh_token retry"
		path, last = append(path, block), inner
	}
	return path, strings.Split(last, ", ")
}

func printExplanation(w io.Writer, e *explain.Explanation, place string) {
	f := e.Failure
	paragraph(w, "", fmt.Sprintf("Error %s at %s.", f.ID, f.Time.Local().Format(time.DateTime)))
	paragraph(w, "", e.Summary)
	decides := f.Setting
	if place != "" {
		decides += " (" + place + ")"
	}
	fmt.Fprintln(w)
	for _, fact := range [][2]string{
		{"What came", f.Sent},
		{"What was expected", f.Expected},
		{"Which setting decides", decides},
		{"What the client was told", f.Description},
		{"Cause", f.Cause},
		{"User", f.Subject},
		{"API", f.Resource},
		{"Address of the client", f.Address},
	} {
		if fact[1] != "" {
			fact[1] = strings.Map(printable, fact[1])
			fmt.Fprintf(w, "  %-25s %s\n", fact[0]+":", fact[1])
		}
	}
	for _, part := range [][2]string{{"Why", e.Why}, {"What the client does next", e.Next}} {
		if part[1] != "" {
			fmt.Fprintf(w, "\n%s\n", part[0])
			paragraph(w, "  ", part[1])
		}
	}
	fmt.Fprintln(w, "\nWhat to do")
	for _, step := range e.Do {
		paragraph(w, "  - ", step)
	}
}

// width is how many characters a line of text has at most.
const width = 80

// paragraph prints a text in lines. The first begins with a prefix, the others with as many spaces.
func paragraph(w io.Writer, prefix, text string) {
	line, indent := prefix, strings.Repeat(" ", len(prefix))
	empty := true
	for word := range strings.FieldsSeq(strings.Map(spaceOrPrintable, text)) {
		switch {
		case empty:
			line += word
		case len(line)+1+len(word) > width:
			fmt.Fprintln(w, line)
			line = indent + word
		default:
			line += " " + word
		}
		empty = false
	}
	fmt.Fprintln(w, line)
}

func spaceOrPrintable(r rune) rune {
	if r == '\n' {
		return ' '
	}
	return printable(r)
}

func runExplainCode(c *invocation) error {
	code, ok := explain.CodeNamed(strings.ToLower(c.arg))
	if !ok {
		return fmt.Errorf("this server sends no error %s, expected %s", c.arg, directive.OneOf(explain.Codes()))
	}
	return c.print(code, func(w io.Writer) {
		paragraph(w, "", code.Code+": "+code.Meaning)
		fmt.Fprintln(w, "\nWhat the client does next")
		paragraph(w, "  ", code.Next)
		fmt.Fprintln(w, "\nWhat to do")
		for _, step := range code.Do {
			paragraph(w, "  - ", step)
		}
		fmt.Fprintln(w)
		paragraph(w, "", "Defined in "+code.Defined+".")
	})
}

func errorCodes(*invocation) ([]string, error) { return explain.Codes(), nil }

// runExplainSetting prints the comments of the settings with a name.
func runExplainSetting(c *invocation, settings func() (explain.Settings, error)) error {
	all, err := settings()
	if err != nil {
		return err
	}
	found := all.Find(strings.FieldsFunc(c.arg, func(r rune) bool { return r == ' ' || r == '.' || r == ':' }))
	if len(found) == 0 {
		message := "there is no setting " + c.arg
		if near, ok := directive.Nearest(c.arg, all.Names()); ok {
			message += "; did you mean " + near + "?"
		}
		return errors.New(message)
	}
	return c.print(found, func(w io.Writer) {
		for i, setting := range found {
			if i > 0 {
				fmt.Fprintln(w)
			}
			fmt.Fprintln(w, strings.Join(setting.Path, " > "))
			for part := range strings.SplitSeq(setting.Doc, "\n\n") {
				paragraph(w, "  ", strings.ReplaceAll(part, "**", ""))
			}
			if len(setting.Sub) > 0 {
				paragraph(w, "  ", "Settings in it: "+strings.Join(setting.Sub, ", ")+".")
			}
		}
	})
}
