package load

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

func (w *worker) credentialsForm(issuer Issuer, client Client) []byte {
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {w.plan.Scope}}
	return post(w.plan.Address, issuer.Token, client, form)
}

// clientCredentials requests a token for each client at each issuer in turn.
func (w *worker) clientCredentials() (func() error, error) {
	requests := make([][]byte, 0, len(w.plan.Issuers)*len(w.plan.Clients))
	for _, issuer := range w.plan.Issuers {
		for _, client := range w.plan.Clients {
			requests = append(requests, w.credentialsForm(issuer, client))
		}
	}
	return w.inTurn(requests, w.hasToken), nil
}

func (w *worker) hasToken() error {
	if len(w.conn.member("access_token")) == 0 {
		return fmt.Errorf("no access token in %.300s", w.conn.body)
	}
	return nil
}

// hasTokens is hasToken for the tokens of a person, who is signed in too if the scopes say so.
func (w *worker) hasTokens() error {
	if strings.HasPrefix(w.plan.Scope, "openid ") && len(w.conn.member("id_token")) == 0 {
		return fmt.Errorf("no ID token in %.300s", w.conn.body)
	}
	return w.hasToken()
}

// tokens returns different access tokens, as many as the plan says.
func (w *worker) tokens() ([]string, error) {
	tokens := make([]string, max(w.plan.Tokens, 1))
	request := w.credentialsForm(w.issuer(), w.client())
	for i := range tokens {
		if err := w.conn.want(http.StatusOK, request); err != nil {
			return nil, fmt.Errorf("getting a token to use: %w", err)
		}
		tokens[i] = string(w.conn.member("access_token"))
	}
	return tokens, nil
}

// introspect introspects tokens in turn.
func (w *worker) introspect() (func() error, error) {
	tokens, err := w.tokens()
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	for _, token := range tokens {
		requests = append(requests, post(w.plan.Address, w.issuer().Introspect, w.client(), url.Values{"token": {token}}))
	}
	return w.inTurn(requests, w.isActive), nil
}

func (w *worker) isActive() error {
	if !bytes.Contains(w.conn.body, []byte(`"active":true`)) {
		return fmt.Errorf("the token is not active: %.300s", w.conn.body)
	}
	return nil
}

// route requests a page, with tokens in turn.
func (w *worker) route() (func() error, error) {
	tokens, err := w.tokens()
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	for _, token := range tokens {
		requests = append(requests, get(w.plan.Address, w.plan.Route, token))
	}
	return w.inTurn(requests, w.noCheck), nil
}

// refresh exchanges the current refresh token for the next.
func (w *worker) refresh() (func() error, error) {
	flow := w.newFlow()
	if err := flow.run(); err != nil {
		return nil, err
	}
	token := bytes.Clone(w.conn.member("refresh_token"))
	if len(token) == 0 {
		return nil, errors.New("no refresh token")
	}
	start, err := w.head(w.issuer().Token)
	if err != nil {
		return nil, err
	}
	var request []byte
	return func() error {
		if w.prover != nil {
			if start, err = w.head(w.issuer().Token); err != nil {
				return err
			}
		}
		request = appendPost(request[:0], start, "grant_type=refresh_token&refresh_token="+string(token))
		if err := w.conn.want(http.StatusOK, request); err != nil {
			return err
		}
		next := w.conn.member("refresh_token")
		if len(next) == 0 || bytes.Equal(next, token) {
			return errors.New("the refresh token was not replaced")
		}
		token = append(token[:0], next...)
		return w.hasTokens()
	}, nil
}

// codes performs the code flow of a person who has approved the client before.
func (w *worker) codes() (func() error, error) {
	flow := w.newFlow()
	return flow.run, flow.run()
}

// mix does everything that adds no records to the store: a refresh, a token by client credentials, the introspection of this
// token, and a guarded route with it.
func (w *worker) mix() (func() error, error) {
	own := w.credentialsForm(w.issuer(), w.client())
	refresh, err := w.refresh()
	if err != nil {
		return nil, err
	}
	return func() error {
		if err := refresh(); err != nil {
			return err
		}
		if err := w.conn.want(http.StatusOK, own); err != nil {
			return err
		}
		token := string(w.conn.member("access_token"))
		form := url.Values{"token": {token}}
		if err := w.conn.want(http.StatusOK, post(w.plan.Address, w.issuer().Introspect, w.client(), form)); err != nil {
			return err
		}
		if err := w.isActive(); err != nil {
			return err
		}
		return w.conn.want(http.StatusOK, get(w.plan.Address, w.plan.Route, token))
	}, nil
}
