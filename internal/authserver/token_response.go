package authserver

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
)

// tokenResponse is the success response (RFC 6749 §5.1), with its members in this order.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token,omitempty"`
	Scope        string `json:"scope,omitempty"`
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
	return writeJSON(w, http.StatusOK, contentType, response)
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
