// Package proc asks the operating system about processes, and says where they run. What it can do elsewhere than on
// Linux is nothing, and then it says so.
package proc

import "time"

// Usage is what a process has used since it began, and what it holds.
type Usage struct {
	CPU    time.Duration // user and system
	Memory int64         // resident, in bytes
	Own    int64         // of that, what is no page of a file, such as the program's
	Files  int           // open
}
