package grants_test

import (
	"reflect"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestClientCredentials(t *testing.T) {
	billing := storage.Client{
		ID: "billing", SecretHashes: []string{"sha256:…"}, Scopes: []string{"orders", "invoices"}, Audience: []string{api, files},
	}
	public, plain, either := billing, billing, billing
	either.SecretHashes, either.JWKSURI = nil, "https://billing.example.com/jwks"
	either.AuthMethods = []string{storage.MethodKey, storage.MethodNone}
	public.SecretHashes = nil
	plain.Scopes = nil
	for _, c := range []struct {
		name   string
		client storage.Client
		params params
		keyed  bool
		want   grants.Authorization
		code   string
	}{
		{
			name: "RFC 9068 §2.2 sub identifies the client", client: billing,
			want: grants.Authorization{Subject: "billing", Scopes: []string{"orders", "invoices"}, Audience: []string{api, files}},
		}, {
			name: "RFC 6749 §3.3 scope narrows", client: billing, params: params{"scope": {"invoices"}},
			want: grants.Authorization{Subject: "billing", Scopes: []string{"invoices"}, Audience: []string{api, files}},
		}, {
			name: "RFC 6749 §3.3 a scope the client may not have", client: billing, params: params{"scope": {"invoices profile"}},
			code: grants.InvalidScope,
		}, {
			name: "RFC 6749 §3.3 a scope that is none", client: billing, params: params{"scope": {`orders "`}},
			code: grants.InvalidScope,
		}, {
			name: "a client without scopes", client: plain,
			want: grants.Authorization{Subject: "billing", Audience: []string{api, files}},
		}, {
			name: "a client without scopes that asks for one", client: plain, params: params{"scope": {"orders"}},
			code: grants.InvalidScope,
		}, {
			name: "RFC 8707 §2 resource narrows", client: billing, params: params{"resource": {api}},
			want: grants.Authorization{Subject: "billing", Scopes: []string{"orders", "invoices"}, Audience: []string{api}},
		}, {
			name: "RFC 8707 §2 several resources", client: billing, params: params{"resource": {files, api}},
			want: grants.Authorization{Subject: "billing", Scopes: []string{"orders", "invoices"}, Audience: []string{files, api}},
		}, {
			name: "RFC 8707 §2 a resource the client may not ask for", client: billing, params: params{"resource": {"https://other.example.com"}},
			code: grants.InvalidTarget,
		}, {
			name: "RFC 8707 §2 a resource with a fragment", client: billing, params: params{"resource": {api + "#x"}},
			code: grants.InvalidTarget,
		}, {
			name: "RFC 6749 §4.4 a public client", client: public,
			code: grants.UnauthorizedClient,
		}, {
			name: "RFC 6749 §4.4 a client that may do without its key, and does", client: either,
			code: grants.UnauthorizedClient,
		}, {
			name: "and that uses it", client: either, keyed: true,
			want: grants.Authorization{Subject: "billing", Scopes: []string{"orders", "invoices"}, Audience: []string{api, files}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			// RFC 6749 §4.4.3: no refresh token. There is no store either: nothing is kept of this grant.
			s := &site{t: t, client: &c.client, keyed: c.keyed}
			got, err := s.exchange(grants.ClientCredentials{}, "", "", c.params)
			s.wantRefused("the request", err, c.code)
			if err == nil && !reflect.DeepEqual(*got, c.want) {
				t.Errorf("got  %+v\nwant %+v", *got, c.want)
			}
		})
	}
}
