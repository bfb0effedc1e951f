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

// The ports lie below those that systems give to connections and to listeners on port 0, and so do the ports above, on whose TCP ports
// nodes of a Redis Cluster listen as well.
const first, last, above = 12_000, 21_999, 10_000

// Pick returns a port of 127.0.0.1 on which nothing listens, neither by TCP nor by UDP. No other process that calls Pick gets it until
// release is called. A test can therefore stop a server and start it again on the same port.
func Pick() (port string, release func(), err error) {
	for range 1000 {
		port := first + rand.IntN(last-first+1) //nolint:gosec // G404: no secret
		release, err := reserve(port)
		if err == nil {
			return strconv.Itoa(port), release, nil
		}
	}
	return "", nil, errors.New("found no free port")
}

// reserve takes a port, if it is free. The UDP port above stands for it, since a server will need the port itself: for HTTP/3 by UDP too.
func reserve(port int) (release func(), err error) {
	reservation, err := net.ListenPacket("udp", address(port+above)) //nolint:noctx // it only takes the port
	if err != nil {
		return nil, err
	}
	release = func() { _ = reservation.Close() }      // nothing was sent
	listener, err := net.Listen("tcp", address(port)) //nolint:noctx // it is closed at once
	if err == nil {
		err = listener.Close()
	}
	if err == nil {
		var packets net.PacketConn
		if packets, err = net.ListenPacket("udp", address(port)); err == nil { //nolint:noctx // it is closed at once
			err = packets.Close()
		}
	}
	if err != nil {
		release()
		return nil, fmt.Errorf("%s is in use: %w", address(port), err)
	}
	return release, nil
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

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
