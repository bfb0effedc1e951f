//go:build !linux && !darwin && !freebsd

package storage

import "runtime"

// onNetwork is explained in network_linux.go. Windows asks a client for what it has in memory before another one writes;
// of other systems we do not know.
func onNetwork(string) bool { return runtime.GOOS != "windows" }
