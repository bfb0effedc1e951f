//go:build !linux && !darwin && !freebsd

package storage

import "runtime"

// syncWrites is 0: a write is followed by a sync. On macOS, O_DSYNC would leave data in the cache of the disk.
const syncWrites = 0

// onNetwork is explained in os_linux.go. Windows asks a client for what it has in memory before another one writes;
// of other systems we do not know.
func onNetwork(string) bool { return runtime.GOOS != "windows" }
