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
	key, file := keyInFile(t)
	b.setting += "\nclient machine {\n jwks " + file + "\n}\n"
	oneToken(t, start(t, b), key, "machine", "machine", func(signed string) url.Values {
		return url.Values{
			"grant_type": {"client_credentials"}, "client_assertion": {signed},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}
	}, http.StatusUnauthorized)
}

// keyInFile returns a key, and a file with its public half.
func keyInFile(t *testing.T) (key jwttest.Key, file string) {
	t.Helper()
	key, file = jwttest.NewKey(t, "ES256"), filepath.Join(t.TempDir(), "jwks.json")
	must(t, os.WriteFile(file, []byte(`{"keys":[`+string(key.Public)+`]}`), 0o600))
	return key, file
}

// So does a client that brings an assertion of an issuer elsewhere. A node that was killed has not forgotten it.
func TestGrantedAssertionAtBothNodes(t *testing.T) {
	t.Parallel()
	onBothStores(t, grantsOnce)
}

func grantsOnce(t *testing.T, b backend) {
	t.Helper()
	key, file := keyInFile(t)
	b.setting += "\ngrant jwt_bearer {\n issuer https://partner.example {\n jwks " + file + "\n subjects partner-*\n}\n}\n" +
		"client agent {\n secret agent-secret-for-the-test\n grant_types jwt_bearer\n}\n"
	c := start(t, b)
	bring := func(signed string) url.Values {
		return url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {signed},
			"client_id": {"agent"}, "client_secret": {"agent-secret-for-the-test"},
		}
	}
	last := oneToken(t, c, key, "https://partner.example", "partner-7", bring, http.StatusBadRequest)
	for _, node := range c.nodes {
		node.Kill()
		node.Run()
		answer, err := integration.Post(t.Context(), node.Client(t), node.TokenURL(), bring(last))
		must(t, err)
		if answer.Status != http.StatusBadRequest || answer.Error != "invalid_grant" {
			t.Errorf("an assertion that was used before the node was killed: %d %s", answer.Status, answer.Error)
		}
	}
}

// oneToken sends assertions to both nodes, each four times at once, and checks that each gives one token. It returns the last.
func oneToken(
	t *testing.T, c *cluster, key jwttest.Key, issuer, subject string, request func(signed string) url.Values, refused int,
) (signed string) {
	t.Helper()
	for n := range 20 {
		claims, err := json.Marshal(map[string]any{
			"iss": issuer, "sub": subject, "aud": c.nodes[0].Issuer, "exp": time.Now().Add(time.Minute).Unix(), "jti": fmt.Sprint(n),
		})
		must(t, err)
		signed, err = key.SignAs("JWT", claims)
		must(t, err)
		form := request(signed)
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
			case refused, http.StatusTooManyRequests: // used before, or too often from one address
			default:
				t.Errorf("got %d %s", answer.Status, answer.Error)
			}
		}
		if tokens != 1 {
			t.Errorf("%d of %d requests with one assertion got a token", tokens, len(answers))
		}
	}
	return signed
}
