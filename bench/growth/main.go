// Command growth shows what becomes of a store as families of tokens gather in it. From the module's root:
//
//	go run ./bench/growth -store file -dir /var/tmp
//	go run ./bench/growth -store redis -redis localhost:6379
//
// For each number of families it fills a place of its own, as the store itself would, and then measures all of them in
// turn: a refresh is what the server does for one, from the record to the record, synced where the store syncs, and
// without HTTP and signatures. It prints a table in Markdown. A million families on a disk take minutes to write and 4 GiB.
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

// options are what can be said on the command line.
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
	flags.StringVar(&o.redis, "redis", "localhost:6379", "the `address` of a Redis, which is filled, too")
	flags.StringVar(&o.dir, "dir", os.TempDir(), "a `directory` on the disk to measure")
	families := flags.String("families", "1000,100000,1000000", "how many families live, one `number` after the other")
	flags.DurationVar(&o.measure, "d", 5*time.Second, "how long each is measured in a round")
	flags.IntVar(&o.rounds, "rounds", 3, "how often each is measured; medians are printed")
	flags.DurationVar(&o.lifetime, "lifetime", 30*24*time.Hour, "how long families live; 0 is for ever")
	flags.BoolVar(&o.keep, "keep", false, "leave the files of the store where they are")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	for text := range strings.SplitSeq(*families, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < callers {
			return nil, fmt.Errorf("%q is no number of families of %d or more", text, callers)
		}
		o.families = append(o.families, n)
	}
	if flags.NArg() > 0 || o.rounds < 1 {
		return nil, errors.New("see growth -help for what can be said")
	}
	return o, nil
}

// run fills all places before it measures any, so that what else the machine does is the same to all.
func run(ctx context.Context, o *options) error {
	dir, err := os.MkdirTemp(o.dir, "growth-*")
	if err != nil {
		return err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "growth: the files are in", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }() // which takes a while
	}
	opened, err := openStores(o, dir)
	if err != nil {
		return err
	}
	defer opened.close()
	places := make([]*place, 0, len(o.families))
	for _, n := range o.families {
		p, err := newPlace(ctx, o, opened, dir, n)
		if err != nil {
			return fmt.Errorf("filling a store with %d families: %w", n, err)
		}
		places = append(places, p)
	}
	for round := range o.rounds {
		for _, p := range places {
			fmt.Fprintf(os.Stderr, "growth: round %d, %d families\n", round+1, p.n)
			if err := p.round(ctx, o.measure); err != nil {
				return fmt.Errorf("with %d families: %w", p.n, err)
			}
		}
	}
	for _, p := range places {
		if err := p.sweeps(ctx); err != nil {
			return fmt.Errorf("sweeping beside %d families: %w", p.n, err)
		}
	}
	fmt.Print(table(o, places))
	return nil
}
