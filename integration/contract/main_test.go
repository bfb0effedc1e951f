// Package contract_test checks the examples that reproduce five existing token endpoints against the public documents of these
// endpoints. Start reading at contract.test; each contract has a file of its own.
package contract_test

import (
	"os"
	"testing"

	_ "github.com/caddyserver/caddy/v2/modules/standard" // the directives of the examples

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }
