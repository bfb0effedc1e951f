package authserver

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// claimsRequest is the claims parameter (OpenID Connect Core §5.5): claims that a client asks for one by one. What is unknown in it is
// ignored.
type claimsRequest struct {
	UserInfo map[string]*claimRequest `json:"userinfo"`
	IDToken  map[string]*claimRequest `json:"id_token"`
}

// claimRequest is what a client says of a claim; nil is nothing (§5.5.1).
type claimRequest struct {
	Essential bool  `json:"essential"`
	Value     any   `json:"value"`
	Values    []any `json:"values"`
}

const (
	maxClaimsRequest = 8 << 10 // bytes
	maxClaimsDepth   = 8       // arrays and objects in each other
	claimsExpected   = "an object as in OpenID Connect Core §5.5, of at most 8 KB"
)

// readClaims reads the parameter.
func readClaims(parameter string) (*claimsRequest, error) {
	text := strings.TrimLeft(parameter, " \t\r\n")
	switch {
	case len(parameter) > maxClaimsRequest:
		return nil, errors.New("more than 8 KB")
	case !strings.HasPrefix(text, "{"):
		return nil, errors.New("no JSON object")
	case strings.Count(text, "{")+strings.Count(text, "[") > maxClaimsDepth && depth(text) > maxClaimsDepth:
		return nil, errors.New("too many objects in each other")
	}
	request := new(claimsRequest)
	if json.Unmarshal([]byte(text), request) != nil {
		return nil, errors.New("JSON that is not as expected")
	}
	return request, nil
}

// depth returns how deep arrays and objects of a JSON text are nested, or more if their marks are in strings.
func depth(text string) (deepest int) {
	open := 0
	for _, r := range text {
		switch r {
		case '{', '[':
			open++
			deepest = max(deepest, open)
		case '}', ']':
			open--
		}
	}
	return deepest
}

// texts returns the values that the claim must have one of. asked says that there are any: if none is a text, the result is empty.
func (r *claimRequest) texts() (values []string, asked bool) {
	if r == nil || r.Value == nil && r.Values == nil {
		return nil, false
	}
	values = []string{}
	for _, value := range append([]any{r.Value}, r.Values...) {
		if text, ok := value.(string); ok {
			values = append(values, text)
		}
	}
	return values, true
}

// subjects are the subjects that a request can be about: one of each list.
type subjects [][]string

func (s subjects) accept(subject string) bool {
	return !slices.ContainsFunc(s, func(list []string) bool { return !slices.Contains(list, subject) })
}

// subjects returns the subjects that the request can be about (§5.5.1).
func (r *claimsRequest) subjects() (rules subjects) {
	for _, sub := range []*claimRequest{r.IDToken["sub"], r.UserInfo["sub"]} {
		if values, asked := sub.texts(); asked {
			rules = append(rules, values)
		}
	}
	return rules
}

// acr returns the values of acr that the client wants, and whether it must be one of them (§5.5.1.1).
func (r *claimsRequest) acr() (values []string, essential bool) {
	acr := r.IDToken["acr"]
	values, asked := acr.texts()
	return values, asked && acr.Essential
}

// askedClaims returns the claims that the client gets because it asks for them one by one. Those that the site does not have of the user
// are left out, and so are those of scopes that the client may not ask for.
func (e *authorizeEndpoint) askedClaims(req *authorizeRequest, user *User) (asked storage.AskedClaims) {
	if req.claims == nil {
		return asked
	}
	claims := e.accessTokens.claims
	for name := range user.Claims {
		if slices.Contains(ReservedClaims, name) || !claims.gives(req.client.Scopes, name) {
			continue
		}
		if _, ok := req.claims.IDToken[name]; ok {
			asked.IDToken = append(asked.IDToken, name)
		}
		if _, ok := req.claims.UserInfo[name]; ok && !claims.gives(req.scopes, name) {
			asked.UserInfo = append(asked.UserInfo, name)
		}
	}
	slices.Sort(asked.IDToken)
	slices.Sort(asked.UserInfo)
	return asked
}

// beyondScopes returns those of the askedClaims that no scope of the request gives, and none of the others that the user has approved.
func (e *authorizeEndpoint) beyondScopes(req *authorizeRequest, approved []string) []string {
	names := slices.Concat(req.askedClaims.UserInfo, req.askedClaims.IDToken)
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool {
		return e.accessTokens.claims.gives(req.scopes, name) || len(approved) > 0 && e.accessTokens.claims.gives(approved, name)
	})
}
