package directive

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestAt(t *testing.T) {
	problem := errors.New("expected a secret")
	err := At("issuer shop", At("client app", At("secret", problem)))
	var located *Error
	if !errors.As(err, &located) || !slices.Equal(located.Path, []string{"issuer shop", "client app", "secret"}) {
		t.Fatalf("got %#v", err)
	}
	if !errors.Is(err, problem) || err.Error() != "issuer shop: client app: secret: expected a secret" {
		t.Errorf("got %v", err)
	}
	if err := At("issuer shop", nil); err != nil {
		t.Errorf("no problem became %v", err)
	}
	if err := At("issuer shop", fmt.Errorf("after a while: %w", At("secret", problem))); err.Error() != "issuer shop: after a while: secret: expected a secret" {
		t.Errorf("got %v", err)
	}
}
