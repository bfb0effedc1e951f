package caddystore

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// syncWrites opens a file so that each write returns when the data is on the disk: one call instead of two.
const syncWrites = unix.O_DSYNC

// onNetwork reports whether other machines may change the files below a path. A network client checks the modification time of a
// file, which does not distinguish two updates in quick succession, so it may show old content; but it never takes a new file for
// an old one. FUSE may have anything behind it.
func onNetwork(path string) bool {
	var stat unix.Statfs_t
	for unix.Statfs(path, &stat) != nil {
		above := filepath.Dir(path)
		if above == path {
			return true
		}
		path = above
	}
	const lustre, gfs2 = 0x0bd00bd0, 0x01161970
	switch uint32(stat.Type) { // #nosec G115 -- the numbers have 32 bits, whatever the type
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.V9FS_MAGIC, unix.FUSE_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC, lustre, gfs2:
		return true
	}
	return false
}
