// Package site runs Caddy as a process of its own, for a measurement. Start reading at [Start].
package site

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Program is an executable file.
type Program struct {
	Path string
	Info *buildinfo.BuildInfo
}

const module = "github.com/caddy-oauth/caddy-oauth"

// Build builds a program of this module into a directory.
func Build(ctx context.Context, dir, name string) (*Program, error) {
	path := filepath.Join(dir, strings.ReplaceAll(name, "/", "-")+".exe")         // Windows needs the suffix
	build := exec.CommandContext(ctx, "go", "build", "-o", path, module+"/"+name) //nolint:gosec // G204: a package of ours
	output, err := build.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%v: %w\n%s", build.Args, err, output)
	}
	return Open(path)
}

// Open returns a program that was built before.
func Open(path string) (*Program, error) {
	info, err := buildinfo.ReadFile(path)
	return &Program{path, info}, err
}

// Version returns the version of a module in the program, "" if the program does not contain it.
func (p *Program) Version(path string) string {
	for _, dep := range p.Info.Deps {
		if dep.Path == path {
			return dep.Version
		}
	}
	return ""
}

// Setting returns a setting of the build, or "".
func (p *Program) Setting(key string) string {
	for _, setting := range p.Info.Settings {
		if setting.Key == key {
			return setting.Value
		}
	}
	return ""
}
