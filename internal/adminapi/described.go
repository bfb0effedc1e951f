package adminapi

import (
	"errors"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
)

// Described are the clients that describe themselves, and the redirect hosts that are blocked.
type Described struct {
	Clients       []clients.Described `json:"clients"`
	RedirectHosts []string            `json:"blocked_redirect_hosts"`
}

func listDescribed(r *request) (any, error) {
	list, hosts, err := r.owner.Clients().Described(r.Context())
	if err != nil {
		return nil, err
	}
	answer := Described{Clients: list, RedirectHosts: hosts}
	if answer.Clients == nil {
		answer.Clients = []clients.Described{}
	}
	if answer.RedirectHosts == nil {
		answer.RedirectHosts = []string{}
	}
	return answer, nil
}

// Blocked says what to block: a client that describes itself, or all of them with a redirect URI on a host.
type Blocked struct {
	ClientID     string `json:"client_id,omitempty"`
	RedirectHost string `json:"redirect_host,omitempty"`
}

func (r *request) blocked() (b Blocked, err error) {
	if err := r.body(&b); err != nil {
		return b, err
	}
	if (b.ClientID == "") == (b.RedirectHost == "") {
		return b, badRequest{errors.New("expected either client_id or redirect_host")}
	}
	return b, nil
}

func block(r *request) (any, error) {
	b, err := r.blocked()
	switch {
	case err != nil:
		return nil, err
	case b.RedirectHost != "":
		return nil, r.owner.Clients().BlockHost(r.Context(), b.RedirectHost)
	}
	return nil, r.owner.Clients().Block(r.Context(), b.ClientID)
}

func unblock(r *request) (any, error) {
	b, err := r.blocked()
	switch {
	case err != nil:
		return nil, err
	case b.RedirectHost != "":
		return nil, r.owner.Clients().UnblockHost(r.Context(), b.RedirectHost)
	}
	return nil, r.owner.Clients().Unblock(r.Context(), b.ClientID)
}
