package testport

import (
	"net"
	"strconv"
	"testing"
)

// A port is reserved although nothing listens on it, and only until it is released. A server can listen on it by TCP and by UDP.
func TestReserve(t *testing.T) {
	picked, release, err := Pick()
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(picked)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reserve(port); err == nil {
		t.Errorf("%d is reserved twice", port)
	}
	listener, err := net.Listen("tcp", address(port)) //nolint:noctx // it is closed when the test ends
	if err != nil {
		t.Fatalf("a server cannot listen on a reserved port: %v", err)
	}
	packets, err := net.ListenPacket("udp", address(port)) //nolint:noctx // it is closed when the test ends
	if err != nil {
		t.Fatalf("a server cannot listen on a reserved port by UDP: %v", err)
	}
	release()
	for _, server := range []interface{ Close() error }{listener, packets} {
		if _, err := reserve(port); err == nil {
			t.Errorf("%d is reserved while a server listens there", port)
		}
		if err := server.Close(); err != nil {
			t.Fatal(err)
		}
	}
	again, err := reserve(port)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
