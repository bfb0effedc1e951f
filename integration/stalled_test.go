package integration_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// Caddy's own limit for a client that sends nothing is a minute for each read.
func TestStalledBodyEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := integration.Start(t, integration.Shop())
	conn, err := net.Dial("tcp", s.Address) //nolint:noctx // on loopback
	must(t, err)
	defer conn.Close() //nolint:errcheck // it is read to its end
	must(t, conn.SetDeadline(time.Now().Add(integration.Patience)))
	const head = "POST /oauth/token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s"

	r := bufio.NewReader(conn)
	_, err = fmt.Fprintf(conn, head, s.Address, 6, "code=x")
	must(t, err)
	if status := readStatus(t, r); status != http.StatusUnauthorized {
		t.Fatalf("a request with its whole body gets %d", status)
	}
	_, err = fmt.Fprintf(conn, head, s.Address, 60_000, "code=x")
	must(t, err)
	if status := readStatus(t, r); status != http.StatusRequestTimeout {
		t.Errorf("a request without the rest of its body gets %d", status)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is open: %v", err)
	}
}

// readStatus reads a response to its end and returns its status.
func readStatus(t *testing.T, r *bufio.Reader) int {
	t.Helper()
	answer, err := http.ReadResponse(r, nil)
	must(t, err)
	_, err = io.Copy(io.Discard, answer.Body)
	must(t, errors.Join(err, answer.Body.Close()))
	return answer.StatusCode
}
