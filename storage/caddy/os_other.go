//go:build !linux && !darwin && !freebsd

package caddystore

import "runtime"

// onNetwork is explained in os_linux.go. Windows makes a client give up its cache before another one writes. Of other systems we do
// not know.
func onNetwork(string) bool { return runtime.GOOS != "windows" }
