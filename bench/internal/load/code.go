package load

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
)

// flow is the authorization code flow with PKCE, for a person who is signed in and has approved the app before.
type flow struct {
	w          *worker
	ask        string // the authorization request before the challenge
	host       string // the authorization request after it
	head, form string // the token request before its length; its form before the code
	request    []byte
}

func (w *worker) newFlow() *flow {
	client, issuer := w.client(), w.issuer()
	ask := url.Values{
		"response_type": {"code"}, "client_id": {client.ID}, "redirect_uri": {RedirectURI}, "scope": {w.plan.Scope},
		"state": {"af0ifjsldkj"}, "code_challenge_method": {"S256"},
	}
	form := url.Values{"grant_type": {"authorization_code"}, "redirect_uri": {RedirectURI}}
	return &flow{
		w:    w,
		ask:  "GET " + issuer.Authorize + "?" + ask.Encode() + "&code_challenge=",
		host: " HTTP/1.1\r\nHost: " + w.plan.Address + "\r\nAccept: text/html\r\n\r\n",
		head: head(w.plan.Address, issuer.Token, client),
		form: form.Encode(),
	}
}

// run performs the flow once.
func (f *flow) run() error {
	var drawn [32]byte
	rand.Read(drawn[:])
	verifier := base64.RawURLEncoding.EncodeToString(drawn[:])
	challenge := sha256.Sum256([]byte(verifier)) // RFC 7636 §4.2

	f.request = append(f.request[:0], f.ask...)
	f.request = base64.RawURLEncoding.AppendEncode(f.request, challenge[:])
	f.request = append(f.request, f.host...)
	if err := f.w.conn.want(http.StatusSeeOther, f.request); err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	_, rest, found := bytes.Cut(f.w.conn.location, []byte("?code="))
	if !found {
		return fmt.Errorf("no code in %s", f.w.conn.location)
	}
	code, _, _ := bytes.Cut(rest, []byte{'&'})

	f.request = appendPost(f.request[:0], f.head, f.form+"&code_verifier="+verifier+"&code="+string(code))
	if err := f.w.conn.want(http.StatusOK, f.request); err != nil {
		return fmt.Errorf("exchange: %w", err)
	}
	return f.w.hasTokens()
}
