// Command bench measures what the endpoints and the guard cost in a real Caddy under load, compared with a static `respond` of
// the same program in the same run. From the module's root:
//
//	go run ./bench
//
// It builds cmd/caddy, runs it with Caddyfiles of its own on loopback, and prints a table in Markdown. Where the system allows it,
// server and load have a processor each. Absolute rates depend on the machine: compare the server's time for a request, and the
// ratio to static.
//
// Start reading at [bench.measureAll]. rows.go lists what is measured; the packages below internal are the load, the server, and
// the figures of the operating system.
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

	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
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

// options are the flags of the command line.
type options struct {
	rows        *regexp.Regexp
	rounds      int
	measure     time.Duration
	connections int
	pin         bool
	dir, out    string
	soak        time.Duration
	list        bool

	interval time.Duration // between the samples of a soak
	tokens   int           // how many different ones a row uses if each must be new to the server
	starts   int           // how many times a round starts each server
	build    func(ctx context.Context, dir, name string) (*site.Program, error)
	command  string
}

func readOptions(args []string) (*options, error) {
	o := &options{interval: 30 * time.Second, tokens: 40_000, starts: 3, build: site.Build, command: "go run ./bench"}
	for _, arg := range args {
		if strings.ContainsFunc(arg, unsafe) {
			arg = "'" + arg + "'"
		}
		o.command += " " + arg
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rows := flags.String("rows", "", "measure only rows whose name matches a regular `expression`; see -list")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each row is measured; medians are printed")
	flags.DurationVar(&o.measure, "d", 8*time.Second, "how long a row is measured")
	flags.IntVar(&o.connections, "c", 8, "how many connections, if the row does not say")
	flags.BoolVar(&o.pin, "pin", true, "give the server and the load a processor each, if possible")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "a `directory` on the disk to measure the default store on")
	flags.StringVar(&o.out, "out", "", "write the results to a `file`, in Markdown")
	flags.DurationVar(&o.soak, "soak", 0, "instead, load one server for this long, and show whether anything grows")
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

// unsafe reports whether a character has a meaning in a shell.
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
		err = os.WriteFile(o.out, []byte(results), 0o644) //nolint:gosec // G306: everybody may read the results
	}
	return errors.Join(failure, err)
}
