package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The program runs with few families on the stores that need no server.
func TestGrowth(t *testing.T) {
	for _, store := range []string{"file", "memory"} {
		o, err := readOptions([]string{"-store", store, "-dir", t.TempDir(), "-families", "16,200", "-d", "50ms", "-rounds", "1"})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		opened, err := openStores(o, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.close()
		var filled []*filledStore
		for _, n := range o.families {
			p, err := fillStore(t.Context(), o, opened, dir, n)
			if err != nil {
				t.Fatal(err)
			}
			defer p.tokens.Close()
			if err := p.round(t.Context(), o.measure); err != nil {
				t.Fatal(err)
			}
			if err := p.sweeps(t.Context()); err != nil {
				t.Fatal(err)
			}
			records, err := filepath.Glob(filepath.Join(dir, "storage", "oauth", p.name, "family", "*", "*"))
			if err != nil || store == "file" && len(records) != n {
				t.Errorf("after the sweeps there are %d records of %d families, error %v", len(records), n, err)
			}
			if r := p.rounds[0]; r.one.rate <= 0 || r.many.rate <= 0 || r.one.p50 <= 0 || r.many.p99 < r.many.p50 {
				t.Errorf("%s, %d families: %+v", store, n, r)
			}
			if len(p.swept) != 2 || p.swept[0].took <= 0 || p.swept[1].during.rate < 0 {
				t.Errorf("%s, %d families: %+v", store, n, p.swept)
			}
			filled = append(filled, p)
		}
		if store == "file" && (filled[1].files < 1 || filled[1].files > 1.1 || filled[1].bytes < 1000) {
			t.Errorf("a family takes %.2f files and %.0f bytes", filled[1].files, filled[1].bytes)
		}
		if text := table(o, filled); strings.Count(text, "\n|") != 4 || !strings.Contains(text, "| 200 |") {
			t.Errorf("the table is\n%s", text)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, args := range []string{"-families x", "-families 3", "-rounds 0", "more", "-store paper"} {
		o, err := readOptions(strings.Fields(args))
		if err == nil {
			_, err = openStores(o, t.TempDir())
		}
		if err == nil {
			t.Errorf("%s: expected an error", args)
		}
	}
	o, err := readOptions(nil)
	if err != nil || len(o.families) != 3 || o.lifetime != 30*24*time.Hour {
		t.Errorf("without flags: %+v, error %v", o, err)
	}
}
