//go:build !linux

package caddystore

// powerUser is explained in powercut_linux_test.go.
func powerUser() {}
