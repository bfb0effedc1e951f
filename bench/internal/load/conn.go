package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// conn is a persistent connection for one request after the other (RFC 9112 §9.3). It parses only the answers that the measured
// servers send.
type conn struct {
	address string
	until   time.Time // the deadline

	net      net.Conn // nil if it is not open
	r        *bufio.Reader
	location []byte // of the answer, if it is a redirect
	body     []byte
}

func (c *conn) open() error {
	if c.net != nil {
		return nil
	}
	nc, err := net.DialTimeout("tcp", c.address, answerTimeout) //nolint:noctx // it has a timeout
	if err != nil {
		return err
	}
	c.net, c.r = nc, bufio.NewReaderSize(nc, 16<<10)
	return c.net.SetDeadline(c.until)
}

func (c *conn) close() {
	if c.net != nil {
		_ = c.net.Close() // every request was answered
		c.net = nil
	}
}

// do sends a request and returns the status of the answer. The body and the location are valid until the next request.
func (c *conn) do(request []byte) (status int, err error) {
	if err := c.open(); err != nil {
		return 0, err
	}
	if _, err = c.net.Write(request); err == nil {
		status, err = c.read()
	}
	if err != nil {
		c.close()
	}
	return status, err
}

var errAnswer = errors.New("malformed answer")

// read reads an answer.
func (c *conn) read() (int, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	const before, digits = len("HTTP/1.1 "), 3
	if len(line) < before+digits {
		return 0, errAnswer
	}
	status, err := strconv.Atoi(string(line[before : before+digits]))
	if err != nil {
		return 0, errAnswer
	}
	length, last, err := c.readHeader()
	if err != nil {
		return 0, err
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err = io.ReadFull(c.r, c.body); err == nil && last {
		c.close()
	}
	return status, err
}

// readHeader reads the header. It returns the length of the body, and whether the server closes the connection afterwards.
func (c *conn) readHeader() (length int, last bool, err error) {
	c.location = c.location[:0]
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		name, value, found := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		switch {
		case len(name) == 0:
			return length, last, nil
		case !found:
			return 0, false, errAnswer
		}
		switch string(name) { // as net/http writes them
		case "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, false, errAnswer
			}
		case "Transfer-Encoding":
			return 0, false, fmt.Errorf("%w: chunked body", errAnswer)
		case "Location":
			c.location = append(c.location, value...)
		case "Connection":
			last = string(value) == "close"
		}
	}
}

// want sends a request, and returns an error if the answer has another status.
func (c *conn) want(status int, request []byte) error {
	got, err := c.do(request)
	if err != nil {
		return err
	}
	if got != status {
		return fmt.Errorf("%d %s %.300s", got, http.StatusText(got), c.body)
	}
	return nil
}

// member returns a string member of the JSON object in the body, "" if there is none.
func (c *conn) member(name string) []byte {
	_, rest, _ := bytes.Cut(c.body, []byte(`"`+name+`":"`))
	value, _, _ := bytes.Cut(rest, []byte{'"'})
	return value
}
