package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// cause is why something fails, in words of closed lists: what was tried, and what is wrong.
type cause struct{ what, trouble string }

// What is tried with a store.
const (
	reading = "reading the store"
	writing = "writing to the store"
)

// readOnlyCause is that of requests that a read-only issuer cannot answer.
var readOnlyCause = cause{writing, readOnlyMessage}

// troubles are what can be wrong with a store, the first that an error is.
var troubles = []struct {
	name string
	is   []error
}{
	{"the record is damaged", []error{storage.ErrDamaged}},
	{"no space left", []error{syscall.ENOSPC, syscall.EDQUOT}},
	{"it is read-only", []error{syscall.EROFS}},
	{"no permission", []error{fs.ErrPermission}},
	{"too many open files", []error{syscall.EMFILE, syscall.ENFILE}},
	{"input/output error", []error{syscall.EIO, syscall.ESTALE}},
	{timeout, []error{context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ETIMEDOUT}},
	{unreachable, []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
		net.ErrClosed, io.EOF, io.ErrUnexpectedEOF,
	}},
}

const (
	timeout     = "no answer in time"
	unreachable = "no connection"
	otherwise   = "another error"
)

// troubleOf returns what is wrong, from a closed list.
func troubleOf(err error) string {
	for _, trouble := range troubles {
		for _, known := range trouble.is {
			if errors.Is(err, known) {
				return trouble.name
			}
		}
	}
	var panicked *panicError
	var overNet net.Error
	switch {
	case errors.As(err, &panicked):
		return "it panics"
	case errors.As(err, &overNet) && overNet.Timeout():
		return timeout
	case overNet != nil:
		return unreachable
	}
	return otherwise
}

// storeError is a failure of the store, and not of who asks it.
type storeError struct {
	cause cause
	err   error
}

func (e *storeError) Error() string { return e.err.Error() }

func (e *storeError) Unwrap() error { return e.err }

// storeErr returns the error of a store as what it is to the request with that context: a store that was not waited for
// has not failed.
func storeErr(ctx context.Context, what string, err error) error {
	if errors.Is(err, storage.ErrReadOnly) {
		return err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return &storeError{cause{what, troubleOf(err)}, err}
}

// fields returns what the log says of a cause, at the beginning of an outage and at its end.
func (c cause) fields() []zap.Field {
	return []zap.Field{zap.String("what", c.what), zap.String("trouble", c.trouble)}
}

// troubleFields returns what the log says beside an error, if that is the store's.
func troubleFields(err error) []zap.Field {
	if failed, ok := errors.AsType[*storeError](err); ok {
		return failed.cause.fields()
	}
	return nil
}

// causeOf returns why something failed that is no request.
func causeOf(what string, err error) cause {
	if failed, ok := errors.AsType[*storeError](err); ok {
		return failed.cause
	}
	return cause{what, troubleOf(err)}
}

// Unavailable reports whether an error is the store's.
func Unavailable(err error) bool {
	_, ok := errors.AsType[*storeError](err)
	return ok
}

// storeFailure returns why the store failed, if the error is the store's.
func storeFailure(err error) (cause, bool) {
	if failed, ok := errors.AsType[*storeError](err); ok {
		return failed.cause, true
	}
	return cause{reading, timeout}, errors.Is(err, storage.ErrTimeout)
}
