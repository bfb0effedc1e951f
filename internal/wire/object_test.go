package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestObjectIsThatOfEncodingJSON(t *testing.T) {
	type object struct {
		Text    string    `json:"text,omitempty"`
		Number  int64     `json:"number,omitempty"`
		Decimal float64   `json:"decimal,omitempty"`
		Time    int64     `json:"time,omitempty"`
		Aud     any       `json:"aud,omitempty"`
		List    []string  `json:"list"`
		at      time.Time // for Time
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC)
	var every strings.Builder
	for c := range 256 {
		every.WriteRune(rune(c))
	}
	objects := []object{
		{},
		{Text: "Zürich", Number: -1, Decimal: 1767323045.678, at: at, Aud: []string{"https://a.example/?x=1&y", "b"}, List: []string{}},
		{Text: every.String(), Number: 1 << 62, Decimal: -0.5, Aud: every.String()},
		{Text: "\xff\xfe \u2028 <script>", Decimal: 1e20},
	}
	for c := range 256 { // each byte alone: one that needs an escape may be anywhere
		objects = append(objects, object{Text: string([]byte{'a', byte(c), 'b'})})
	}
	for _, want := range objects {
		if !want.at.IsZero() {
			want.Time = want.at.Unix()
		}
		o := NewObject()
		o.Text("text", want.Text)
		o.Number("number", want.Number)
		o.Decimal("decimal", want.Decimal)
		o.Time("time", want.at)
		switch aud := want.Aud.(type) {
		case string:
			o.Audience([]string{aud})
		case []string:
			o.Audience(aud)
		default:
			o.Audience(nil)
		}
		o.Value("list", want.List)
		got, err := o.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if encoded, _ := json.Marshal(want); string(got) != string(encoded) {
			t.Errorf("%s, encoding/json has %s", got, encoded)
		}
		o.Release()
	}
}

func TestObjectOfMembers(t *testing.T) {
	for _, tt := range []struct {
		text    string
		members map[string]any
		want    string
	}{
		{"", nil, `{}`},
		{"", map[string]any{}, `{}`},
		{"a", nil, `{"text":"a"}`},
		{"", map[string]any{"z": 1, "a": []string{"x"}}, `{"a":["x"],"z":1}`},
		{"a", map[string]any{"b": nil}, `{"text":"a","b":null}`},
	} {
		o := NewObject()
		o.Text("text", tt.text)
		o.Members(tt.members)
		if got, err := o.Bytes(); err != nil || string(got) != tt.want {
			t.Errorf("%s with error %v, want %s", got, err, tt.want)
		}
		o.Release()
	}
}

func TestObjectOfWhatJSONDoesNotHave(t *testing.T) {
	for name, add := range map[string]func(o *Object){
		"Value":   func(o *Object) { o.Value("a", make(chan int)) },
		"Members": func(o *Object) { o.Members(map[string]any{"a": func() {}}) },
	} {
		o := NewObject()
		add(&o)
		o.Text("text", "after")
		if _, err := o.Bytes(); err == nil {
			t.Errorf("%s has no error", name)
		}
		o.Release()
	}
}
