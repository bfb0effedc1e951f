// Package proc measures processes, and starts them on one processor. It works on Linux only; elsewhere its functions return
// errors or nothing.
package proc

import "time"

// Usage is what a process uses.
type Usage struct {
	CPU    time.Duration // user and system time since its start
	Memory int64         // resident memory in bytes
	Own    int64         // the part of Memory that is not pages of files, such as those of the program
	Files  int           // open files
}
