package authserver

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// span is a part of a request that is traced, or nothing if the request is not.
type span struct{ trace.Span }

// startSpan begins a part of what the context belongs to, if that is traced.
func startSpan(ctx context.Context, name string) (context.Context, span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, span{}
	}
	ctx, child := parent.TracerProvider().Tracer("github.com/caddy-oauth/caddy-oauth").Start(ctx, name)
	return ctx, span{child}
}

// end ends the part. The pairs are names and values of what is known of it by then; empty values are left out.
func (s span) end(pairs ...string) {
	if s.Span == nil {
		return
	}
	for ; len(pairs) > 0; pairs = pairs[2:] {
		if pairs[1] != "" {
			s.SetAttributes(attribute.String("oauth."+pairs[0], pairs[1]))
		}
	}
	s.End()
}
