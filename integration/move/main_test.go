// Package move tests that a running server can move from one store to another while clients use it.
package move

import (
	"os"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }

var must = integration.Must
