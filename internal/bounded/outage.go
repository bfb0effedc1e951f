package bounded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// What is tried with a store.
const (
	Reading = "reading the store"
	Writing = "writing to the store"
)

// cause is why something fails, in words of closed lists: what was tried, and what is wrong.
type cause struct{ what, trouble string }

// troubles are what can be wrong with a store. The first that an error is counts.
var troubles = []struct {
	name string
	is   []error
}{
	{"the issuer is read-only", []error{storage.ErrReadOnly}},
	{"the record is damaged", []error{storage.ErrDamaged}},
	{"no space left", []error{syscall.ENOSPC, syscall.EDQUOT}},
	{"the file system is read-only", []error{syscall.EROFS}},
	{"no permission", []error{fs.ErrPermission}},
	{"too many open files", []error{syscall.EMFILE, syscall.ENFILE}},
	{"input/output error", []error{syscall.EIO, syscall.ESTALE}},
	{"a directory in the place of a file, or the reverse", []error{syscall.EISDIR, syscall.ENOTDIR}},
	{noAnswer, []error{context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ETIMEDOUT}},
	{noConnection, []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EHOSTUNREACH, syscall.ENETUNREACH,
		net.ErrClosed, io.EOF, io.ErrUnexpectedEOF,
	}},
}

const (
	noAnswer     = "no answer in time"
	noConnection = "no connection"
	otherwise    = "another error"
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
		return "the store panics"
	case errors.As(err, &overNet) && overNet.Timeout():
		return noAnswer
	case overNet != nil && !isErrno(overNet): // any error of the system has the methods of a net.Error
		return noConnection
	}
	return otherwise
}

func isErrno(err error) bool {
	_, ok := err.(syscall.Errno) //nolint:errorlint // the error itself is meant, not what it wraps
	return ok
}

// storeError is a failure of the store, and not of the caller.
type storeError struct {
	cause  cause
	record string // the one that is damaged, "" if it is the store
	err    error
}

func (e *storeError) Error() string { return e.err.Error() }

func (e *storeError) Unwrap() error { return e.err }

// failure returns an error of a store as a failure of the store, unless nothing may be written, or the caller has stopped
// waiting.
func failure(ctx context.Context, what string, err error) error {
	switch {
	case errors.Is(err, storage.ErrReadOnly):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return &storeError{cause: cause{what, troubleOf(err)}, err: err}
}

// failureAt is failure for an operation on one record.
func failureAt(ctx context.Context, what string, key storage.Key, err error) error {
	err = failure(ctx, what, err)
	if failed, ok := errors.AsType[*storeError](err); ok && errors.Is(err, storage.ErrDamaged) {
		failed.record = string(key.Kind) + "/" + key.ID
	}
	return err
}

// NameRecord adds the name of a record to the error of decoding it, if the record is damaged, and returns any other error as it is.
func NameRecord(key storage.Key, err error) error {
	if errors.Is(err, storage.ErrDamaged) {
		return &storage.DamagedError{Key: key, Err: err}
	}
	return err
}

// damagedRecord returns the record that an error says is damaged, "" for none.
func damagedRecord(err error) string {
	if damaged, ok := errors.AsType[*storage.DamagedError](err); ok {
		return string(damaged.Key.Kind) + "/" + damaged.Key.ID
	}
	if failed, ok := errors.AsType[*storeError](err); ok {
		return failed.record
	}
	return ""
}

// IsStoreFailure reports whether an error is a failure of the store: the store does not work, or the record is damaged. To wait in vain for
// another caller that waits for the store is one, too.
func IsStoreFailure(err error) bool {
	_, ok := errors.AsType[*storeError](err)
	return ok || errors.Is(err, storage.ErrTimeout) || errors.Is(err, storage.ErrDamaged)
}

// causeOf returns why something failed.
func causeOf(what string, err error) cause {
	if failed, ok := errors.AsType[*storeError](err); ok {
		return failed.cause
	}
	if errors.Is(err, storage.ErrTimeout) {
		return cause{Reading, noAnswer}
	}
	return cause{what, troubleOf(err)}
}

// Fields returns what the log says of an error beside its text, if it is a failure of the store.
func Fields(err error) []zap.Field {
	if IsStoreFailure(err) {
		return causeOf("", err).fieldsAt(damagedRecord(err))
	}
	return nil
}

func (c cause) fields() []zap.Field {
	return []zap.Field{zap.String("what", c.what), zap.String("trouble", c.trouble)}
}

// fieldsAt are the fields of a cause and, if it is one, of the record that is damaged.
func (c cause) fieldsAt(record string) []zap.Field {
	if record == "" {
		return c.fields()
	}
	return append(c.fields(), zap.String("record", record))
}

// Outages knows what fails and since when, so that the log has each outage once and not for each request. There are few, as
// causes are from closed lists. Safe for concurrent use.
type Outages struct {
	log *zap.Logger
	now func() time.Time

	open  atomic.Int64 // how many there are
	mu    sync.Mutex
	known map[cause]*outage

	damaged map[string]bool // records that were reported as damaged, up to maxDamaged
}

// maxDamaged bounds how many damaged records are reported one by one.
const maxDamaged = 10_000

// outage is a time in which something fails for one cause.
type outage struct {
	since, last time.Time
	failed      int
}

const (
	// quiet is how long nothing must have failed before a success ends an outage: a store that fails now and then has
	// one outage, not many.
	quiet = 10 * time.Second

	// forgotten is how long after its last failure an outage is over that no success has ended.
	forgotten = 15 * time.Minute
)

// NewOutages returns an Outages that knows of none.
func NewOutages(log *zap.Logger, now func() time.Time) *Outages {
	return &Outages{log: log, now: now, known: make(map[cause]*outage), damaged: make(map[string]bool)}
}

// Failed counts a failure of something that was tried, and reports whether it is the first of an outage, with fields for the
// log. If the error is a failure of the store, that tells what was tried.
func (o *Outages) Failed(what string, err error) (first bool, fields []zap.Field) {
	c := causeOf(what, err)
	if record := damagedRecord(err); record != "" {
		return o.firstDamage(record), c.fieldsAt(record)
	}
	return o.failed(c), c.fields()
}

// firstDamage reports whether a record was not reported as damaged before. It stays damaged whatever else works, so this is no
// outage that ends.
func (o *Outages) firstDamage(record string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.damaged[record] || len(o.damaged) >= maxDamaged {
		return false
	}
	o.damaged[record] = true
	return true
}

func (o *Outages) failed(c cause) (first bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now, known := o.now(), o.known[c]
	if first = known == nil || now.Sub(known.last) >= forgotten; first {
		known = &outage{since: now}
		o.known[c] = known
		o.open.Store(int64(len(o.known)))
	}
	known.last = now
	known.failed++
	return first
}

// Worked says that something was tried and has not failed. It is cheap as long as there is no outage.
func (o *Outages) Worked(what ...string) {
	if o.open.Load() == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	for c, known := range o.known {
		for _, w := range what {
			if c.what != w || now.Sub(known.last) < quiet {
				continue
			}
			delete(o.known, c)
			o.open.Store(int64(len(o.known)))
			o.log.Info("store recovered", append(c.fields(),
				zap.Duration("lasted", known.last.Sub(known.since)), zap.Int("failed", known.failed))...)
		}
	}
}

// Open returns how many outages there are.
func (o *Outages) Open() int { return int(o.open.Load()) }
