package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

const module = "github.com/caddy-oauth/caddy-oauth"

// runVersion prints the versions that a report of a fault needs.
func runVersion(c *invocation) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this program does not know how it was built")
	}
	own := moduleVersion(info)
	caddyVersion, _ := caddy.Version()
	return c.print(map[string]string{"caddy-oauth": own, "caddy": caddyVersion, "go": info.GoVersion}, func(w io.Writer) {
		fmt.Fprintf(w, "caddy-oauth\t%s\ncaddy\t%s\ngo\t%s\n", own, caddyVersion, info.GoVersion)
	})
}

// moduleVersion returns the version of this module in a program. A program that was built in a clone has the commit instead.
func moduleVersion(info *debug.BuildInfo) string {
	if info.Main.Path == module {
		return withCommit(info)
	}
	for _, dep := range info.Deps {
		if dep.Path != module {
			continue
		}
		if dep.Replace != nil {
			return dep.Version + " => " + dep.Replace.Path + " " + dep.Replace.Version
		}
		return dep.Version
	}
	return "unknown"
}

func withCommit(info *debug.BuildInfo) string {
	parts := []string{info.Main.Version}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			parts = append(parts, setting.Value)
		case setting.Key == "vcs.modified" && setting.Value == "true":
			parts = append(parts, "with changes")
		}
	}
	return strings.Join(parts, " ")
}
