package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
)

// versions are the modules whose versions can change the results.
var versions = []string{
	"github.com/caddyserver/caddy/v2", "github.com/caddyserver/certmagic", "github.com/lestrrat-go/jwx/v2",
	"github.com/redis/go-redis/v9", "github.com/prometheus/client_golang", "go.uber.org/zap",
}

// head writes when, on which machine, and with which versions and options the results were measured.
func (b *bench) head(w *strings.Builder) {
	w.WriteString("# Results of the benchmarks\n\nMeasured by\n\n    " + b.command + "\n\n")
	fmt.Fprintf(w, "on %s. All requests are on loopback, with HTTP/1.1, and one at a time on each connection.\n\n", time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintf(w, "- Machine: %s, %d processors, %s of memory, %s; the store's files on %s.\n",
		cmp.Or(cpuModel(), runtime.GOARCH), runtime.NumCPU(), cmp.Or(memoryTotal(), "unknown size"), kernel(), proc.FileSystem(b.dir))
	fmt.Fprintf(w, "- %s for %s/%s, this module at %s.\n", b.caddy.Info.GoVersion, runtime.GOOS, runtime.GOARCH, b.revision())
	fmt.Fprintf(w, "- Modules: %s.\n", strings.Join(b.modules(), ", "))
	if b.redis != nil {
		fmt.Fprintf(w, "- %s, without a processor of its own.\n", redisVersion())
	}
	where := "Server and load share all processors."
	if b.serverCore >= 0 {
		where = "The server has one processor to itself, with `GOMAXPROCS=1`, and the load another."
	}
	fmt.Fprintf(w, "- %s There are %d connections, unless a row says otherwise.\n", where, b.connections)
	w.WriteString("- Every setting has its default, except the ones that a row names, and the log, which has errors only.\n")
}

// method writes how the rows were measured.
func (b *bench) method(w *strings.Builder) {
	fmt.Fprintf(w, "- Medians of %d runs of %v each, after a warm-up of %v.\n", b.rounds, b.measure, b.warm())
	w.WriteString("- Before and after each row, static is measured, a `respond` of the same program; the ratio is to the mean of both. " +
		"CPU is the user and system time of the server for each request. Allocations are those of the whole process.\n")
	if b.rounds < 3 || b.measure < 5*time.Second {
		w.WriteString("\n**These runs were short:** they show that everything works, but not how fast it is.\n")
	}
}

func (b *bench) modules() (modules []string) {
	for _, path := range versions {
		if version := b.caddy.Version(path); version != "" {
			modules = append(modules, "`"+path+"` "+version)
		}
	}
	return modules
}

// revision returns the commit that the program was built from.
func (b *bench) revision() string {
	revision, changed := b.caddy.Setting("vcs.revision"), b.caddy.Setting("vcs.modified") == "true"
	if revision == "" { // with -buildvcs=false
		revision, changed = git("rev-parse", "HEAD"), git("status", "--porcelain") != ""
	}
	if revision == "" {
		return "an unknown commit"
	}
	revision = "commit " + revision[:min(len(revision), 12)]
	if changed {
		revision += " with changes"
	}
	return revision
}

// git returns the output of a Git command, "" if it fails.
func git(args ...string) string {
	output, err := exec.Command("git", args...).Output() //nolint:gosec,noctx // constants; it ends at once
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(output))
}

// field returns the value of the first line of a file in /proc that begins with a name, "" if there is none.
func field(file, name string) string {
	text, err := os.ReadFile(file) //nolint:gosec // G304: constants
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) {
		if key, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func cpuModel() string { return field("/proc/cpuinfo", "model name") }

func memoryTotal() string {
	var kilobytes int64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%d kB", &kilobytes); err != nil {
		return ""
	}
	return fmt.Sprintf("%.0f GB", float64(kilobytes)/(1<<20))
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + strings.TrimSpace(string(release))
}

func redisVersion() string {
	output, err := exec.Command(redisProgram, "--version").Output() //nolint:noctx // it ends at once
	if err != nil {
		return redisProgram
	}
	for word := range strings.FieldsSeq(string(output)) {
		if version, ok := strings.CutPrefix(word, "v="); ok {
			return "Redis " + version
		}
	}
	return redisProgram
}
