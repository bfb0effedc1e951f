//go:build !linux && !darwin && !freebsd

package caddystore

import "runtime"

// syncWrites is 0: files are opened without a sync flag, and each write is followed by a sync. On macOS, O_DSYNC would leave data in the
// cache of the disk.
const syncWrites = 0

// onNetwork is explained in os_linux.go. Windows makes a client give up its cache before another one writes. Of other systems we do
// not know.
func onNetwork(string) bool { return runtime.GOOS != "windows" }
