package storage

// Power returns what a store can do beyond what every [Store] can, as a [Sweeper] does, and false if it cannot. A store
// over another one, which has a method Unwrap that returns that one, can do what the other can.
func Power[T any](store Store) (power T, ok bool) {
	for {
		if power, ok = store.(T); ok {
			return power, true
		}
		over, ok := store.(interface{ Unwrap() Store })
		if !ok {
			return power, false
		}
		store = over.Unwrap()
	}
}
