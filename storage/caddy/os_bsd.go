//go:build darwin || freebsd

package caddystore

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// onNetwork is explained in os_linux.go.
func onNetwork(path string) bool {
	var stat unix.Statfs_t
	for unix.Statfs(path, &stat) != nil {
		above := filepath.Dir(path)
		if above == path {
			return true
		}
		path = above
	}
	return stat.Flags&unix.MNT_LOCAL == 0
}
