// Command bench measures what the endpoints and the guard cost in a real Caddy, under load and beside a static `respond` of
// the same program in the same run. From the module's root:
//
//	go run ./bench
//
// It builds cmd/caddy, runs it with Caddyfiles of its own on loopback, and prints a table in Markdown. Server and load have a
// processor each, where the system can do that; the figures to go by are the server's time for a request and the ratio to static,
// as absolute rates are the machine's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

func main() {
	if part, ok := parts[os.Getenv(partVariable)]; ok {
		exit(part())
		return
	}
	o, err := readOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	exit(err)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o, os.Stdout)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what can be said on the command line.
type options struct {
	rows        *regexp.Regexp
	rounds      int
	measure     time.Duration
	connections int
	pin         bool
	dir, out    string
	soak        time.Duration
	list        bool

	interval time.Duration // between the looks of a soak
	tokens   int           // different ones, where each is to be new to the server
	command  string
}

func readOptions(args []string) (*options, error) {
	o := &options{interval: 30 * time.Second, tokens: 40_000, command: "go run ./bench"}
	for _, arg := range args {
		if strings.ContainsFunc(arg, unsafe) {
			arg = "'" + arg + "'"
		}
		o.command += " " + arg
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rows := flags.String("rows", "", "which rows: a regular `expression` for their names; see -list")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each row is measured; medians are printed")
	flags.DurationVar(&o.measure, "d", 8*time.Second, "how long a row is measured")
	flags.IntVar(&o.connections, "c", 8, "connections, where a row does not say how many")
	flags.BoolVar(&o.pin, "pin", true, "a processor for the server and one for the load, where that is possible")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "a `directory` on the disk that the default store is measured on")
	flags.StringVar(&o.out, "out", "", "a `file` for the results, in Markdown, instead of the terminal")
	flags.DurationVar(&o.soak, "soak", 0, "load for that long instead, to see whether anything grows")
	flags.BoolVar(&o.list, "list", false, "print the names of the rows")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if o.rows, err = regexp.Compile(*rows); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 || o.rounds < 1 || o.measure <= 0 || o.connections < 1 {
		return nil, errors.New("expected only flags, and numbers above 0 for -rounds, -d and -c; see -help")
	}
	return o, nil
}

// unsafe reports whether a character means something to a shell.
func unsafe(r rune) bool { return strings.ContainsRune(" |()[]{}$*?^\\&;<>", r) }

// run measures, and writes the results to the file of the options or else to w.
func run(ctx context.Context, o *options, w io.Writer) error {
	if o.list {
		for _, r := range rows {
			fmt.Fprintf(w, "%-24s %s\n", r.name, r.work)
		}
		return nil
	}
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer b.close()
	measure := b.measureAll
	if o.soak > 0 {
		measure = b.soakAll
	}
	results, failure := measure(ctx)
	if results == "" {
		return failure
	}
	if o.out == "" {
		_, err = io.WriteString(w, results)
	} else {
		err = os.WriteFile(o.out, []byte(results), 0o644) //nolint:gosec // G306: for everybody to read
	}
	return errors.Join(failure, err)
}
