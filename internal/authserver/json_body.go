package authserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

var errBadJSON = errors.New("not an object of plain values")

// parseJSON reads the parameters of a JSON body: an object whose members are strings, numbers or
// booleans, or null for an absent one; resource may also be an array of strings.
func parseJSON(body []byte) (url.Values, error) {
	form := url.Values{}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := readObject(decoder, form); err != nil {
		return nil, &grants.Error{
			Code: grants.InvalidRequest, Description: "the body is no JSON object of plain values", Cause: err,
		}
	}
	return form, nil
}

// readObject reads token by token, since an object with one member twice would else look like a good one.
func readObject(decoder *json.Decoder, form url.Values) error {
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errBadJSON, err)
	}
	seen := make(map[string]bool)
	for decoder.More() {
		t, err := decoder.Token()
		if err != nil {
			return err
		}
		name := t.(string)
		if seen[name] {
			return errors.New("a member is repeated")
		}
		seen[name] = true
		if err := readMember(decoder, form, name); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errBadJSON
	}
	return nil
}

func readMember(decoder *json.Decoder, form url.Values, name string) error {
	value, err := decoder.Token()
	if err != nil {
		return err
	}
	if value == json.Delim('[') && name == "resource" {
		for decoder.More() {
			element, err := decoder.Token()
			if err != nil {
				return err
			}
			if err := addValue(form, name, element); err != nil {
				return err
			}
		}
		_, err := decoder.Token() // the closing bracket
		return err
	}
	return addValue(form, name, value)
}

func addValue(form url.Values, name string, value json.Token) error {
	switch v := value.(type) {
	case string:
		form.Add(name, v)
	case json.Number:
		form.Add(name, v.String())
	case bool:
		form.Add(name, strconv.FormatBool(v))
	case nil:
		form.Add(name, "") // counts as absent, but twice is twice
	default:
		return errBadJSON
	}
	return nil
}
