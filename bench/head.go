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

// versions are the modules whose versions matter to what is measured.
var versions = []string{
	"github.com/caddyserver/caddy/v2", "github.com/caddyserver/certmagic", "github.com/lestrrat-go/jwx/v2",
	"github.com/redis/go-redis/v9", "github.com/prometheus/client_golang", "go.uber.org/zap",
}

// head writes on what, with what and how the results were found.
func (b *bench) head(w *strings.Builder) {
	w.WriteString("# Results of the benchmarks\n\nFound by\n\n    " + b.command + "\n\n")
	fmt.Fprintf(w, "on %s. Everything is on loopback, HTTP/1.1, and one connection has one request at a time.\n\n", time.Now().UTC().Format(time.DateOnly))
	fmt.Fprintf(w, "- Machine: %s, %d processors, %s of memory, %s; the store's files on %s.\n",
		cmp.Or(cpuModel(), runtime.GOARCH), runtime.NumCPU(), cmp.Or(memoryTotal(), "unknown size"), kernel(), proc.FileSystem(b.dir))
	fmt.Fprintf(w, "- %s for %s/%s, this module at %s.\n", b.caddy.Info.GoVersion, runtime.GOOS, runtime.GOARCH, b.revision())
	fmt.Fprintf(w, "- Modules: %s.\n", strings.Join(b.modules(), ", "))
	if b.redis != nil {
		fmt.Fprintf(w, "- %s; it has no processor of its own.\n", redisVersion())
	}
	where := "Server and load have whichever processors there are."
	if b.serverCore >= 0 {
		where = "The server has one processor for itself, with `GOMAXPROCS=1`, and the load another."
	}
	fmt.Fprintf(w, "- %s %d connections, where nothing else is said.\n", where, b.connections)
	w.WriteString("- Every setting is at its default, but for what is named, and the log, which takes errors only, everywhere.\n")
}

// method writes how the rows were measured.
func (b *bench) method(w *strings.Builder) {
	fmt.Fprintf(w, "- Medians of %d runs of %v each, after %v that do not count.\n", b.rounds, b.measure, b.warm())
	w.WriteString("- Each row stands between two measurements of static, which is a `respond` of the same program, and the ratio is to their " +
		"mean. CPU is the server's, user and system, for each request; allocations are all that the process makes.\n")
	if b.rounds < 3 || b.measure < 5*time.Second {
		w.WriteString("\n**These runs were short:** they show that everything works, and little of how fast it is.\n")
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
	if revision == "" { // a build may be told not to ask Git
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

// git returns what Git says, "" if that is nothing.
func git(args ...string) string {
	output, err := exec.Command("git", args...).Output() //nolint:gosec,noctx // constants; it ends at once
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(output))
}

// field returns the value of the first line of a file in /proc that begins with a name, "" where there is none.
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
