package crash_test

import (
	"os"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
