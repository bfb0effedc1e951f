//go:build unix

package main

import (
	"io/fs"
	"syscall"
)

// onDisk returns how much disk space a file takes, which is a number of blocks.
func onDisk(info fs.FileInfo) int64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		const unit = 512
		return stat.Blocks * unit
	}
	return info.Size()
}
