package browser_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// A script of another origin may read some endpoints, and not others (RFC 9700 §2.6).
func TestScriptOfAnotherOrigin(t *testing.T) { //nolint:tparallel // its subtests share a browser
	t.Parallel()
	ctx := inChromium(t)
	s, _ := startMembers(t, "")
	f := newFlow(t, s, newApp(t, s, nil), "/callback")
	in(ctx, t, chromedp.Navigate(f.url()))
	signIn(ctx, t, "carol")
	press(ctx, t, "allow")
	code := f.app.answer(ctx, t).params.Get("code")
	if at := in(ctx, t, chromedp.Location()); !strings.HasPrefix(at, f.app.URL) {
		t.Fatalf("the script runs at %s", at)
	}
	codeForm := integration.CodeRequest(f.config, code, f.verifier).Encode()
	authorize := f.config.Endpoint.AuthURL

	for _, c := range []struct {
		name, url, options, want string
	}{
		{
			"it reads tokens of the token endpoint", s.TokenURL(),
			`{method: "POST", body: new URLSearchParams(` + quoted(codeForm) + `)}`, "200 access_token",
		},
		{
			"it reads errors of the token endpoint", s.TokenURL(),
			`{method: "POST", body: new URLSearchParams("client_id=app&grant_type=nonsense")}`, "400 unsupported_grant_type",
		},
		{
			"it may send an Authorization header, after a preflight", s.TokenURL(),
			`{method: "POST", body: new URLSearchParams("grant_type=client_credentials"), headers: {Authorization: "Basic bm9ib2R5Ong="}}`,
			"401 invalid_client",
		},
		{"it reads the public keys", s.JWKSURL(), `{}`, "200 keys"},
		{"the metadata", s.URL + "/.well-known/oauth-authorization-server", `{}`, "200 issuer"},
		{"it cannot read the authorize endpoint", authorize + "?client_id=nobody", `{}`, "TypeError"},
		{"it cannot read the answer of the authorize endpoint to a post", authorize, `{method: "POST", body: new URLSearchParams("client_id=nobody")}`, "TypeError"},
		{"it cannot read the consent page of the person who is signed in", f.url(), `{credentials: "include"}`, "TypeError"},
	} {
		t.Run("RFC 9700 §2.6 "+c.name, func(t *testing.T) {
			script := fmt.Sprintf(`(async () => {
				try {
					const resp = await fetch(%s, %s), body = await resp.json()
					const told = body.error ?? ["access_token", "keys", "issuer"].find(name => name in body)
					return resp.status + " " + told
				} catch (e) {
					return e.name
				}
			})()`, quoted(c.url), c.options)
			got := in(ctx, t, chromedp.Evaluate[string](script, chromedp.EvalAwaitPromise))
			if got != c.want {
				t.Errorf("the script reads %q, want %q", got, c.want)
			}
		})
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // encoding a string never fails
	return string(b)
}
