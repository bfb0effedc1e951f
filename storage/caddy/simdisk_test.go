package caddystore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"syscall"
)

var errPowerCut = errors.New("the power is off")

// simDisk simulates a disk that loses power or fails. Each unsynced sector and name survives or does not, independently.
type simDisk struct {
	root *simNode

	calls   int
	cutAt   int        // the call, counted from 1, in the middle of which the power goes; 0: none
	failAt  int        // the call that fails, after it has done its work or a part of it; 0: none
	pending []func()   // unsynced changes: calling one applies it to the disk
	owner   []*simNode // whose sync applies them
}

// simNode is a file or a directory, as it is in memory and as it is on the disk.
type simNode struct {
	names, diskNames map[string]*simNode // of a directory
	data, diskData   []byte              // of a file
}

func newSimDir() *simNode {
	return &simNode{names: map[string]*simNode{}, diskNames: map[string]*simNode{}}
}

func newSimDisk() *simDisk { return &simDisk{root: newSimDir()} }

// addPending records a change that a sync of owner, or chance, applies to the disk.
func (d *simDisk) addPending(owner *simNode, apply func()) {
	d.pending, d.owner = append(d.pending, apply), append(d.owner, owner)
}

func (d *simDisk) syncNode(node *simNode) {
	var pending []func()
	var owner []*simNode
	for i, apply := range d.pending {
		if d.owner[i] == node {
			apply()
			continue
		}
		pending, owner = append(pending, apply), append(owner, d.owner[i])
	}
	d.pending, d.owner = pending, owner
}

// step counts a call. Even if the power is cut or the call fails, work is done, unsynced.
func (d *simDisk) step(work func() error) error {
	if d.cutAt > 0 && d.calls >= d.cutAt {
		return errPowerCut
	}
	d.calls++
	if err := work(); err != nil {
		return err
	}
	switch d.calls {
	case d.cutAt:
		return errPowerCut
	case d.failAt:
		return syscall.EIO
	}
	return nil
}

// restart returns the disk after a power cut, with the pending changes that survive.
func (d *simDisk) restart(survives func(i int) bool) *simDisk {
	for i, apply := range d.pending {
		if survives(i) {
			apply()
		}
	}
	return &simDisk{root: d.root.fromDisk(map[*simNode]*simNode{})}
}

func (n *simNode) fromDisk(done map[*simNode]*simNode) *simNode {
	if again, ok := done[n]; ok {
		return again
	}
	fresh := &simNode{data: bytes.Clone(n.diskData), diskData: bytes.Clone(n.diskData)}
	done[n] = fresh
	if n.names != nil {
		fresh.names, fresh.diskNames = map[string]*simNode{}, map[string]*simNode{}
		for name, node := range n.diskNames {
			fresh.names[name] = node.fromDisk(done)
			fresh.diskNames[name] = fresh.names[name]
		}
	}
	return fresh
}

func (d *simDisk) find(name string) *simNode {
	if name == "." || name == string(filepath.Separator) {
		return d.root
	}
	parent := d.find(filepath.Dir(name))
	if parent == nil {
		return nil
	}
	return parent.names[filepath.Base(name)]
}

// set sets the node of a name, nil for none.
func (d *simDisk) set(name string, node *simNode) error {
	parent := d.find(filepath.Dir(name))
	if parent == nil {
		return fs.ErrNotExist
	}
	put := func(names map[string]*simNode) {
		if node == nil {
			delete(names, filepath.Base(name))
		} else {
			names[filepath.Base(name)] = node
		}
	}
	put(parent.names)
	d.addPending(parent, func() { put(parent.diskNames) })
	return nil
}

func (d *simDisk) make(name string, node *simNode) error {
	return d.step(func() error {
		if d.find(name) != nil {
			return fs.ErrExist
		}
		return d.set(name, node)
	})
}

func (d *simDisk) mkdir(name string) error { return d.make(name, newSimDir()) }

func (d *simDisk) create(name string) (file, error) {
	node := new(simNode)
	return &simFile{d, node}, d.make(name, node)
}

func (d *simDisk) open(name string, _ bool) (file, error) {
	node := d.find(name)
	return &simFile{d, node}, d.step(func() error {
		if node == nil {
			return fs.ErrNotExist
		}
		return nil
	})
}

func (d *simDisk) rename(from, to string) error {
	return d.step(func() error {
		node := d.find(from)
		if node == nil {
			return fs.ErrNotExist
		}
		if err := d.set(to, node); err != nil {
			return err
		}
		return d.set(from, nil)
	})
}

func (d *simDisk) remove(name string) error {
	return d.step(func() error {
		if d.find(name) == nil {
			return fs.ErrNotExist
		}
		return d.set(name, nil)
	})
}

func (d *simDisk) sync(dir string) error {
	node := d.find(dir)
	if node == nil {
		return fs.ErrNotExist
	}
	err := d.step(func() error { return nil })
	if err == nil {
		d.syncNode(node)
	}
	return err
}

func (d *simDisk) add(string, []byte) error { return errors.ErrUnsupported }

func (d *simDisk) list(string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) { yield(nil, errors.ErrUnsupported) }
}

type simFile struct {
	disk *simDisk
	node *simNode
}

func (f *simFile) ReadAt(data []byte, at int64) (int, error) {
	n := copy(data, f.node.data[min(int(at), len(f.node.data)):])
	if n < len(data) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) writeSynced(data []byte, at int64) error {
	err := f.disk.step(func() error {
		end := int(at) + len(data)
		f.node.data = append(f.node.data, make([]byte, max(0, end-len(f.node.data)))...)
		copy(f.node.data[at:], data)
		for from := int(at) / sector * sector; from < end; from += sector {
			part := bytes.Clone(f.node.data[from:min(from+sector, len(f.node.data))])
			f.disk.addPending(f.node, func() {
				f.node.diskData = append(f.node.diskData, make([]byte, max(0, from+len(part)-len(f.node.diskData)))...)
				copy(f.node.diskData[from:], part)
			})
		}
		return nil
	})
	if err == nil {
		f.disk.syncNode(f.node)
	}
	return err
}

func (f *simFile) size() (int64, error) { return int64(len(f.node.data)), nil }

func (f *simFile) close() {}

var _ disk = (*simDisk)(nil)
