// Package caddyoauth turns the site behind Caddy into an OAuth 2.0 authorization server.
package caddyoauth
