package caddyoauth

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

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

If the issuer is read_only in the running configuration, the export is final:
an import of it makes the store hold these records and no others. Where several
nodes share the store, first load that configuration on all of them.`

	encryptHelp = `
Writes each record anew that is not encrypted with the first key of
encryption_key, or with "encryption_key off", each that is encrypted. The
server goes on meanwhile, and the command may be stopped and run again. When it
says that all records are done, the other keys are no longer needed.

With several nodes, first load the configuration with the keys on all of them.`
)

func exportFlags(f caddycmd.Flags) {
	f.FlagSet.String("file", "", "File to write to, readable by you alone (default: standard output)")
}

func runExport(c *invocation) error {
	name := c.flags.String("file")
	if file, ok := c.out.(*os.File); name == "" && ok && term.IsTerminal(int(file.Fd())) {
		return errors.New("expected --file, or a pipe to caddy oauth import: there are private keys in it")
	}
	resp, err := c.open(http.MethodPost, "/export", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if name == "" {
		return c.copyDump(c.out, resp.Body)
	}
	return writeWhole(name, func(w io.Writer) error { return c.copyDump(w, resp.Body) })
}

// copyDump copies a dump, checks that it is whole, and says what is in it.
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
	if d.Header.ReadOnly {
		fmt.Fprintln(c.notes, "The issuer is read-only, so this export is final.")
	}
	return nil
}

// writeWhole creates a file that only its owner can read. If write fails, there is no file.
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
