package authserver

import "context"

// requestContext is the context of a request to an endpoint, with what is needed deep below it.
type requestContext struct {
	context.Context

	address  string // that the request came from: what is revoked is to tell from where
	patience patience
}

type (
	addressKey  struct{}
	patienceKey struct{}
)

// Value implements context.Context.
func (c *requestContext) Value(key any) any {
	switch key.(type) {
	case addressKey:
		return &c.address
	case patienceKey:
		return &c.patience
	}
	return c.Context.Value(key)
}

// addressOf returns the address that a request came from, "" if the context is of none.
func addressOf(ctx context.Context) string {
	if address, ok := ctx.Value(addressKey{}).(*string); ok {
		return *address
	}
	return ""
}
