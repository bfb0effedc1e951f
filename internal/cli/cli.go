// Package cli has the commands of `caddy oauth …`. Most of them are clients of Caddy's admin API (package adminapi); see
// command.local for those that are not.
//
// Start reading at commandTree, which lists all of them.
package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/explain"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// IssuerStore is the store that an issuer has in a configuration that need not run.
type IssuerStore struct {
	Module string // the name of the store module
	Open   func(ctx caddy.Context) (storage.Store, error)
}

// IssuerStores returns the stores of the issuers of a configuration, by the names of the issuers. It gets the JSON of the apps.
type IssuerStores func(apps map[string]json.RawMessage) (map[string]IssuerStore, error)

// Settings returns the texts about the settings of the configuration.
type Settings func() (explain.Settings, error)

// Register registers the commands with Caddy.
func Register(stores IssuerStores, settings Settings) {
	commands := commandTree(stores, settings)
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "oauth",
		Usage: "<command>",
		Short: "Manages the oauth issuers, and explains what they refuse",
		Long:  oauthHelp,
		CobraFunc: func(cmd *cobra.Command) {
			addCommands(cmd, commands)
			makeGroup(cmd, commands)
		},
	})
}

const oauthHelp = `
Manages the issuers of a running Caddy: their clients, tokens, keys and records.

The commands are clients of Caddy's admin API. They use its default address,
--address, or the address in the configuration in --config. If there is more
than one issuer, name one with --issuer.

The output is for people; --json prints the response of the admin API.`

// command is a command of caddy oauth: one with a run function, or a group of others.
type command struct {
	name, args, short, long string

	sub   []command
	flags func(f caddycmd.Flags)
	run   func(c *invocation) error

	// complete returns the values that the argument may have. A command that has args takes exactly one; with [args], one or none; with
	// args..., one or more, which are one text.
	complete func(c *invocation) ([]string, error)

	local      bool // it needs no running Caddy
	printsJSON bool // it has --json although it is local
}

// invocation is a command as it was called.
type invocation struct {
	flags caddycmd.Flags
	arg   string
	in    io.Reader
	out   io.Writer
	notes io.Writer // standard error, for what is not the result
}

// exitStatus is an error that was shown already, with the exit status of the command.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// commandTree returns all commands.
func commandTree(stores IssuerStores, settings Settings) []command {
	return []command{
		{name: "clients", short: "Lists and changes clients", sub: []command{
			{name: "list", short: "Lists the clients", run: runClientsList},
			{name: "show", args: "<id>", short: "Shows a client", run: runClientsShow, complete: clientIDs},
			{
				name: "add", args: "<id>", short: "Adds a client and shows its secret, only once",
				long: clientsAddHelp, flags: clientsAddFlags, run: runClientsAdd,
			},
			{
				name: "change", args: "<id>", short: "Changes settings of a client that was added at run time",
				long: clientsChangeHelp, flags: clientFlags, run: runClientsChange, complete: clientIDs,
			},
			{
				name: "secret", args: "<id>", short: "Gives a client another secret and shows it, only once",
				flags: secretFlags, run: runClientsSecret, complete: clientIDs,
			},
			{
				name: "disable", args: "<id>", short: "Disables a client and revokes its tokens",
				run: runClientsDisable, complete: clientIDs,
			},
			{
				name: "enable", args: "<id>", short: "Enables a client again; its old tokens stay revoked",
				run: runClientsEnable, complete: clientIDs,
			},
			{
				name: "delete", args: "<id>", short: "Removes a client and revokes its tokens",
				run: runClientsDelete, complete: clientIDs,
			},
			{name: "described", short: "Lists the clients that describe themselves", run: runClientsDescribed},
			{
				name: "block", args: "<id|redirect host>", short: "Refuses clients that describe themselves", long: clientsBlockHelp,
				run: runClientsBlock,
			},
			{name: "unblock", args: "<id|redirect host>", short: "Ends block; old tokens stay revoked", run: runClientsUnblock},
		}},
		{name: "grants", args: "<user>", short: "Shows which clients have access to a user's account", run: runGrants},
		{name: "sessions", short: "Shows where users have signed in, and signs them out", sub: []command{
			{name: "list", args: "<user>", short: "Shows to which clients a user has signed in", run: runSessionsList},
			{
				name: "end", args: "<sid>", short: "Ends a session of the site: signs its user out of all clients", long: sessionsEndHelp,
				run: runSessionsEnd,
			},
		}},
		{name: "revoke", short: "Revokes tokens at once", long: revokeHelp, flags: revokeFlags, run: runRevoke},
		{name: "keys", short: "Lists and changes signing keys", sub: []command{
			{name: "list", short: "Lists the signing keys", run: runKeysList},
			{name: "rotate", short: "Makes a new signing key", long: rotateHelp, flags: rotateFlags, run: runKeysRotate},
			{
				name: "retire", args: "<kid>", short: "Removes a signing key at once; all tokens that it signed become invalid",
				long: retireHelp, run: runKeysRetire, complete: keyIDs,
			},
		}},
		{name: "stats", short: "Counts the requests since this Caddy loaded its configuration", run: runStats},
		{
			name: "hash-secret", short: "Prints the hash of a secret, for secret_hash", long: hashSecretHelp,
			flags: hashSecretFlags, run: runHashSecret, local: true,
		},
		{
			name: "export", short: "Exports all records, private keys included, to move or to back them up",
			long: exportHelp, flags: exportFlags, run: runExport,
		},
		{
			name: "import", short: "Imports exported records into the store of a configuration", long: importHelp,
			flags: importFlags, run: func(c *invocation) error { return runImport(c, stores) }, local: true,
		},
		{
			name: "encrypt", short: "Encrypts all records with the first key of encryption_key", long: encryptHelp,
			run: runEncrypt,
		},
		{name: "version", short: "Shows the versions of this module, Caddy and Go", run: runVersion, local: true, printsJSON: true},
		{name: "init", short: "Writes a Caddyfile: asks five questions, or takes flags", long: initHelp, flags: initFlags, run: runInit, local: true},
		{name: "check", short: "Checks the configuration and the running site", long: checkHelp, flags: checkFlags, run: runCheck, local: true},
		{
			name: "explain", args: "[<error id>]", short: "Explains an error, an error code or a setting", long: explainHelp,
			flags: explainFlags, run: runExplain, sub: []command{
				{
					name: "code", args: "<error>", short: "Explains an error code", long: explainCodeHelp, run: runExplainCode,
					complete: errorCodes, local: true, printsJSON: true,
				},
				{
					name: "setting", args: "<name>...", short: "Explains a setting", long: explainSettingHelp, local: true, printsJSON: true,
					run: func(c *invocation) error { return runExplainSetting(c, settings) },
				},
			},
		},
		{name: "watch", short: "Shows a login, step by step, while it happens", long: watchHelp, flags: watchFlags, run: runWatch},
		{name: "token", short: "Inspects tokens", sub: []command{
			{name: "inspect", short: "Shows the claims of an access token, and whether it is valid", long: inspectHelp, run: runTokenInspect},
		}},
	}
}

// addCommands adds the commands to a parent.
func addCommands(parent *cobra.Command, commands []command) {
	for _, c := range commands {
		cmd := &cobra.Command{Use: c.name, Short: c.short, Long: c.long}
		if c.args != "" {
			cmd.Use += " " + c.args
		}
		if cmd.Long == "" {
			cmd.Long = c.short + "."
		}
		addCommands(cmd, c.sub)
		if c.run != nil {
			makeRunnable(cmd, c)
		} else {
			makeGroup(cmd, c.sub)
		}
		parent.AddCommand(cmd)
	}
}

// makeGroup has a command that only groups others print its help, and fail with the name of a command that it does not have.
func makeGroup(cmd *cobra.Command, commands []command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		names := make([]string, 0, len(commands))
		for _, c := range commands {
			names = append(names, c.name)
		}
		if near, ok := directive.Nearest(args[0], names); ok {
			return fmt.Errorf("unknown command %q; did you mean: %s %s", args[0], cmd.CommandPath(), near)
		}
		return fmt.Errorf("unknown command %q, expected %s", args[0], directive.OneOf(names))
	}
}

func makeRunnable(cmd *cobra.Command, c command) {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	if !c.local {
		flags.FlagSet.String("issuer", "", "Name of the issuer (if there is more than one)")
		flags.FlagSet.String("address", "", "Address of the admin API (if --config is not used)")
		flags.StringP("config", "c", "", "Configuration file to find the admin API by (if --address is not used)")
		flags.StringP("adapter", "a", "", "Name of the config adapter to apply (if --config is used)")
	}
	if !c.local || c.printsJSON {
		flags.FlagSet.Bool("json", false, "Print JSON")
	}
	if c.flags != nil {
		c.flags(flags)
	}
	invoked := func(args []string) *invocation {
		i := &invocation{flags: flags, in: cmd.InOrStdin(), out: cmd.OutOrStdout(), notes: cmd.ErrOrStderr()}
		i.arg = strings.Join(args, " ")
		return i
	}
	switch {
	case c.args == "":
		cmd.Args = cobra.NoArgs
	case strings.HasPrefix(c.args, "["):
		cmd.Args = cobra.MaximumNArgs(1)
	case strings.HasSuffix(c.args, "..."):
		cmd.Args = cobra.MinimumNArgs(1)
	default:
		cmd.Args = cobra.ExactArgs(1)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := c.run(invoked(args))
		if exit, ok := errors.AsType[exitStatus](err); ok { // Caddy's own wrapper is the only way to another status than 1
			return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return int(exit), err })(cmd, args)
		}
		return err
	}
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if c.complete == nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := c.complete(invoked(nil))
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// hashPassword runs Caddy's own command for the hashes that are slow on purpose. It reads the secret from standard input or
// the terminal, as our commands do.
func hashPassword(algorithm string) error {
	cmd := new(cobra.Command)
	caddycmd.Commands()["hash-password"].CobraFunc(cmd)
	cmd.SetArgs([]string{"--algorithm", algorithm})
	return cmd.Execute()
}
