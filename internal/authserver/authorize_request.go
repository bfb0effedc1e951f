package authserver

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// authorizeRequest is an authorization request that has passed all checks that do not depend on the person.
type authorizeRequest struct {
	redirectTarget

	client       *storage.Client
	redirectSent bool
	scopes       []string
	audience     []string
	challenge    string
	prompt       []string
	params       url.Values // unchanged
	pushed       string     // the reference to them, if the client has pushed them

	requestObject           // that they are from, if the browser has brought one
	form          string    // the hash of the form of the consent page by which the person approves it
	until         time.Time // when the person's approval ends; zero: never

	// What the request demands of the login, see login.go.
	maxAge       *time.Duration // nil: nothing
	acrValues    []string       // wanted, in this order
	essentialACR []string       // one of them is a must; nil: none is
	subjects     subjects
	claims       *claimsRequest // nil: none

	// What is known once somebody is signed in.
	came        *visit              // the visit to the login page from which the person comes back; nil: none
	askedClaims storage.AskedClaims // what the client gets of the person since it asks for it one by one
}

// checkAuthorizeRequest checks the rest of an authorization request. Its errors go to the client.
func (e *authorizeEndpoint) checkAuthorizeRequest(
	client *storage.Client, to redirectTarget, params url.Values,
) (*authorizeRequest, error) {
	refuse := func(code, description, sent, expected, setting string) (*authorizeRequest, error) {
		return nil, &redirectError{grants.Refuse(code, description).Explain(sent, expected, setting), to}
	}
	of := "client " + client.ID + ": "
	switch responseType := params.Get("response_type"); {
	case params.Has("request"):
		return refuse("request_not_supported", "the client has no key to sign requests with", "request",
			"the parameters themselves, or a client with a public key here", of+"jwks, jwks_uri")
	case params.Has("request_uri"):
		return refuse("request_uri_not_supported", "request_uri is not supported", "request_uri", "the parameters themselves", "")
	case params.Has("registration"): // OpenID Connect Core §7.2.1
		return refuse("registration_not_supported", "registration is not supported", "registration", "a registered client", "")
	case responseType == "":
		return refuse(grants.InvalidRequest, "response_type is missing", "", "code", "")
	case responseType != "code":
		return refuse(grants.UnsupportedResponseType, "response_type must be code", responseType, "code", "")
	case !client.MayUse("authorization_code"):
		return refuse(grants.UnauthorizedClient, "the client may not use authorization codes",
			"an authorization request", list(client.GrantTypes), of+"grant_types")
	}
	if mode := params.Get("response_mode"); mode != "" && mode != to.mode {
		return refuse(grants.InvalidRequest, "response_mode must be query or, for http and https, form_post",
			mode+" for "+to.redirectURI, "query, or form_post for http and https", of+"redirect_uris")
	}
	if jkt := params.Get("dpop_jkt"); jkt != "" && !grants.ValidThumbprint(jkt) { // RFC 9449 §10
		return refuse(grants.InvalidRequest, "dpop_jkt is not the SHA-256 thumbprint of a key: 43 characters of base64url",
			strconv.Itoa(len(jkt))+" characters", "43 characters of base64url", "")
	}
	prompt, ok := readPrompt(params.Get("prompt"))
	if !ok { // OpenID Connect Core §3.1.2.1
		return refuse(grants.InvalidRequest, "prompt=none cannot be combined", params.Get("prompt"), "none alone", "")
	}
	req := &authorizeRequest{
		redirectTarget: to,
		client:         client,
		redirectSent:   params.Has("redirect_uri"),
		prompt:         prompt,
		params:         params,
	}
	var refusal error
	if req.scopes, req.audience, refusal = e.chooseFor(client, params); refusal != nil {
		return nil, &redirectError{asRefusal(refusal), to}
	}
	var err *grants.Error
	if req.challenge, err = req.checkChallenge(); err != nil {
		return nil, &redirectError{err, to}
	}
	if refusal := req.readOpenID(); refusal != nil {
		return nil, &redirectError{refusal, to}
	}
	return req, nil
}

// chooseFor returns the scopes and the resources that a client gets that asks a person for access.
func (s *core) chooseFor(client *storage.Client, params url.Values) (scopes, audience []string, err error) {
	scope := params.Get("scope")
	if scopes, err = grants.ChooseScopes(client, scope, grants.AllowedScopes(client, scope)); err == nil {
		more := s.resources.all()
		if client.OwnAudience {
			more = nil
		}
		audience, err = grants.ChooseAudience(params["resource"], client.Audience, more...)
	}
	if err != nil {
		explained := asRefusal(err)
		return nil, nil, explained.Explain("", "", "client "+client.ID+": "+explained.Setting)
	}
	return scopes, audience, nil
}

const (
	maxNonce     = 512
	maxACRValues = 20
)

// readOpenID reads the parameters of OpenID Connect (Core §3.1.2.1) and RFC 9470. What is about ID tokens and claims is for requests with
// the scope openid only.
func (r *authorizeRequest) readOpenID() *grants.Error {
	if nonce := r.params.Get("nonce"); len(nonce) > maxNonce {
		return grants.Refuse(grants.InvalidRequest, "nonce is too long").
			Explain(strconv.Itoa(len(nonce))+" bytes", "up to "+strconv.Itoa(maxNonce), "")
	}
	if parameter := r.params.Get("max_age"); parameter != "" {
		seconds, err := strconv.ParseUint(parameter, 10, 31)
		if err != nil {
			return grants.Refuse(grants.InvalidRequest, "max_age must be a number of seconds").
				Explain(parameter, "a number of seconds", "")
		}
		maxAge := time.Duration(seconds) * time.Second
		r.maxAge = &maxAge
	}
	if r.maxAge == nil && r.signsIn() {
		r.maxAge = r.client.OpenID.DefaultMaxAge
	}
	r.acrValues = strings.Fields(r.params.Get("acr_values"))
	r.acrValues = r.acrValues[:min(len(r.acrValues), maxACRValues)]
	if !r.params.Has("claims") || !r.signsIn() {
		return nil
	}
	claims, err := readClaims(r.params.Get("claims"))
	if err != nil {
		return grants.Refuse(grants.InvalidRequest, "claims is malformed").Explain(err.Error(), claimsExpected, "")
	}
	r.claims = claims
	r.subjects = append(r.subjects, claims.subjects()...)
	values, essential := claims.acr()
	if essential {
		r.essentialACR = values
	} else {
		r.acrValues = append(r.acrValues, values...)
	}
	return nil
}

// signsIn reports whether the request is about OpenID Connect (Core §3.1.2.1).
func (r *authorizeRequest) signsIn() bool {
	return r.client.OpenID != nil && slices.Contains(r.scopes, grants.OpenID)
}

// readPrompt returns the values of a prompt parameter that this server knows, each once, and false if none is combined with
// another value.
func readPrompt(parameter string) (prompt []string, ok bool) {
	none, count := false, 0
	for value := range strings.FieldsSeq(parameter) {
		none = none || value == "none"
		if count++; none && count > 1 {
			return nil, false
		}
		switch value {
		case "none", "login", "consent", "select_account":
			if !slices.Contains(prompt, value) {
				prompt = append(prompt, value)
			}
		}
	}
	return prompt, true
}

// checkChallenge returns the code_challenge. Public clients must send one, and the only method is S256 (RFC 7636 §4.3,
// §4.4.1, RFC 9700 §2.1.1). A client that describes itself and authenticates may send none with a nonce, which is what libraries for
// OpenID Connect know: the ID token shows the client then that nobody has put another code in the place of its own.
func (r *authorizeRequest) checkChallenge() (string, *grants.Error) {
	client := r.client
	challenge, method := r.params.Get("code_challenge"), r.params.Get("code_challenge_method")
	hasNonce := client.Origin != "" && r.signsIn() && r.params.Get("nonce") != ""
	switch {
	case challenge == "" && method == "" && !client.Public() && (!client.RequirePKCE || hasNonce):
		return "", nil
	case challenge == "" && client.Public():
		return "", grants.Refuse(grants.InvalidRequest, "code_challenge is missing").
			Explain("", "PKCE, as the client has no secret", "client "+client.ID+": secret")
	case challenge == "" && client.Origin != "" && client.OpenID != nil:
		return "", grants.Refuse(grants.InvalidRequest, "code_challenge is missing").
			Explain("", "PKCE, or a nonce with the scope openid", "openid: dynamic")
	case challenge == "":
		return "", grants.Refuse(grants.InvalidRequest, "code_challenge is missing").
			Explain("", "PKCE", settingOf(client, "pkce"))
	case method != "S256":
		return "", grants.Refuse(grants.InvalidRequest, "code_challenge_method must be S256").Explain(method, "S256", "")
	case !grants.ValidChallenge(challenge):
		return "", grants.Refuse(grants.InvalidRequest, "code_challenge is not an S256 challenge: 43 characters of base64url").
			Explain(strconv.Itoa(len(challenge))+" characters", "43 characters of base64url", "")
	}
	return challenge, nil
}
