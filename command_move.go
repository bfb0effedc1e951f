package caddyoauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"golang.org/x/term"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

const (
	exportHelp = `
Writes all records of an issuer to standard output or to a file: refresh tokens
as hashes, consents, clients, revocations, and the private signing keys. The
running server goes on meanwhile.

DANGER: the output is not encrypted. Whoever has it can make tokens of the
issuer, and knows who uses which app. Keep it as safe as a private key.

With --freeze, nothing is written to the store from then on for that long:
requests that would write are told to come back (503 with Retry-After), all
others are answered. It ends by itself, with "caddy oauth thaw", or when a
reload brings another configuration. Where several nodes share the store, hold
up the others first, with "caddy oauth freeze" at the address of each.`

	freezeHelp = `
Holds up what this Caddy would write to the issuer's store, for a duration such
as 2m: requests that would write are told to come back (503 with Retry-After),
all others are answered. It returns when nothing is being written any more. It
ends by itself, with "caddy oauth thaw", or when a reload brings another
configuration.

With several nodes, do this at the address of each but one, and then export with
--freeze from that one.`

	encryptHelp = `
Writes each record anew that is not encrypted with the first key of
encryption_key, or with "encryption_key off", each that is encrypted. The
server goes on meanwhile, and the command may be stopped and run again. When it
says that all records are done, the other keys are of no use any more.

With several nodes, first see to it that all of them have the keys.`
)

func exportFlags(f caddycmd.Flags) {
	f.FlagSet.String("file", "", "File to write to, readable by you alone (default: standard output)")
	f.FlagSet.Duration("freeze", 0, "How long to hold up what would be written meanwhile, and after")
}

func runExport(c *invocation) error {
	body := make(map[string]string)
	if c.flags.Changed("freeze") {
		body["freeze"] = c.flags.Duration("freeze").String()
	}
	name := c.flags.String("file")
	if file, ok := c.out.(*os.File); name == "" && ok && term.IsTerminal(int(file.Fd())) {
		return errors.New("expected --file, or a pipe to caddy oauth import: there are private keys in it")
	}
	resp, err := c.open(http.MethodPost, "/export", body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if name == "" {
		return c.copyDump(c.out, resp.Body)
	}
	return writeWhole(name, func(w io.Writer) error { return c.copyDump(w, resp.Body) })
}

// copyDump copies a dump that is whole, and tells what it is.
func (c *invocation) copyDump(w io.Writer, r io.Reader) error {
	d, err := dump.NewReader(io.TeeReader(r, w))
	if err != nil {
		return err
	}
	for _, err := range d.Records() {
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(c.notes, "Exported %d records of issuer %s.\n", d.Counts.Records, d.Header.Issuer)
	if d.Counts.Damaged > 0 {
		fmt.Fprintf(c.notes, "%d records are damaged, and left out.\n", d.Counts.Damaged)
	}
	if until := d.Header.Frozen; !until.IsZero() {
		fmt.Fprintf(c.notes, "Writes are held up until %s.\n", until.Local().Format(time.TimeOnly))
	}
	return nil
}

// writeWhole makes a file that only its owner can read, of all that is written or not at all.
func writeWhole(name string, write func(w io.Writer) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("file: expected the name of a file, and %s is something else", name)
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // with mode 0600
	if err != nil {
		return err
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

func runFreeze(c *invocation) error {
	var answer frozen
	if err := c.ask(http.MethodPost, "/freeze", map[string]string{"for": c.arg}, &answer); err != nil {
		return err
	}
	return c.print(answer, func(w io.Writer) { row(w, "Writes are held up until "+moment(answer.Until)+".") })
}

func runThaw(c *invocation) error {
	var answer thawed
	if err := c.ask(http.MethodPost, "/thaw", nil, &answer); err != nil {
		return err
	}
	return c.print(answer, func(w io.Writer) {
		if answer.Thawed {
			row(w, "Writes are no longer held up.")
		} else {
			row(w, "Writes were not held up.")
		}
	})
}

func runEncrypt(c *invocation) error {
	var done authserver.Resealed
	if err := c.ask(http.MethodPost, "/encrypt", nil, &done); err != nil {
		return err
	}
	err := c.print(done, func(w io.Writer) {
		row(w, fmt.Sprintf("%d records, of which %d were written anew.", done.Records, done.Changed))
	})
	if err == nil && done.Unreadable > 0 {
		err = fmt.Errorf("%d records could not be read, and stay as they are; the log of the server says which and why", done.Unreadable)
	}
	return err
}
