package tokenwatch

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

func TestWatchIsTheContextOfItsRequest(t *testing.T) {
	t.Parallel()
	parent, cancel := context.WithCancel(t.Context())
	early, late, passed := &Watch{Context: parent}, &Watch{Context: parent}, &Watch{Context: parent}
	below, cancelBelow := context.WithCancel(early)
	defer cancelBelow()
	for _, cut := range []*Watch{early, late} {
		if cut.Err() != nil {
			t.Fatal("the request has ended too early")
		}
		cut.end()
		<-cut.Done()
		if !errors.Is(cut.Err(), context.Canceled) {
			t.Errorf("a request that was cut has %v", cut.Err())
		}
	}
	<-below.Done()
	if passed.Err() != nil {
		t.Error("another request has ended")
	}
	done := passed.Done()
	cancel()
	<-done
	if !errors.Is(passed.Err(), context.Canceled) {
		t.Errorf("a request whose client is gone has %v", passed.Err())
	}
}

func TestIsStream(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]bool{
		"text/event-stream": true, "Text/Event-Stream ; charset=utf-8": true, "text/event-stream; charset": true,
		"application/grpc+proto": true, "text/html": false, "": false,
	} {
		if got := isStream(http.StatusOK, http.Header{"Content-Type": {contentType}}); got != want {
			t.Errorf("%q is a stream: %t", contentType, got)
		}
	}
	if !isStream(http.StatusSwitchingProtocols, http.Header{}) {
		t.Error("an upgrade is no stream")
	}
}
