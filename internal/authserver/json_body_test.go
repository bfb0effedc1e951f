package authserver

import (
	"bytes"
	"encoding/json"
	"net/url"
	"reflect"
	"testing"
)

// What a JSON body says must not depend on who reads it: a proxy in front that looks at grant_type or client_id with
// another parser sees what the server sees. So whatever is accepted is what encoding/json finds there, to the digit,
// and nothing is there twice.
func FuzzJSONMembers(f *testing.F) {
	for _, seed := range []string{
		`{"grant_type":"password","username":"é\ud83d\udd11","password":"\u0000\"\\"}`,
		`{"n":12345678901234567890,"f":-0.10e+01,"t":true,"u":null}`,
		`{"resource":["a","b",null,1,false],"scope":""}`,
		`{"resource":"a","resource":"b"}`,
		`{"resource":[],"resource":[]}`,
		`{"a":null,"a":"x"}`,
		`{"a":"x","\u0061":"y"}`,
		`{"A":"x","a":"y"}`,
		`{"":"x"}`,
		"{\"a\":\"\xff\xfe\"}",
		"\t{ \"a\" :\n1 } ",
		`{"a":01}`, `{"a":+1}`, `{"a":NaN}`, `{'a':1}`, `{"a":1}//`, `{"a":tru}`, `{"a":"` + "\n" + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseJSON(body)
		if (got == nil) == (err == nil) {
			t.Fatalf("%q gives %q and error %v", body, got, err)
		}
		want, ok := plainMembers(body)
		switch {
		case err == nil && !ok:
			t.Errorf("%q is no object of plain values, each there once, but gives %q", body, got)
		case err != nil && ok:
			t.Errorf("%q is %q, but gives error %v", body, want, err)
		case err == nil && !reflect.DeepEqual(got, want):
			t.Errorf("%q is %q, but gives %q", body, want, got)
		}
	})
}

// plainMembers reads a body as a whole with encoding/json, and reports whether it is an object of plain values, each
// there once.
func plainMembers(body []byte) (url.Values, bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object == nil || members(body) != len(object) {
		return nil, false
	}
	form := url.Values{}
	for name, raw := range object {
		elements := []json.RawMessage{raw}
		if name == "resource" && raw[0] == '[' {
			_ = json.Unmarshal(raw, &elements)
		}
		for _, element := range elements {
			text := string(element) // of a number or a boolean
			switch element[0] {
			case '"':
				_ = json.Unmarshal(element, &text)
			case 'n':
				text = ""
			case '{', '[':
				return nil, false
			}
			form.Add(name, text)
		}
	}
	return form, true
}

// members counts the members of an object, repeated ones too: there are two tokens of each at its depth.
func members(object []byte) (count int) {
	depth, decoder := 0, json.NewDecoder(bytes.NewReader(object))
	for {
		token, err := decoder.Token()
		if err != nil {
			return count / 2
		}
		switch token {
		case json.Delim('}'), json.Delim(']'):
			depth--
			continue
		}
		if depth == 1 {
			count++
		}
		if token == json.Delim('{') || token == json.Delim('[') {
			depth++
		}
	}
}
