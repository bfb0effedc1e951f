// Package contract_test plays the public documents of five existing token endpoints against the examples that reproduce
// them.
package contract_test

import (
	"os"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard" // what a Caddyfile can name

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }
