package testport

import (
	"net"
	"testing"
)

// A port is reserved although nothing listens on it, and only until it is released.
func TestReserve(t *testing.T) {
	port, release, err := Pick()
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", port)
	if _, err := reserve(address); err == nil {
		t.Errorf("%s is reserved twice", address)
	}
	listener, err := net.Listen("tcp", address) //nolint:noctx // it is closed when the test ends
	if err != nil {
		t.Fatalf("a server cannot listen on a reserved port: %v", err)
	}
	release()
	if _, err := reserve(address); err == nil {
		t.Errorf("%s is reserved while a server listens there", address)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := reserve(address)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
