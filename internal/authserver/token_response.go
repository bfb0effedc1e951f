package authserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// tokenResponse is the success response (RFC 6749 §5.1).
type tokenResponse struct {
	AccessToken  string
	TokenType    string
	ExpiresIn    int64  // seconds
	RefreshToken string // "" for none
	Scope        string
}

// append appends the response as a JSON object.
func (r *tokenResponse) append(b []byte) []byte {
	b = append(b, `{"access_token":`...)
	b = appendText(b, r.AccessToken)
	b = appendMember(b, "token_type", r.TokenType)
	b = appendNumber(b, "expires_in", r.ExpiresIn)
	if r.RefreshToken != "" {
		b = appendMember(b, "refresh_token", r.RefreshToken)
	}
	if r.Scope != "" {
		b = appendMember(b, "scope", r.Scope)
	}
	return append(b, '}')
}

// writeTokens writes the success response in the issuer's shape.
func (s *Server) writeTokens(w http.ResponseWriter, response *tokenResponse) error {
	shape := &s.config.Wire.Response
	if shape.TokenType != "" {
		response.TokenType = shape.TokenType
	}
	contentType := "application/json"
	if shape.ContentType != "" {
		contentType = shape.ContentType
	}
	if len(shape.Members) > 0 || shape.ExpiresText {
		return writeJSON(w, http.StatusOK, contentType, shapedResponse{response, *shape})
	}
	memory := takeScratch()
	body := response.append(memory.bytes)
	defer memory.release(body) // a Writer keeps nothing of what it was given
	return writeBody(w, http.StatusOK, contentType, body)
}

// shapedResponse is a tokenResponse with other members, or in another order.
type shapedResponse struct {
	response *tokenResponse
	shape    ResponseShape
}

// MarshalJSON implements json.Marshaler.
func (s shapedResponse) MarshalJSON() ([]byte, error) {
	members := s.shape.Members
	if len(members) == 0 {
		members = ResponseMembers
	}
	var body []byte
	for _, name := range members {
		value, err := s.member(name)
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		body = append(body, ',')
		body = strconv.AppendQuote(body, name)
		body = append(body, ':')
		body = append(body, value...)
	}
	if body == nil {
		return []byte("{}"), nil
	}
	body[0] = '{'
	return append(body, '}'), nil
}

// member returns the JSON of a member, nil for one that is left out.
func (s shapedResponse) member(name string) ([]byte, error) {
	r := s.response
	switch name {
	case "access_token":
		return json.Marshal(r.AccessToken)
	case "token_type":
		return json.Marshal(r.TokenType)
	case "expires_in":
		if s.shape.ExpiresText {
			return json.Marshal(strconv.FormatInt(r.ExpiresIn, 10))
		}
		return json.Marshal(r.ExpiresIn)
	case "refresh_token":
		if r.RefreshToken == "" {
			return nil, nil
		}
		return json.Marshal(r.RefreshToken)
	}
	// scope: a client that asks for this member by name wants to find it, empty or not.
	if r.Scope == "" && !slices.Contains(s.shape.Members, name) {
		return nil, nil
	}
	return json.Marshal(r.Scope)
}
