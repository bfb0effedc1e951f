package main

import (
	"context"
	"net/url"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// goSDK connects with the SDK of the protocol's own project.
func goSDK(ctx context.Context, server, id string) (*Result, error) {
	result := new(Result)
	config := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL: callback,
		AuthorizationCodeFetcher: func(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			asked, err := url.Parse(args.URL)
			if err != nil {
				return nil, err
			}
			result.Client = asked.Query().Get("client_id")
			answer, err := allow(ctx, args.URL)
			return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"), Iss: answer.Get("iss")}, err
		},
	}
	var (
		client *oauth2.Config
		newest *oauth2.Token
	)
	config.NewTokenSource = func(ctx context.Context, c *oauth2.Config, token *oauth2.Token) (oauth2.TokenSource, error) {
		client, newest = c, token
		return c.TokenSource(ctx, token), nil
	}
	switch parsed, err := url.Parse(id); {
	case err != nil:
		return nil, err
	case id == "":
		config.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: "Go SDK", RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
			TokenEndpointAuthMethod: "none",
		}}
	case parsed.Scheme == "https":
		config.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: id}
	default:
		config.PreregisteredClient = &oauthex.ClientCredentials{ClientID: id}
	}

	handler, err := auth.NewAuthorizationCodeHandler(config)
	if err != nil {
		return nil, err
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(ctx,
		&mcp.StreamableClientTransport{Endpoint: server, OAuthHandler: handler, DisableStandaloneSSE: true}, nil)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	call := func(name string) (string, error) {
		answer, err := session.CallTool(ctx, &mcp.CallToolParams{Name: name, Arguments: map[string]any{"id": "7"}})
		if err != nil {
			return "", err
		}
		return answer.Content[0].(*mcp.TextContent).Text, nil
	}
	if result.Read, err = call("get_order"); err != nil {
		return nil, err
	}
	result.First, _ = newest.Extra("scope").(string)

	expired := *newest
	expired.Expiry = time.Now().Add(-time.Minute)
	fresh, err := client.TokenSource(ctx, &expired).Token()
	if err != nil {
		return nil, err
	}
	result.Refreshed = fresh.AccessToken != newest.AccessToken

	tools, err := session.ListTools(ctx, nil)
	if err != nil {
		return nil, err
	}
	result.Tools = len(tools.Tools)
	if result.Deleted, err = call("delete_order"); err != nil {
		return nil, err
	}
	then, _ := newest.Extra("scope").(string)
	result.Then = sorted(then)
	return result, nil
}
