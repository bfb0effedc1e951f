package caddyoauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

const importHelp = `
Reads what "caddy oauth export" has written, from standard input or a file, and
writes it to the store that an issuer has in a configuration, encrypted if that
says so. No server need run; the store is opened by this command. Run it as the
user that Caddy runs as, with the same environment.

Records that the store has already are left alone, newer ones stay, and what was
revoked is never brought back. The command may be run again.

If the issuer was read_only during the export, the dump is final: the store then
holds these records and no others. Load the new configuration afterwards.`

func importFlags(f caddycmd.Flags) {
	f.FlagSet.String("issuer", "", "Name of the issuer (default: the one that was exported)")
	f.StringP("config", "c", "", "Configuration file whose store to write to (default: the Caddyfile here)")
	f.StringP("adapter", "a", "", "Name of the config adapter to apply")
	f.FlagSet.String("file", "", "File to read from (default: standard input)")
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
	store, name, closeStore, err := c.openStore(d.Header.Issuer)
	if err != nil {
		return err
	}
	defer closeStore()
	report, err := dump.Import(context.Background(), store, d.Records(), d.Header.ReadOnly)
	if err != nil {
		return fmt.Errorf("issuer %s: after %d records: %w", name, report.Records, err)
	}
	return c.print(report, func(w io.Writer) {
		row(w, fmt.Sprintf("Imported %d records into issuer %s: %d written, %d there already, %d newer there, %d expired, %d others removed.",
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
	file, err := os.Open(name) //nolint:gosec // G304: the user names it on the command line
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
func (c *invocation) openStore(exported string) (store storage.Store, name string, closeStore func(), err error) {
	text, _, _, err := caddycmd.LoadConfig(c.flags.String("config"), c.flags.String("adapter"))
	if err != nil {
		return nil, "", nil, err
	}
	if text == nil {
		return nil, "", nil, errors.New("expected --config with the configuration whose store to write to")
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
		return nil, "", nil, fmt.Errorf("there is no issuer %q in the configuration, expected --issuer with %s", name, directive.OneOf(slices.Sorted(maps.Keys(app.Issuers))))
	}
	store, closeStore, err = issuer.openAlone(name, config.Storage)
	return store, name, closeStore, err
}

// openAlone opens the store of an issuer without provisioning the rest of it.
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
		return nil, nil, fmt.Errorf("issuer %s: the memory store exists only in the process that uses it, so nothing can be imported into it", name)
	}
	if err := i.Encryption.resolve(caddy.NewReplacer()); err != nil {
		return nil, nil, directive.At("issuer "+name, directive.At("encryption_key", err))
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
	ctx, cancel := caddy.NewContext(ctx) // cancel cleans up its modules
	store, err := i.openStore(ctx, name)
	if err != nil {
		cancel()
		return nil, nil, directive.At("issuer "+name, err)
	}
	return store, cancel, nil
}
