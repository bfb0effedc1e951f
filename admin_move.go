package caddyoauth

import (
	"errors"
	"io"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// maxFreeze is how long writes can be held up at once: clients are told to come back.
const maxFreeze = time.Hour

// exportRecords writes a dump of all records, if that is asked for while nothing is written to the store.
func exportRecords(r *adminRequest) (any, error) {
	var body struct {
		Freeze caddy.Duration `json:"freeze"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	var until time.Time
	if body.Freeze != 0 {
		var err error
		if until, err = r.freeze(body.Freeze); err != nil {
			return nil, err
		}
	}
	return streamed{"application/jsonl", func(w io.Writer) {
		err := r.server.Export(r.Context(), w, until)
		if err != nil && !until.IsZero() && until.Equal(r.server.FrozenUntil()) { // else it is another's by now
			r.server.Thaw() // there is nothing to move
		}
	}}, nil
}

type frozen struct {
	Until time.Time `json:"frozen_until"`
}

func freeze(r *adminRequest) (any, error) {
	var body struct {
		For caddy.Duration `json:"for"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	until, err := r.freeze(body.For)
	return frozen{until}, err
}

// freeze holds up what this node would write to the store. When that time is over, it stays so where another configuration
// has taken over meanwhile: what is left of this one must not write to a store that has been moved.
func (r *adminRequest) freeze(long caddy.Duration) (until time.Time, err error) {
	if time.Duration(long) < time.Second || time.Duration(long) > maxFreeze {
		return until, badRequest{errors.New("freeze: expected a duration from 1s to 1h, such as 2m")}
	}
	name := r.PathValue("issuer")
	return r.server.Freeze(r.Context(), time.Duration(long), func() bool {
		app, err := activeApp()
		return err == nil && app.servers[name] == r.server
	})
}

type thawed struct {
	Thawed bool `json:"thawed"`
}

func thaw(r *adminRequest) (any, error) { return thawed{r.server.Thaw()}, nil }

func encryptRecords(r *adminRequest) (any, error) { return r.server.Reseal(r.Context()) }
