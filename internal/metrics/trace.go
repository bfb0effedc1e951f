package metrics

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Span is a part of a traced request. Its zero value is part of a request that is not traced.
type Span struct{ span trace.Span }

// StartSpan starts a span below the one of the context, if there is one.
func StartSpan(ctx context.Context, name string) (context.Context, Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	ctx, child := parent.TracerProvider().Tracer("github.com/caddy-oauth/caddy-oauth").Start(ctx, name)
	return ctx, Span{child}
}

// End ends the span. The pairs are names and values of its attributes; empty values are left out.
func (s Span) End(pairs ...string) {
	if s.span == nil {
		return
	}
	for ; len(pairs) > 0; pairs = pairs[2:] {
		if pairs[1] != "" {
			s.span.SetAttributes(attribute.String("oauth."+pairs[0], pairs[1]))
		}
	}
	s.span.End()
}
