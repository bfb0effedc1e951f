package contract_test

import (
	"context"
	"errors"
	"time"

	"golang.org/x/oauth2"
)

// library returns the configuration of golang.org/x/oauth2 for an endpoint.
func (e *endpoint) library(style oauth2.AuthStyle) *oauth2.Config {
	return &oauth2.Config{
		ClientID: e.clientID, ClientSecret: e.secret, RedirectURL: e.redirectURI,
		Endpoint: oauth2.Endpoint{AuthURL: e.site + e.authorize, TokenURL: e.site + e.token, AuthStyle: style},
	}
}

// forLibrary returns a context with which the library uses the HTTP client of the endpoint.
func (e *endpoint) forLibrary(t T) context.Context {
	return context.WithValue(t.Context(), oauth2.HTTPClient, e.http)
}

// checkLibraryToken checks the token that the library has made of an answer.
func checkLibraryToken(t T, token *oauth2.Token, scope string, lifetime time.Duration) {
	t.Helper()
	// The library turns every spelling of the token type into Bearer, which RFC 6749 §5.1 compares without case.
	if !token.Valid() || token.RefreshToken == "" || token.Type() != "Bearer" {
		t.Fatalf("valid %v, refresh token %q, type %q", token.Valid(), token.RefreshToken, token.Type())
	}
	if got, _ := token.Extra("scope").(string); got != scope {
		t.Errorf("scope %q, want %q", got, scope)
	}
	if got := time.Duration(token.ExpiresIn) * time.Second; got != lifetime {
		t.Errorf("lives %v, want %v", got, lifetime)
	}
}

// expired returns an expired token, which the library refreshes when it is used.
func expired(token *oauth2.Token) *oauth2.Token {
	return &oauth2.Token{RefreshToken: token.RefreshToken, Expiry: time.Unix(1, 0)}
}

// checkRefreshedByLibrary checks that the library refreshes an expired token, and then uses the new one.
func (e *endpoint) checkRefreshedByLibrary(t T, config *oauth2.Config, token *oauth2.Token) *oauth2.Token {
	t.Helper()
	source := config.TokenSource(e.forLibrary(t), expired(token))
	renewed, err := source.Token()
	must(t, err)
	if renewed.AccessToken == token.AccessToken {
		t.Errorf("the refresh returned the same access token")
	}
	again, err := source.Token()
	must(t, err)
	if again.AccessToken != renewed.AccessToken {
		t.Errorf("the library did not keep the new token")
	}
	return renewed
}

// refusedToLibrary returns the status and the error code of an error of the library.
func refusedToLibrary(t T, err error) (status int, code string) {
	t.Helper()
	var refusal *oauth2.RetrieveError
	if !errors.As(err, &refusal) {
		t.Fatalf("%v is not an error response", err)
	}
	return refusal.Response.StatusCode, refusal.ErrorCode
}
