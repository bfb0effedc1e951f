package main

import (
	"context"
	"errors"
	"time"

	"github.com/mark3labs/mcp-go/client"
	"github.com/mark3labs/mcp-go/mcp"
)

// mcpGo connects with mcp-go, an SDK that leaves it to the program when the person is asked, and for which scopes.
func mcpGo(ctx context.Context, server, id string) (*Result, error) {
	result, tokens := new(Result), client.NewMemoryTokenStore()
	config := client.OAuthConfig{ClientID: id, RedirectURI: callback, TokenStore: tokens, PKCEEnabled: true}

	// connect returns a connection, after alice has allowed it if it needs that.
	connect := func(scopes ...string) (*client.Client, error) {
		config.Scopes = scopes
		for again := true; ; again = false {
			c, err := client.NewOAuthStreamableHttpClient(server, config)
			if err != nil {
				return nil, err
			}
			if err = c.Start(ctx); err == nil {
				_, err = c.Initialize(ctx, mcp.InitializeRequest{Params: mcp.InitializeParams{
					ProtocolVersion: mcp.LATEST_PROTOCOL_VERSION, ClientInfo: mcp.Implementation{Name: "test", Version: "1"},
				}})
			}
			if err == nil {
				return c, nil
			}
			if !again || !client.IsOAuthAuthorizationRequiredError(err) {
				return nil, err
			}
			if config.ClientID, err = authorize(ctx, err); err != nil {
				return nil, err
			}
		}
	}
	call := func(c *client.Client, name string) (string, error) {
		answer, err := c.CallTool(ctx, mcp.CallToolRequest{Params: mcp.CallToolParams{Name: name, Arguments: map[string]any{"id": "7"}}})
		if err != nil {
			return "", err
		}
		return mcp.GetTextFromContent(answer.Content[0]), nil
	}

	c, err := connect("orders:read")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	result.Client = config.ClientID
	if result.Read, err = call(c, "get_order"); err != nil {
		return nil, err
	}
	first, err := tokens.GetToken(ctx)
	if err != nil {
		return nil, err
	}
	result.First = first.Scope

	expired := *first
	expired.ExpiresAt = time.Now().Add(-time.Minute)
	if err := tokens.SaveToken(ctx, &expired); err != nil {
		return nil, err
	}
	tools, err := c.ListTools(ctx, mcp.ListToolsRequest{})
	if err != nil {
		return nil, err
	}
	result.Tools = len(tools.Tools)
	second, err := tokens.GetToken(ctx)
	if err != nil {
		return nil, err
	}
	result.Refreshed = second.AccessToken != first.AccessToken

	if _, err := call(c, "delete_order"); err == nil {
		return nil, errors.New("a tool was called without its scope")
	}
	if err := tokens.SaveToken(ctx, new(client.Token)); err != nil {
		return nil, err
	}
	more, err := connect("orders:read", "orders:write")
	if err != nil {
		return nil, err
	}
	defer more.Close()
	if result.Deleted, err = call(more, "delete_order"); err != nil {
		return nil, err
	}
	last, err := tokens.GetToken(ctx)
	if err != nil {
		return nil, err
	}
	result.Then = sorted(last.Scope)
	return result, nil
}

// authorize asks alice, registers the client before if it has no ID, and returns the ID.
func authorize(ctx context.Context, required error) (id string, err error) {
	handler := client.GetOAuthHandler(required)
	if handler.GetClientID() == "" {
		if err := handler.RegisterClient(ctx, "mcp-go"); err != nil {
			return "", err
		}
	}
	verifier, err := client.GenerateCodeVerifier()
	if err != nil {
		return "", err
	}
	state, err := client.GenerateState()
	if err != nil {
		return "", err
	}
	authorizeURL, err := handler.GetAuthorizationURL(ctx, state, client.GenerateCodeChallenge(verifier))
	if err != nil {
		return "", err
	}
	answer, err := allow(ctx, authorizeURL)
	if err != nil {
		return "", err
	}
	return handler.GetClientID(), handler.ProcessAuthorizationResponse(ctx, answer.Get("code"), answer.Get("state"), verifier)
}
