package storage

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
)

// makeDir makes a directory and what it takes of those above.
func (b *files) makeDir(dir string) error {
	err := b.disk.mkdir(dir)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := b.makeDir(above); err != nil {
			return err
		}
		err = b.disk.mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = b.disk.sync(filepath.Dir(dir))
	if errors.Is(err, fs.ErrPermission) && !strings.HasPrefix(dir, b.top+string(filepath.Separator)) {
		return nil // what is above the storage we need not be able to read
	}
	return err
}

// settle makes the names in a directory survive a power cut, and its own and those above.
func (b *files) settle(dir string) error {
	if err := b.settleAbove(dir); err != nil {
		return err
	}
	return b.disk.sync(dir)
}

// settleAbove does so once: it may be that who made a directory has not come to that.
func (b *files) settleAbove(dir string) error {
	above := filepath.Dir(dir)
	if dir == b.top || dir == above || b.settled.has(dir) {
		return nil
	}
	if err := b.settleAbove(above); err != nil {
		return err
	}
	if err := b.disk.sync(above); err != nil {
		return err
	}
	b.settled.add(dir)
	return nil
}

// settledDirs are directories whose names are known to survive a power cut.
type settledDirs struct {
	mu   sync.RWMutex
	dirs map[string]bool
}

func (s *settledDirs) has(dir string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.dirs[dir]
}

func (s *settledDirs) add(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const most = 1000 // every hour brings its own
	if s.dirs == nil || len(s.dirs) >= most {
		s.dirs = map[string]bool{}
	}
	s.dirs[dir] = true
}
