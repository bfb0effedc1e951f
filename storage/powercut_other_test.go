//go:build !linux

package storage_test

// powerUser is explained in powercut_linux_test.go.
func powerUser() {}
