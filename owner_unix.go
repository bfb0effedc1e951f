//go:build unix

package caddyoauth

import (
	"fmt"
	"os"
	"syscall"
)

// checkOwner finds out before it does harm that a directory is another user's: the files that are written there now would
// be ones that Caddy cannot read. A directory that is not there yet is nobody's.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return nil //nolint:nilerr // whoever uses it will say what is wrong
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (uid %d), who could not read what this command writes: run it as that user", dir, stat.Uid)
	}
	return nil
}
