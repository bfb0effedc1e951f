package trail_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

func TestFailureHasTheFieldsOfItsLine(t *testing.T) {
	core, logs := observer.New(zap.ErrorLevel)
	remembered := trail.New()
	remembered.Log(zap.New(core), zap.InfoLevel, "request refused",
		zap.String("issuer", "shop"), zap.String("endpoint", "token"), zap.String("client_ip", "192.0.2.1"),
		zap.String("client_id", "app"), zap.String("grant_type", "refresh_token"), zap.String("error_id", "abcd2345"),
		zap.String("error", "invalid_grant"), zap.String("description", "refused"), zap.Int("status", 400),
		zap.String("sent", "x"), zap.String("expected", "y"), zap.String("setting", "z"), zap.NamedError("cause", errors.New("why")))
	got, ok := remembered.Find("abcd2345")
	if !ok || got.Time.IsZero() {
		t.Fatalf("found %v, %+v", ok, got)
	}
	want := trail.Failure{
		ID: "abcd2345", Time: got.Time, Message: "request refused", Issuer: "shop", Endpoint: "token", Address: "192.0.2.1",
		Client: "app", GrantType: "refresh_token", Code: "invalid_grant", Description: "refused", Status: 400, Sent: "x", Expected: "y",
		Setting: "z", Cause: "why",
	}
	if got != want {
		t.Errorf("remembered %+v, want %+v", got, want)
	}
	if logs.Len() != 0 {
		t.Error("a line of level info is in a log of level error")
	}
}

func TestLineWithoutErrorIDIsNoFailure(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	remembered := trail.New()
	remembered.Log(zap.New(core), zap.InfoLevel, "hello", zap.String("issuer", "shop"))
	if last := remembered.Last(10); len(last) != 0 || logs.Len() != 1 {
		t.Errorf("remembered %v, and %d lines", last, logs.Len())
	}
}

func TestTrailIsBounded(t *testing.T) {
	remembered := trail.New()
	log := func(endpoint string, n int) {
		remembered.Log(zap.NewNop(), zap.InfoLevel, "request refused",
			zap.String("endpoint", endpoint), zap.String("error_id", fmt.Sprint(endpoint, n)))
	}
	for n := range trail.Capacity + 10 {
		log("token", n)
	}
	for n := range 3 * trail.Capacity {
		log("guard", n)
	}
	if all := remembered.Last(10 * trail.Capacity); len(all) != 2*trail.Capacity || all[0].ID != fmt.Sprint("guard", 3*trail.Capacity-1) {
		t.Errorf("remembered %d, the newest is %s", len(all), all[0].ID)
	}
	for id, want := range map[string]bool{"token9": false, "token10": true, fmt.Sprint("token", trail.Capacity+9): true} {
		if _, got := remembered.Find(id); got != want {
			t.Errorf("%s is remembered: %v, want %v", id, got, want)
		}
	}
	if got := remembered.Last(5); len(got) != 5 {
		t.Errorf("the last five are %d", len(got))
	}
}

func TestWatch(t *testing.T) {
	watched := trail.New()
	if watched.Watched() || (*trail.Trail)(nil).Watched() {
		t.Error("watched by nobody")
	}
	watched.Step(&trail.Step{Result: "before"})
	ctx, cancel := context.WithCancel(t.Context())
	steps := watched.Watch(ctx)
	for range 10_000 { // somebody who does not read holds nobody up
		watched.Step(&trail.Step{Result: "ok"})
	}
	got := 0
	for step := range steps {
		if step.Result != "ok" {
			t.Errorf("a step from before: %+v", step)
		}
		if got++; got == 10 {
			break
		}
	}
	if watched.Watched() {
		t.Error("still watched after the end")
	}
	steps = watched.Watch(ctx)
	cancel()
	for range steps {
		t.Error("a step after the end")
	}
}
