package storage

import "time"

// Timeout implements [Slow]. A change under the locks of a storage is four round trips, of which each may be to
// another continent, and the locks are found free by looking again and again.
func (s *caddyStore) Timeout() time.Duration {
	if _, onDisk := s.backend.(*files); onDisk {
		return 5 * time.Second
	}
	return 15 * time.Second
}

var _ Slow = (*caddyStore)(nil)
