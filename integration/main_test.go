package integration_test

import (
	"os"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func TestMain(m *testing.M) {
	integration.WaitInParallel()
	os.Exit(integration.Main(m))
}

var must = integration.Must
