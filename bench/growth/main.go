// Command growth measures how the speed of a store depends on the number of families in it. From the module's root:
//
//	go run ./bench/growth -store file -dir /var/tmp
//	go run ./bench/growth -store redis -redis localhost:6379
//
// For each number of families, it fills a store, and then measures all stores in turn. It refreshes families as the server does:
// it reads the record and writes the next one, synced if the store syncs, but without HTTP and signatures. It prints a table in
// Markdown. Writing a million families to a disk takes minutes and 4 GiB.
//
// Start reading at [run].
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	o, err := readOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	exit(err)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		os.Exit(1)
	}
}

// options are the flags of the command line.
type options struct {
	store, redis, dir string
	families          []int
	measure           time.Duration
	rounds            int
	lifetime          time.Duration
	keep              bool
}

func readOptions(args []string) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("growth", flag.ContinueOnError)
	flags.StringVar(&o.store, "store", "file", "which store: file, redis or memory")
	flags.StringVar(&o.redis, "redis", "localhost:6379", "the `address` of a Redis, which growth fills with records")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "a `directory` on the disk to measure")
	families := flags.String("families", "1000,100000,1000000", "the `numbers` of families to measure with")
	flags.DurationVar(&o.measure, "d", 5*time.Second, "how long to measure each number in a round")
	flags.IntVar(&o.rounds, "rounds", 3, "how many rounds to take the medians of")
	flags.DurationVar(&o.lifetime, "lifetime", 30*24*time.Hour, "how long families live; 0 is for ever")
	flags.BoolVar(&o.keep, "keep", false, "keep the files of the store")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	for text := range strings.SplitSeq(*families, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < callers {
			return nil, fmt.Errorf("expected numbers of families from %d, not %q", callers, text)
		}
		o.families = append(o.families, n)
	}
	if flags.NArg() > 0 || o.rounds < 1 {
		return nil, errors.New("expected only flags, and a number of rounds above 0; see growth -help")
	}
	return o, nil
}

// run fills all stores before it measures any, so that other work on the machine affects all of them alike.
func run(ctx context.Context, o *options) error {
	dir, err := os.MkdirTemp(o.dir, "growth-*")
	if err != nil {
		return err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "growth: the files are in", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }() // this takes a while
	}
	opened, err := openStores(o, dir)
	if err != nil {
		return err
	}
	defer opened.close()
	filled := make([]*filledStore, 0, len(o.families))
	for _, n := range o.families {
		p, err := fillStore(ctx, o, opened, dir, n)
		if err != nil {
			return fmt.Errorf("filling a store with %d families: %w", n, err)
		}
		filled = append(filled, p)
	}
	for round := range o.rounds {
		for _, p := range filled {
			fmt.Fprintf(os.Stderr, "growth: round %d, %d families\n", round+1, p.n)
			if err := p.round(ctx, o.measure); err != nil {
				return fmt.Errorf("with %d families: %w", p.n, err)
			}
		}
	}
	for _, p := range filled {
		if err := p.sweeps(ctx); err != nil {
			return fmt.Errorf("sweeping beside %d families: %w", p.n, err)
		}
	}
	fmt.Print(table(o, filled))
	return nil
}
