package directive

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

type shelf struct {
	room   string
	books  []string
	locked bool
	floor  int
	loan   caddy.Duration
	labels map[string]string
	lamp   *lamp
}

type lamp struct{ color string }

func parse(text string) (*shelf, *Parser, error) {
	p, s := New(caddyfile.NewTestDispenser(text)), new(shelf)
	return s, p, p.Block(Settings{
		"room":   p.Word("a room", &s.room),
		"books":  p.Words("one book or more", &s.books),
		"locked": p.Flag(&s.locked),
		"floor":  p.Number(0, &s.floor),
		"loan":   p.Duration(&s.loan),
		"label":  p.Pair("a name and a value", &s.labels),
		"lamp": p.Nested(func() Settings {
			s.lamp = new(lamp)
			return Settings{"color": p.Word("a color", &s.lamp.color)}
		}),
	})
}

func TestBlock(t *testing.T) {
	s, _, err := parse("shelf {\nroom 12\nbooks one two\nlocked\nfloor 0\nloan 2d\nlabel a b\nlabel c \"d e\"\nlamp {\ncolor red\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	if s.room != "12" || strings.Join(s.books, ",") != "one,two" || !s.locked || s.floor != 0 || s.loan != caddy.Duration(48*time.Hour) ||
		s.labels["a"] != "b" || s.labels["c"] != "d e" || s.lamp.color != "red" {
		t.Errorf("got %+v", s)
	}
}

func TestBlockErrors(t *testing.T) {
	for text, want := range map[string]string{
		"rom 12":                          `unknown setting "rom" (did you mean room?), expected one of: books, floor, label, lamp, loan, locked, room, at Testfile:2`,
		"room":                            "room: expected a room, got nothing, at Testfile:2",
		"room 1 2":                        "room: expected a room, got 2 arguments, at Testfile:2",
		`room ""`:                         "room: expected a room, got an empty argument, at Testfile:2",
		"room 1\nroom 2":                  "room: duplicate setting, first at Testfile:2, at Testfile:3",
		"room 1 {\n}":                     "unexpected {, expected a setting; the one above takes no block, at Testfile:2",
		"locked yes":                      "locked: expected nothing more, got an argument, at Testfile:2",
		"floor -1":                        "floor: expected a number from 0, not -1, at Testfile:2",
		"floor top":                       "floor: expected a number from 0, not top, at Testfile:2",
		"loan 0":                          "loan: expected a duration such as 2s, not 0, at Testfile:2",
		"label a b\nlabel a c":            "label a: duplicate setting, first at Testfile:2, at Testfile:3",
		"lamp bright":                     "lamp: expected a block in braces, got an argument, at Testfile:2",
		"lamp {\ncolor red\ncolor red\n}": "color: duplicate setting, first at Testfile:3, at Testfile:4",
		"lamp {\nsize 1\n}":               `unknown setting "size", expected color, at Testfile:3`,
	} {
		if _, _, err := parse("shelf {\n" + text + "\n}"); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestLocate(t *testing.T) {
	_, p, err := parse("shelf {\nroom 12\nlamp {\ncolor red\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	problem := errors.New("expected another")
	for _, c := range []struct {
		err  error
		want string
	}{
		{At("room", problem), "room: expected another, at Testfile:2"},
		{At("lamp", At("color", problem)), "lamp: color: expected another, at Testfile:4"},
		{At("lamp", At("size", problem)), "lamp: size: expected another, at Testfile:3"},
		{At("books", problem), "books: expected another"},
		{problem, "expected another"},
	} {
		if got := p.Locate(c.err); got.Error() != c.want || !errors.Is(got, problem) {
			t.Errorf("got %v, want %s", got, c.want)
		}
	}
	if got := p.Locate(nil); got != nil {
		t.Errorf("no error became %v", got)
	}
}
