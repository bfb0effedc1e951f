//go:build unix

package cli

import (
	"fmt"
	"os"
	"syscall"
)

// checkOwner returns an error if a directory belongs to another user: Caddy could not read the files that this command would
// write there. A directory that does not exist belongs to nobody.
func checkOwner(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return nil //nolint:nilerr // opening the store reports it
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to another user (uid %d), who could not read what this command writes: run it as that user", dir, stat.Uid)
	}
	return nil
}
