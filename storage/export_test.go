package storage

import "github.com/caddyserver/certmagic"

// OpenReplacing opens a store on files that replaces them with every update, as on a file system over a network.
func OpenReplacing(dir string) Store {
	store := OpenCaddy(&certmagic.FileStorage{Path: dir}, "issuer").(*caddyStore)
	store.backend.(*files).replaces = func() bool { return true }
	return store
}
