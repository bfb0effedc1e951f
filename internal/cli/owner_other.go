//go:build !unix

package cli

// checkOwner has nothing to check: files inherit from their directory who may read them.
func checkOwner(string) error { return nil }
