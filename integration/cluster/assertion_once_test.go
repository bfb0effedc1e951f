package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// A client that sends one assertion to both nodes at the same time gets one token, whatever store the nodes share.
func TestAssertionAtBothNodes(t *testing.T) {
	t.Parallel()
	onBothStores(t, assertionsOnce)
}

func assertionsOnce(t *testing.T, b backend) {
	t.Helper()
	key := jwttest.NewKey(t, "ES256")
	file := filepath.Join(t.TempDir(), "machine.jwks")
	must(t, os.WriteFile(file, []byte(`{"keys":[`+string(key.Public)+`]}`), 0o600))
	b.setting += "\nclient machine {\n jwks " + file + "\n}\n"
	c := start(t, b)
	for n := range 20 {
		claims, err := json.Marshal(map[string]any{
			"iss": "machine", "sub": "machine", "aud": c.nodes[0].Issuer, "exp": time.Now().Add(time.Minute).Unix(), "jti": fmt.Sprint(n),
		})
		must(t, err)
		signed, err := key.SignAs("JWT", claims)
		must(t, err)
		form := url.Values{
			"grant_type": {"client_credentials"}, "client_assertion": {signed},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}
		answers, errs := make([]*integration.Answer, 4), make([]error, 4)
		var group sync.WaitGroup
		for i := range answers {
			group.Go(func() {
				node := c.nodes[i%nodes]
				answers[i], errs[i] = integration.Post(t.Context(), node.Client(t), node.TokenURL(), form)
			})
		}
		group.Wait()
		tokens := 0
		for i, answer := range answers {
			must(t, errs[i])
			switch answer.Status {
			case http.StatusOK:
				tokens++
			case http.StatusUnauthorized, http.StatusTooManyRequests: // used before, or too often from one address
			default:
				t.Errorf("got %d %s", answer.Status, answer.Error)
			}
		}
		if tokens != 1 {
			t.Errorf("%d of %d requests with one assertion got a token", tokens, len(answers))
		}
	}
}
