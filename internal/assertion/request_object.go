package assertion

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// requestType is the typ of request objects (RFC 9101 §10.8).
const requestType = "oauth-authz-req+jwt"

const (
	maxRequest  = 16 << 10         // bytes of a request object
	requestSkew = 10 * time.Second // between the clocks of client and server
	requestLife = time.Hour        // of a request under FAPI 2.0
)

// Request is an authorization request that a client has signed (RFC 9101).
type Request struct {
	// Params are the parameters: the claims of the object, but for those that are about the object itself. Each has one value, except
	// resource.
	Params url.Values

	claims *jwt.Claims
}

// requestClaims are the claims that are about the object (RFC 9101 §4), and no parameters.
var requestClaims = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}

// ReadRequest verifies the signature of a request object and returns the request. It does not check the claims: see CheckRequest.
// The error is an *Error unless ctx has ended.
//
// As with assertions, a stranger makes the server do no more than verify signatures with the keys of one client.
func (c *Checker) ReadRequest(ctx context.Context, text string, client *storage.Client) (*Request, error) {
	if len(text) > maxRequest {
		return nil, &Error{Sent: fmt.Sprintf("a request object of %d bytes", len(text)), Expected: fmt.Sprintf("at most %d", maxRequest)}
	}
	signed, err := readRequest(text)
	if err != nil {
		return nil, err
	}
	if algs := requestAlgorithms(client); !slices.Contains(algs, signed.header.Algorithm) {
		return nil, &Error{
			Sent: "a request object with alg " + signed.header.Algorithm, Expected: strings.Join(algs, ", "),
			Setting: "request_object_signing_alg",
		}
	}
	keys, err := c.Keys.find(ctx, client, signed.header, c.Loopback)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		payload, err := signed.token.Verify(key)
		if err == nil {
			return parseRequest(payload)
		}
	}
	return nil, &Error{
		Sent: "a request object with a signature that none of the client's keys made", Expected: "an object that the client signed with its private key",
		Setting: "jwks, jwks_uri", Forged: true,
	}
}

// requestAlgorithms returns the algorithms by which a client may sign its requests.
func requestAlgorithms(client *storage.Client) []string {
	if client.RequestAlgorithm != "" {
		return []string{client.RequestAlgorithm}
	}
	return algorithms(client)
}

// PeekRequest returns the parameters of a request object of which nothing is verified, none if it is not readable. They must not decide
// anything that the browser, which brings the object, could not also decide.
func PeekRequest(text string) url.Values {
	if len(text) > maxRequest {
		return nil
	}
	signed, err := readRequest(text)
	if err != nil {
		return nil
	}
	request, err := parseRequest(signed.payload)
	if err != nil {
		return nil
	}
	return request.Params
}

// signedRequest is a request object in its parts.
type signedRequest struct {
	token   jwt.Token
	header  jwt.Header
	payload []byte
}

// readRequest reads a request object. One that says nothing of its type is good, and so is one that says JWT: most libraries send
// these (RFC 9101 §10.8). A JWT that says that it is for another use is refused (RFC 8725 §3.11).
func readRequest(text string) (*signedRequest, error) {
	if strings.Count(text, ".") == 4 {
		return nil, &Error{Sent: "an encrypted request object", Expected: "one that is signed, and not encrypted"}
	}
	token, err := jwt.Split(text)
	if err != nil {
		return nil, errNoRequest
	}
	header, payload, err := token.Unverified()
	switch {
	case errors.Is(err, jwt.ErrHeader):
		return nil, errKeyInHeader
	case err != nil:
		return nil, errNoRequest
	case !slices.ContainsFunc([]string{"", "JWT", requestType}, header.IsType):
		return nil, &Error{Sent: "a request object with typ " + header.Type, Expected: requestType + ", JWT or none"}
	}
	return &signedRequest{token, header, payload}, nil
}

var errNoRequest = &Error{
	Sent: "a request object that is no JWT", Expected: "a JWT in compact serialization, each member of its JSON once",
}

// parseRequest reads the claims of a request object.
func parseRequest(payload []byte) (*Request, error) {
	claims, err := jwt.ParseRequestClaims(payload)
	if err != nil {
		return nil, &Error{Sent: "a request object with claims of the wrong type", Expected: "claims as in RFC 9101 section 4"}
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(payload, &members) != nil {
		return nil, errNoRequest
	}
	request := &Request{Params: make(url.Values), claims: claims}
	for name, value := range members {
		if slices.Contains(requestClaims, name) {
			continue
		}
		values, err := parameterValues(name, value)
		if err != nil {
			return nil, err
		}
		if len(values) > 0 {
			request.Params[name] = values
		}
	}
	return request, nil
}

// parameterValues returns a claim as values of the parameter: a text as it is, and all else as its JSON, such as the number of max_age or
// the object of claims (RFC 9101 §4). Like parameters without a value, an empty one is absent. resource can be an array (RFC 8707 §2).
func parameterValues(name string, value json.RawMessage) ([]string, error) {
	if name == "resource" && value[0] == '[' {
		var values []string
		if json.Unmarshal(value, &values) != nil {
			return nil, &Error{Sent: "a request object whose resource is an array", Expected: "an array of strings"}
		}
		return values, nil
	}
	text := string(value)
	switch {
	case text == "null":
		return nil, nil
	case value[0] == '"':
		if json.Unmarshal(value, &text) != nil {
			return nil, errNoRequest
		}
	case value[0] == '{', value[0] == '[':
		var compact bytes.Buffer
		if json.Compact(&compact, value) != nil {
			return nil, errNoRequest
		}
		text = compact.String()
	}
	if text == "" {
		return nil, nil
	}
	return []string{text}, nil
}

// CheckRequest returns nil if a request is from the client, for this issuer, and had not expired when it was first seen. The error is an
// *Error.
func (c *Checker) CheckRequest(r *Request, client *storage.Client, seen time.Time) error {
	claims := r.claims
	id := r.Params.Get("client_id")
	switch {
	case r.Params.Has("request") || r.Params.Has("request_uri"): // RFC 9101 §4
		return &Error{Sent: "request or request_uri in a request object", Expected: "neither"}
	case id != client.ID: // RFC 9101 §5, §6.3
		return &Error{Sent: "client_id " + id + " in the request object", Expected: "client_id " + client.ID + ", as outside"}
	case claims.Issuer != "" && claims.Issuer != client.ID:
		return &Error{Sent: "a request object with iss " + claims.Issuer, Expected: "the client ID"}
	case claims.Subject != "" && claims.Subject == client.ID: // it would be good to authenticate with (RFC 9101 §10.8)
		return &Error{Sent: "a request object with sub " + claims.Subject, Expected: "no sub, or one that is not the client ID"}
	case !slices.Contains(claims.Audience, c.Issuer): // RFC 8725 §3.9
		return &Error{Sent: "a request object with aud " + strings.Join(claims.Audience, " "), Expected: "the issuer, " + c.Issuer}
	}
	if client.FAPI {
		if err := checkFAPI(claims, seen); err != nil {
			return err
		}
	}
	return checkRequestTimes(claims, seen, c.Now())
}

// checkRequestTimes checks the exp, nbf and iat of a request object. All are optional, and without exp it does not expire: the
// example in RFC 9101 §4 has none of them.
func checkRequestTimes(claims *jwt.Claims, seen, now time.Time) error {
	soon := now.Add(requestSkew)
	switch {
	case !claims.Expires.IsZero() && !seen.Before(claims.Expires.Add(requestSkew)):
		return &Error{Sent: "a request object with exp " + formatTime(claims.Expires), Expected: "an exp after now, " + formatTime(seen)}
	case claims.IssuedAt.After(soon):
		return &Error{Sent: "a request object with iat " + formatTime(claims.IssuedAt), Expected: "an iat before now, " + formatTime(now) + ": the clocks differ"}
	case claims.NotBefore.After(soon):
		return &Error{Sent: "a request object with nbf " + formatTime(claims.NotBefore), Expected: "an nbf before now, " + formatTime(now) + ": the clocks differ"}
	}
	return nil
}

// checkFAPI checks what FAPI 2.0 Message Signing §5.3.1 adds: whose a request is, and that it is good for an hour at most.
func checkFAPI(claims *jwt.Claims, seen time.Time) error {
	switch {
	case claims.Issuer == "" || claims.NotBefore.IsZero() || claims.Expires.IsZero():
		return &Error{Sent: "a request object without iss, nbf or exp", Expected: "all of them", Setting: "profile"}
	case claims.NotBefore.Before(seen.Add(-requestLife)):
		return &Error{Sent: "a request object with an nbf of more than an hour ago", Expected: "an nbf of the last hour", Setting: "profile"}
	case claims.Expires.After(claims.NotBefore.Add(requestLife)):
		return &Error{Sent: "a request object with an exp of more than an hour after nbf", Expected: "at most an hour", Setting: "profile"}
	}
	return nil
}
