// Package testport picks ports for the servers of tests. Start reading at [Pick].
package testport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports lie below those that systems give to connections and to listeners on port 0, and so do the ports 10000 above, on which
// nodes of a Redis Cluster listen as well.
const first, last = 12_000, 21_999

// Pick returns a TCP port of 127.0.0.1 on which nothing listens. No other process that calls Pick gets it until release is called.
// A test can therefore stop a server and start it again on the same port.
func Pick() (port string, release func(), err error) {
	for range 1000 {
		port := strconv.Itoa(first + rand.IntN(last-first+1)) //nolint:gosec // G404: no secret
		release, err := reserve(net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			return port, release, nil
		}
	}
	return "", nil, errors.New("found no free port")
}

// reserve takes an address, if it is free. The UDP port of the same number stands for it, since a server will need the TCP port.
func reserve(address string) (release func(), err error) {
	reservation, err := net.ListenPacket("udp", address) //nolint:noctx // it only takes the port
	if err != nil {
		return nil, err
	}
	release = func() { _ = reservation.Close() } // nothing was sent
	listener, err := net.Listen("tcp", address)  //nolint:noctx // it is closed at once
	if err == nil {
		err = listener.Close()
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("%s is in use: %w", address, err)
	}
	return release, nil
}

// New returns a port that belongs to the test until it ends.
func New(tb testing.TB) string {
	tb.Helper()
	port, release, err := Pick()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(release)
	return port
}
