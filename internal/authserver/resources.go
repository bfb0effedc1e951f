package authserver

import (
	"slices"
	"sync"
	"sync/atomic"
)

// resources are the resources of the guards of an issuer that are not in the audience of any of its clients. Safe for concurrent
// use; the zero value is ready for use.
type resources struct {
	mu   sync.Mutex
	list atomic.Pointer[[]string]
}

func (r *resources) all() []string {
	if list := r.list.Load(); list != nil {
		return *list
	}
	return nil
}

// AddResource lets clients request tokens for a resource by its name, unless they have an audience of their own.
func (s *core) AddResource(resource string) {
	r := &s.resources
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.all(); !slices.Contains(known, resource) {
		list := append(slices.Clone(known), resource)
		r.list.Store(&list)
	}
}
