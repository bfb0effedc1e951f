package authserver

import (
	"maps"
	"sync/atomic"
)

// growing is a map that is read all the time and to which little is ever added: what is there is found without a lock,
// and an addition replaces the whole map.
type growing[K comparable, V any] struct{ now atomic.Pointer[map[K]V] }

// of returns the value of a key, which is made on first need. Of values made at once only one is kept.
func (g *growing[K, V]) of(key K, create func(K) V) V {
	now := g.now.Load()
	if now != nil {
		if value, ok := (*now)[key]; ok {
			return value
		}
	}
	value := create(key)
	for {
		next := map[K]V{key: value}
		if now != nil {
			if made, ok := (*now)[key]; ok {
				return made
			}
			maps.Copy(next, *now)
		}
		if g.now.CompareAndSwap(now, &next) {
			return value
		}
		now = g.now.Load()
	}
}

// all returns what is there now, which nobody may change.
func (g *growing[K, V]) all() map[K]V {
	if now := g.now.Load(); now != nil {
		return *now
	}
	return nil
}
