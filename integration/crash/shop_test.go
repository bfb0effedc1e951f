package crash_test

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// issuer is the name of the shop's issuer, which is configured without one.
const issuer = "default"

// customers is how many customers the shop has, each with an app that sends the next request as soon as it has an answer.
const customers = 6

var (
	account  = regexp.MustCompile(`(?m)^\s*alice (\S+)$`)
	throttle = regexp.MustCompile(`(?s)throttle \{.*?\n\t\t\t\}\n`)
)

// shop returns the shop with its customers, and with a page that requires an access token.
func shop(settings string) integration.Config {
	// What has a lifetime must outlast the test on a busy machine.
	config := integration.ShopWith("code {\n lifetime 10m\n }\nrefresh_token {\n retry 5m\n }\n" + settings)
	// All apps are at one address, and present many tokens twice.
	config.Global = throttle.ReplaceAllLiteralString(config.Global, "throttle off\n")
	hash := account.FindStringSubmatch(config.Sites)[1]
	var accounts strings.Builder
	for i := range customers {
		fmt.Fprintf(&accounts, "\t\t%s %s\n", customer(i), hash)
	}
	config.Sites = account.ReplaceAllLiteralString(config.Sites, accounts.String())
	config.Sites = strings.Replace(config.Sites, "\trespond ", "\toauth_guard /api/*\n\trespond ", 1)
	return config
}

func customer(i int) string { return fmt.Sprintf("customer%d", i) }
