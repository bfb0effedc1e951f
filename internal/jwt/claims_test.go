package jwt

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

var epoch = time.Unix(1772323200, 0)

const validClaims = `{"iss":"https://example.com","sub":"alice","aud":["https://api.example.com","other"],` +
	`"exp":1772323500,"iat":1772323200,"nbf":1772323200,"jti":"j","client_id":"app","scope":"a b","family":"f","family_iat":1772323100,"big":12345678901234567890}`

func TestClaims(t *testing.T) {
	tests := []struct {
		name    string
		change  map[string]any // nil deletes
		at      time.Duration
		want    error
		verdict string // in the error's text
	}{
		{name: "a valid token"},
		{name: "one audience as a string", change: map[string]any{"aud": "https://api.example.com"}},
		{name: "RFC 7519 §2 a time with a fraction", change: map[string]any{"exp": 1772323200.5}},
		{name: "optional claims absent", change: map[string]any{"nbf": nil, "iat": nil, "jti": nil, "scope": nil, "client_id": nil, "family": nil, "family_iat": nil}},
		{name: "RFC 7519 §4.1.4 the last moment of leeway", at: 5*time.Minute + 30*time.Second - time.Nanosecond},
		{name: "RFC 7519 §4.1.4 expired", at: 5*time.Minute + 30*time.Second, want: ErrExpired},
		{name: "RFC 7519 §4.1.5 nbf within the leeway", at: -30 * time.Second},
		{name: "RFC 7519 §4.1.5 nbf ahead", change: map[string]any{"nbf": 1772323231}, want: ErrNotYet},
		{name: "RFC 7519 §4.1.6 iat ahead", change: map[string]any{"iat": 1772323231}, want: ErrNotYet},
		{name: "exp missing", change: map[string]any{"exp": nil}, want: ErrClaims, verdict: "exp"},
		{name: "exp a string", change: map[string]any{"exp": "1772323500"}, want: ErrClaims, verdict: "exp"},
		{name: "exp negative", change: map[string]any{"exp": -1}, want: ErrClaims, verdict: "exp"},
		{name: "exp beyond all calendars", change: map[string]any{"exp": 1e300}, want: ErrClaims, verdict: "exp"},
		{name: "nbf a string", change: map[string]any{"nbf": "0"}, want: ErrClaims, verdict: "nbf"},
		{name: "iat an object", change: map[string]any{"iat": map[string]any{}}, want: ErrClaims, verdict: "iat"},
		{name: "aud a number", change: map[string]any{"aud": 1}, want: ErrClaims, verdict: "aud"},
		{name: "aud with a number", change: map[string]any{"aud": []any{"https://api.example.com", 1}}, want: ErrClaims, verdict: "aud"},
		{name: "sub missing", change: map[string]any{"sub": nil}, want: ErrClaims, verdict: "sub"},
		{name: "sub empty", change: map[string]any{"sub": ""}, want: ErrClaims, verdict: "sub"},
		{name: "a claim of another case is another claim", change: map[string]any{"sub": nil, "SUB": "root"}, want: ErrClaims, verdict: "sub"},
		{name: "scope a list", change: map[string]any{"scope": []string{"a"}}, want: ErrClaims, verdict: "scope"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := object(validClaims)
			for name, value := range tt.change {
				claims[name] = value
				if value == nil {
					delete(claims, name)
				}
			}
			c, err := ParseClaims([]byte(encode(claims)))
			if err == nil {
				err = c.CheckTime(epoch.Add(tt.at), Leeway)
			}
			if !errors.Is(err, tt.want) {
				t.Fatalf("the claims: %v, %v; want %v", c, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.verdict) {
				t.Errorf("error %q does not name %s", err, tt.verdict)
			}
		})
	}
}

// RFC 7519 §4.1.4: the leeway is only for what has expired. A token of an issuer whose clock is ahead is valid without it.
func TestLeeway(t *testing.T) {
	c := &Claims{IssuedAt: epoch, Expires: epoch.Add(time.Minute)}
	for _, tt := range []struct {
		at, leeway time.Duration
		want       error
	}{
		{time.Minute - 1, 0, nil},
		{time.Minute, 0, ErrExpired},
		{time.Minute + MaxLeeway - 1, MaxLeeway, nil},
		{time.Minute + MaxLeeway, MaxLeeway, ErrExpired},
		{-Leeway, 0, nil},
		{-Leeway - 1, 0, ErrNotYet},
		{-MaxLeeway, MaxLeeway, nil},
	} {
		if err := c.CheckTime(epoch.Add(tt.at), tt.leeway); !errors.Is(err, tt.want) {
			t.Errorf("at %v with a leeway of %v: %v, want %v", tt.at, tt.leeway, err, tt.want)
		}
	}
}

func TestClaimsAreRead(t *testing.T) {
	c, err := ParseClaims([]byte(validClaims))
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != "https://example.com" || c.Subject != "alice" || c.ClientID != "app" || c.Scope != "a b" ||
		len(c.Audience) != 2 || c.Audience[1] != "other" || c.ID != "j" || c.Family != "f" ||
		!c.Expires.Equal(epoch.Add(5*time.Minute)) || !c.IssuedAt.Equal(epoch) || !c.NotBefore.Equal(epoch) {
		t.Errorf("claims are %+v", c)
	}
	if c.Raw["big"] != json.Number("12345678901234567890") {
		t.Errorf("a large number became %v", c.Raw["big"])
	}
	for _, payload := range []string{"", "null", "[]", "{", validClaims + "{}", validClaims + "x", `"x"`} {
		if c, err := ParseClaims([]byte(payload)); !errors.Is(err, ErrMalformed) || c != nil {
			t.Errorf("ParseClaims of %.20q returns %v, %v", payload, c, err)
		}
	}
}
