package redis

import (
	"context"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

func init() {
	goredis.SetLogger(clientLogger{})
}

// clientLogger is where the client says what it does about connections. It would say it on stderr, again and again while
// Redis is gone, which the errors of operations say too.
type clientLogger struct{}

// Printf logs for those who debug.
func (clientLogger) Printf(_ context.Context, format string, v ...any) {
	if entry := caddy.Log().Named("oauth.stores.redis").Check(zap.DebugLevel, "said by the client"); entry != nil {
		entry.Write(zap.String("message", fmt.Sprintf(format, v...)))
	}
}
