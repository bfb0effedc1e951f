package authserver

// Wire is the shape of requests and answers where it differs from the RFCs', so that clients of an
// endpoint that exists already need no change. Its zero value is the RFCs' shape.
type Wire struct {
	Bodies       []string          // of token requests: "form", "json"; none is form
	SecretHeader string            // a header that may carry the client secret, with client_id in the body
	GrantAliases map[string]string // other names of grant types
	AccessToken  AccessTokenShape
	Response     ResponseShape
	Errors       ErrorShape
}

// AccessTokenShape is what an access token looks like.
type AccessTokenShape struct {
	Opaque bool   // a reference to a record instead of a JWT
	Prefix string // of an opaque one
	Length int    // of an opaque one, without the prefix; 0 is as long as is right

	Minimal bool              // a JWT holds only exp, iat, sub and the configured claims
	Rename  map[string]string // other names for claims; sub stays and gets a second name
}

// ResponseShape is what a success response looks like.
type ResponseShape struct {
	TokenType   string   // "" is Bearer
	Members     []string // which ones, in this order; none is all in the usual order
	ExpiresText bool     // expires_in as a string
	ContentType string   // "" is application/json
}

// ErrorShape is what an error response looks like.
type ErrorShape struct {
	Problem           bool   // RFC 9457 instead of RFC 6749 §5.2
	DocumentationURL  string // linked from a problem
	DocumentationType string // its media type
	Texts             map[string]ErrorText
	IDHeader          bool // the error id as a header instead of a member
}

// ErrorText is how a situation, or else an error code, is answered.
type ErrorText struct {
	Code        string
	Description string
	Status      int // 0 is as it would be
}

// ResponseMembers are the members of a success response, in their usual order.
var ResponseMembers = []string{"access_token", "token_type", "expires_in", "refresh_token", "scope"}
