package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"
	"golang.org/x/term"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

const (
	exportHelp = `
Writes all records of an issuer to standard output or to a file: refresh tokens
as hashes, consents, clients, revocations, and the private signing keys. The
running server keeps working.

DANGER: the output is not encrypted. Anybody who has it can make tokens of the
issuer, and knows who uses which app. Keep it as safe as a private key.

If the issuer is read_only in the running configuration, the export is final:
an import of it makes the store hold these records and no others. Where several
nodes share the store, first load that configuration on all of them.`

	importHelp = `
Reads the output of "caddy oauth export" from standard input or a file, and
writes the records to the store that an issuer has in a configuration. They are
encrypted if the configuration says so. The command opens the store itself, so
Caddy need not run. Run it as the user that Caddy runs as, with the same
environment.

Records that the store already has stay as they are, and so do newer ones. A
revocation is never undone. You can run the command again.

If the issuer was read_only during the export, the dump is final: the store then
holds these records and no others. Load the new configuration afterwards.`

	encryptHelp = `
Rewrites every record that is not encrypted with the first key of encryption_key,
or with "encryption_key off", every record that is encrypted. The server keeps
working, and you can stop the command and run it again. When it has rewritten
all records, the other keys are no longer needed.

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
		fmt.Fprintf(c.notes, "%d records are damaged and were left out.\n", d.Counts.Damaged)
	}
	if d.Header.ReadOnly {
		fmt.Fprintln(c.notes, "The issuer is read-only, so this export is final.")
	}
	return nil
}

// writeWhole creates a file that only its owner can read. If write fails, there is no file.
func writeWhole(name string, write func(w io.Writer) error) error {
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("file: expected the name of a file, but %s is something else", name)
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
	var done authserver.Reencrypted
	if err := c.ask(http.MethodPost, "/encrypt", nil, &done); err != nil {
		return err
	}
	err := c.print(done, func(w io.Writer) {
		row(w, fmt.Sprintf("%d records, of which %d were rewritten.", done.Records, done.Changed))
	})
	if err == nil && done.Unreadable > 0 {
		err = fmt.Errorf("%d records could not be read and stay as they are; the log of the server says which and why", done.Unreadable)
	}
	return err
}

func importFlags(f caddycmd.Flags) {
	f.FlagSet.String("issuer", "", "Name of the issuer (default: the one that was exported)")
	f.StringP("config", "c", "", "Configuration file whose store to write to (default: the Caddyfile here)")
	f.StringP("adapter", "a", "", "Name of the config adapter to apply")
	f.FlagSet.String("file", "", "File to read from (default: standard input)")
	f.FlagSet.Bool("json", false, "Print JSON")
}

func runImport(c *invocation, stores IssuerStores) error {
	in, err := c.openDump()
	if err != nil {
		return err
	}
	if in, ok := in.(io.Closer); ok {
		defer func() { _ = in.Close() }() // it was only read
	}
	d, err := dump.NewReader(in)
	if err != nil {
		return err
	}
	store, name, closeStore, err := c.openStore(stores, d.Header.Issuer)
	if err != nil {
		return err
	}
	defer closeStore()
	report, err := dump.Import(context.Background(), store, d.Records(), d.Header.ReadOnly)
	if err != nil {
		return fmt.Errorf("issuer %s: after %d records: %w", name, report.Records, err)
	}
	return c.print(report, func(w io.Writer) {
		row(w, fmt.Sprintf("Imported %d records into issuer %s: %d written, %d already there, %d newer there, %d expired, %d others removed.",
			report.Records, name, report.Written, report.Same, report.Kept, report.Expired, report.Removed))
		if d.Header.ReadOnly {
			row(w, "The store holds all records of the read-only issuer: load the new configuration now.")
		}
	})
}

// openDump opens the dump. A file is first read to its end, so that an incomplete dump changes nothing.
func (c *invocation) openDump() (io.Reader, error) {
	name := c.flags.String("file")
	if name == "" {
		if c.flags.String("config") == "-" {
			return nil, errors.New("expected --file: standard input is the configuration")
		}
		return c.in, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return file, err // A pipe can be read only once.
	}
	err = checkDump(file)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func checkDump(r io.Reader) error {
	d, err := dump.NewReader(r)
	if err != nil {
		return err
	}
	for _, err := range d.Records() {
		if err != nil {
			return err
		}
	}
	return nil
}

// openStore opens the store of an issuer of the configuration: the issuer named on the command line, or else the one that
// was exported.
func (c *invocation) openStore(stores IssuerStores, exported string) (store storage.Store, name string, closeStore func(), err error) {
	text, _, _, err := caddycmd.LoadConfig(c.flags.String("config"), c.flags.String("adapter"))
	if err != nil {
		return nil, "", nil, err
	}
	if text == nil {
		return nil, "", nil, errors.New("expected --config with the configuration whose store to write to")
	}
	var config struct {
		Storage json.RawMessage            `json:"storage"`
		Apps    map[string]json.RawMessage `json:"apps"`
	}
	if err := json.Unmarshal(caddy.RemoveMetaFields(text), &config); err != nil {
		return nil, "", nil, err
	}
	issuers, err := stores(config.Apps)
	if err != nil {
		return nil, "", nil, err
	}
	if len(issuers) == 0 {
		return nil, "", nil, errors.New("the configuration has no issuers")
	}
	if name = c.flags.String("issuer"); name == "" {
		name = exported
	}
	issuer, ok := issuers[name]
	if !ok {
		return nil, "", nil, fmt.Errorf("there is no issuer %q in the configuration, expected --issuer with %s", name, directive.OneOf(slices.Sorted(maps.Keys(issuers))))
	}
	store, closeStore, err = issuer.openAlone(config.Storage)
	return store, name, closeStore, directive.At("issuer "+name, err)
}

// openAlone opens the store without the rest of the configuration.
func (s IssuerStore) openAlone(caddyStorage json.RawMessage) (storage.Store, func(), error) {
	if s.Module == "memory" {
		return nil, nil, errors.New("the memory store exists only in the process that uses it, so nothing can be imported into it")
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{StorageRaw: caddyStorage})
	if err != nil {
		return nil, nil, err
	}
	if files, ok := ctx.Storage().(*certmagic.FileStorage); ok && s.Module == "caddy" {
		if err := checkOwner(files.Path); err != nil {
			return nil, nil, err
		}
	}
	ctx, cancel := caddy.NewContext(ctx) // cancel cleans up its modules
	store, err := s.Open(ctx)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	return store, cancel, nil
}
