package storage

import (
	"errors"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock of a file that it makes if need be, and returns nil if it must not wait and somebody else
// has it. It opens the file each time: a handle that is kept needs to be held against the name, or whoever deletes
// the folder makes two processes lock two files, and comparing takes as long as opening. flock.Flock does the same
// by way of an os.File and takes twice as long.
func lockFile(name string, wait bool) (unlock func() error, err error) {
	// For writing, since NFS makes of this lock one that needs it.
	f, err := openRaw(name, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	_, err = uninterrupted(func() (int, error) { return 0, unix.Flock(int(f.(rawFile)), how) })
	if err != nil {
		f.close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, err
	}
	return func() error { return unix.Close(int(f.(rawFile))) }, nil
}
