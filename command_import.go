package caddyoauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

const importHelp = `
Reads what "caddy oauth export" has written, from standard input or a file, and
writes it to the store that an issuer has in a configuration, encrypted if that
says so. No server need run; the store is opened by this command. Run it as the
user that Caddy runs as, with the same environment.

What the store has already is passed over, what it has that is newer stays, and
what was revoked is never brought back. It may be run again.

If writes are held up where the dump comes from ("caddy oauth export --freeze"),
the dump is final: the store then holds it and nothing else. The command fails
if that time is over before it is done.`

func importFlags(f caddycmd.Flags) {
	f.FlagSet.String("issuer", "", "Name of the issuer (default: the one that was exported)")
	f.StringP("config", "c", "", "Configuration file whose store to write to (default: the Caddyfile here)")
	f.StringP("adapter", "a", "", "Name of the config adapter to apply")
	f.FlagSet.String("file", "", "File to read from (default: standard input)")
	f.FlagSet.Bool("backup", false, "Also take a dump that was made with --freeze, when that time is over")
	f.FlagSet.Bool("json", false, "Print JSON")
}

func runImport(c *invocation) error {
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
	ctx, cancel, err := finalContext(d.Header, c.flags.Bool("backup"))
	if err != nil {
		return err
	}
	defer cancel()
	until, final := ctx.Deadline()

	store, name, closeStore, err := c.openStore(d.Header.Issuer)
	if err != nil {
		return err
	}
	defer closeStore()
	report, err := dump.Import(ctx, store, d.Records(), final)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("the time for which writes were held up is over: export again, with a longer --freeze")
	}
	if err != nil {
		return fmt.Errorf("issuer %s: after %d records: %w", name, report.Records, err)
	}
	return c.print(report, func(w io.Writer) {
		row(w, fmt.Sprintf("Imported %d records into issuer %s: %d written, %d there already, %d newer there, %d expired, %d others removed.",
			report.Records, name, report.Written, report.Same, report.Kept, report.Expired, report.Removed))
		if final {
			row(w, fmt.Sprintf("Writes are held up for another %d seconds: load the new configuration now.",
				int(time.Until(until).Seconds())))
		}
	})
}

// finalContext returns a context that ends when writes are no longer held up where a dump comes from, if they are.
func finalContext(header dump.Header, backup bool) (context.Context, context.CancelFunc, error) {
	ctx, left := context.Background(), time.Until(header.Frozen)
	switch {
	case header.Frozen.IsZero(), backup && left <= 0:
		return ctx, func() {}, nil
	case left <= 0:
		return nil, nil, fmt.Errorf("writes were held up until %s, and what has changed since is not in the dump: "+
			"export again, or take it for a backup with --backup", header.Frozen.Local().Format(time.DateTime))
	}
	// By the clock that is ahead: that of the server may be another.
	ctx, cancel := context.WithTimeout(ctx, min(left, header.Frozen.Sub(header.Time)))
	return ctx, cancel, nil
}

// openDump opens what is to be read. A file is read to its end first, so that one that is no whole dump changes nothing.
func (c *invocation) openDump() (io.Reader, error) {
	name := c.flags.String("file")
	if name == "" {
		if c.flags.String("config") == "-" {
			return nil, errors.New("expected --file: standard input is the configuration")
		}
		return c.in, nil
	}
	file, err := os.Open(name) //nolint:gosec // G304: the user names it on the command line
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return file, err // what is no file can be read once
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

// openStore opens the store that an issuer has in the configuration: the one that is named on the command line, or the
// one that was exported.
func (c *invocation) openStore(exported string) (store storage.Store, name string, closeStore func(), err error) {
	text, _, _, err := caddycmd.LoadConfig(c.flags.String("config"), c.flags.String("adapter"))
	if err != nil {
		return nil, "", nil, err
	}
	if text == nil {
		return nil, "", nil, errors.New("expected --config with the configuration whose store is to be written to")
	}
	var config struct {
		Storage json.RawMessage `json:"storage"`
		Apps    struct {
			OAuth json.RawMessage `json:"oauth"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(caddy.RemoveMetaFields(text), &config); err != nil {
		return nil, "", nil, err
	}
	app := new(App)
	if config.Apps.OAuth == nil {
		return nil, "", nil, errors.New("the configuration has no issuers")
	}
	if err := caddy.StrictUnmarshalJSON(config.Apps.OAuth, app); err != nil {
		return nil, "", nil, err
	}
	if name = c.flags.String("issuer"); name == "" {
		name = exported
	}
	issuer := app.Issuers[name]
	if issuer == nil {
		return nil, "", nil, fmt.Errorf("there is no issuer %q in the configuration, expected --issuer with %s", name, oneOf(sortedKeys(app.Issuers)))
	}
	store, closeStore, err = issuer.openAlone(name, config.Storage)
	return store, name, closeStore, err
}

// openAlone opens the store of an issuer of which nothing else is there.
func (i *Issuer) openAlone(name string, caddyStorage json.RawMessage) (storage.Store, func(), error) {
	module := struct {
		Store string `json:"store"`
	}{"caddy"}
	if i.StoreRaw != nil {
		if err := json.Unmarshal(i.StoreRaw, &module); err != nil {
			return nil, nil, err
		}
	}
	if module.Store == "memory" {
		return nil, nil, fmt.Errorf("issuer %s: the memory store is in the memory of the process that uses it: there is nothing to import to", name)
	}
	if err := i.Encryption.resolve(caddy.NewReplacer(), "issuer "+name); err != nil {
		return nil, nil, err
	}
	ctx, err := caddy.ProvisionContext(&caddy.Config{StorageRaw: caddyStorage})
	if err != nil {
		return nil, nil, err
	}
	if files, ok := ctx.Storage().(*certmagic.FileStorage); ok && module.Store == "caddy" {
		if err := checkOwner(files.Path); err != nil {
			return nil, nil, err
		}
	}
	ctx, cancel := caddy.NewContext(ctx) // whose modules are cleaned up by it
	store, err := i.openStore(ctx, name)
	if err != nil {
		cancel()
		return nil, nil, fmt.Errorf("issuer %s: %w", name, err)
	}
	return store, cancel, nil
}
