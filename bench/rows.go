package main

import (
	"context"
	"time"
)

// row is a row of the results: a kind of work, and how to measure it.
type row struct {
	name string // for the flag -rows
	work string // in words, for the table

	alone       func(*bench, context.Context) (*sample, error) // measures without a server; nil: with one
	do          string                                         // the work of package load
	shape       shape
	connections int  // 0: as in the options
	fresh       bool // every token in a request is new to the server
	redis       bool // the store is a Redis

	against string // another row to compare this one with
	plus    string // and another one that is added to it; "" is none
	by      figure // which figure to compare
}

// figure is a figure by which two rows are compared.
type figure struct {
	name string
	of   func(s *sample) float64
}

var (
	byTime = figure{"CPU", func(s *sample) float64 { return s.CPU.Seconds() }}
	byRate = figure{"rate", func(s *sample) float64 { return s.Rate() }}
)

// memory is the store of rows that measure everything but a disk.
const memory = "store memory"

// rows are all rows. A row comes after the one that it is compared with.
var rows = []row{
	{name: "client_credentials/ES256", work: "client_credentials, ES256", do: "client_credentials"},
	{
		name: "client_credentials/mcp", work: "the same, at an issuer with mcp", do: "client_credentials", shape: shape{settings: "mcp"},
		against: "client_credentials/ES256", by: byTime,
	},
	{name: "client_credentials/EdDSA", work: "client_credentials, EdDSA", do: "client_credentials", shape: shape{settings: "signing EdDSA"}},
	{name: "client_credentials/RS256", work: "client_credentials, RS256", do: "client_credentials", shape: shape{settings: "signing RS256"}},
	{name: "refresh/memory", work: "refresh with rotation, ES256, store in memory", do: "refresh", shape: shape{store: memory}},
	{
		name: "refresh/openid/ES256", work: "refresh with rotation and an ID token, access token ES256, ID token ES256, store in memory", do: "refresh",
		shape: shape{store: memory, idToken: "ES256"}, against: "refresh/memory", by: byTime,
	},
	{
		name: "refresh/openid/RS256", work: "the same, ID token RS256", do: "refresh",
		shape: shape{store: memory, idToken: "RS256"}, against: "refresh/memory", by: byTime,
	},
	{
		name: "refresh/mcp", work: "refresh with rotation, of a client of the Caddyfile, at an issuer with mcp, store in memory", do: "refresh",
		shape: shape{store: memory, settings: "mcp"}, against: "refresh/memory", by: byTime,
	},
	{name: "verify/ES256", work: "no server: Go verifies the signature of a DPoP proof, ES256", alone: (*bench).measureVerify},
	{
		name: "refresh/dpop", work: "refresh with rotation and a DPoP proof, access token ES256, proof ES256, store in memory", do: "refresh/dpop",
		shape: shape{store: memory}, against: "refresh/memory", plus: "verify/ES256", by: byTime,
	},
	{name: "refresh/redis", work: "refresh with rotation, ES256, Redis", do: "refresh", redis: true},
	{name: "store/files", work: "no server: certmagic writes a file over another, synced, from 16 goroutines", alone: (*bench).measureStore},
	{name: "refresh/files", work: "refresh with rotation, ES256, default store on a disk, synced", do: "refresh", against: "store/files", by: byRate},
	{
		name: "refresh/files/16", work: "the same with 16 connections", do: "refresh", connections: storeWriters,
		against: "store/files", by: byRate,
	},
	{name: "code/memory", work: "code flow: authorize with consent on file, then token, ES256, store in memory", do: "code", shape: shape{store: memory}},
	{
		name: "code/openid/ES256", work: "code flow with an ID token, access token ES256, ID token ES256, store in memory", do: "code",
		shape: shape{store: memory, idToken: "ES256"}, against: "code/memory", by: byTime,
	},
	{
		name: "code/openid/RS256", work: "the same, ID token RS256", do: "code",
		shape: shape{store: memory, idToken: "RS256"}, against: "code/memory", by: byTime,
	},
	{name: "code/files", work: "code flow, ES256, default store on a disk, synced", do: "code"},
	{name: "introspect/seen", work: "introspection of a JWT that was seen before, ES256", do: "introspect"},
	{
		name: "introspect/new", work: "introspection of a JWT that is new, ES256", do: "introspect", fresh: true,
		against: "introspect/seen", by: byTime,
	},
	{name: "route/open", work: "a route without guard", do: "route"},
	{
		name: "route/seen", work: "the same with a guard, token seen before, ES256", do: "route", shape: shape{guarded: true},
		against: "route/open", by: byTime,
	},
	{
		name: "route/new", work: "the same with a guard, each token new, ES256", do: "route", shape: shape{guarded: true}, fresh: true,
		against: "route/open", by: byTime,
	},
	{
		name: "route/dpop", work: "the same with a guard, token seen before and bound to a key, each proof new, ES256", do: "route/dpop",
		shape: shape{guarded: true}, against: "route/seen", plus: "verify/ES256", by: byTime,
	},
	{
		name: "route/mcp", work: "the same with cors and mcp in the guard, token seen before", do: "route", shape: shape{guarded: true, mcp: true},
		against: "route/seen", by: byTime,
	},
	{name: "clients/10", work: "client_credentials, ES256, 10 clients in turn", do: "client_credentials", shape: shape{clients: 10}},
	{
		name: "clients/10000", work: "the same with 10,000 clients", do: "client_credentials", shape: shape{clients: 10_000},
		against: "clients/10", by: byTime,
	},
	{name: "issuers/1", work: "client_credentials, ES256, 1 issuer", do: "client_credentials", shape: shape{store: memory}},
	{
		name: "issuers/50", work: "the same with 50 issuers on one site, in turn", do: "client_credentials",
		shape: shape{store: memory, issuers: 50}, against: "issuers/1", by: byTime,
	},
	{name: "connections/1", work: "client_credentials, ES256, 1 connection", do: "client_credentials", connections: 1},
	{
		name: "connections/64", work: "the same with 64 connections", do: "client_credentials", connections: 64,
		against: "connections/1", by: byTime,
	},
}

// warm is how long the load runs before the measurement.
func (o *options) warm() time.Duration { return min(o.measure/4, time.Second) }
