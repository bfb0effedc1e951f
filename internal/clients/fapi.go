package clients

import (
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// fapiCodeLifetime is the longest that a code may live under FAPI 2.0.
const fapiCodeLifetime = time.Minute

// HoldToFAPI holds a client to FAPI 2.0 Security Profile §5.3.2. It must authenticate with a key or a certificate. Its tokens are bound to
// its certificate if it is set to be, and otherwise to the key of its DPoP proofs.
func HoldToFAPI(c *storage.Client) {
	c.FAPI = true
	c.RequirePushed, c.RequirePKCE = true, true // §5.3.2.2, 3 and 5
	c.RedirectRules.Authorize = true            // 6
	c.CodeLifetime = min(c.CodeLifetime, fapiCodeLifetime)
	c.RequireDPoP = c.RequireDPoP || !c.BindToCertificate
}
