package openid

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// TestAuthlib signs alice in with the library that many programs in Python use.
func TestAuthlib(t *testing.T) {
	t.Parallel()
	python := testneeds.Program(t, "python3", "python3")
	dir := t.TempDir()
	output, err := integration.Output(t.Context(), ".", nil, python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps", "--target", dir,
		"--requirement", filepath.Join("testdata", "requirements.txt"))
	if err != nil {
		testneeds.Missing(t, "pip cannot install the packages: "+output)
	}
	s := start(t, `
		client authlib {
			secret {env.CLIENT_SECRET}
			redirect_uris http://127.0.0.1/callback
			scopes openid profile email groups
		}
`)
	origin := "http://" + integration.NewAddress(t)
	server := exec.CommandContext(t.Context(), python, filepath.Join("testdata", "party.py"))
	server.Env = append(os.Environ(), "ISSUER="+s.URL, "ORIGIN="+origin, "CLIENT_SECRET="+secret, "PYTHONPATH="+dir, "PYTHONDONTWRITEBYTECODE=1", "AUTHLIB_INSECURE_TRANSPORT=1")
	runs(t, origin, server)
	check(t, "authlib", signIn(t, s, origin+"/login").Text)
}
