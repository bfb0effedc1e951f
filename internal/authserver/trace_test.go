package authserver

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestSpans(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"))
	refreshToken, _ := s.tokens(t)["refresh_token"].(string)
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	ctx, request := provider.Tracer("test").Start(t.Context(), "request")
	s.token(t, refreshes(refreshToken), func(r *http.Request) { *r = *r.WithContext(ctx) })
	request.End()

	got := make([]string, 0, len(spans.Ended()))
	for _, span := range spans.Ended() {
		var about []string
		for _, attribute := range span.Attributes() {
			about = append(about, string(attribute.Key)+"="+attribute.Value.AsString())
		}
		slices.Sort(about)
		got = append(got, span.Name()+" "+strings.Join(about, " "))
		if span.Name() != "request" && span.Parent().TraceID() != request.SpanContext().TraceID() {
			t.Errorf("%s is of another trace", span.Name())
		}
	}
	want := []string{
		"oauth.store.update oauth.kind=family",
		"oauth.token oauth.client_id=webapp oauth.grant_type=refresh_token oauth.issuer=default oauth.result=ok",
		"request ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("spans %q, want %q", got, want)
	}
}

// panickingSite is a site with a bug.
type panickingSite struct{ testSite }

func (*panickingSite) User(*http.Request) (*User, error) { panic("a nil map") }

func TestSpanEndsAfterAPanic(t *testing.T) {
	s := newTestServer(t)
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	ctx, request := provider.Tracer("test").Start(t.Context(), "request")
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		r := httptest.NewRequest(http.MethodGet, "/oauth/authorize?"+asks("webapp").Encode(), nil).WithContext(ctx)
		_ = s.ServeHTTP(newRecorder(), r, new(panickingSite))
	}()
	request.End()
	if ended := spans.Ended(); len(ended) == 0 || ended[0].Name() != "oauth.authorize" {
		t.Errorf("%d spans ended, want that of the endpoint first", len(ended))
	}
}
