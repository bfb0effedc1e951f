package proc

import (
	"bytes"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	before, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	after := before
	for deadline := time.Now().Add(30 * time.Second); after.CPU <= before.CPU && time.Now().Before(deadline); {
		if after, err = Of(os.Getpid()); err != nil { // which takes processor time
			t.Fatal(err)
		}
	}
	if after.CPU <= before.CPU || after.Files <= before.Files || after.Memory < 1<<20 ||
		after.Own < 1<<20 || after.Own >= after.Memory {
		t.Errorf("%+v, and after work with a file open %+v", before, after)
	}
	if _, err := Of(-1); err == nil {
		t.Error("process -1: expected an error")
	}
}

// A process that Start starts stays on its processor, and this process keeps all of its own.
func TestStart(t *testing.T) {
	cores := Cores()
	for _, core := range cores {
		var status bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "cat", "/proc/self/status")
		cmd.Stdout = &status
		if err := Start(cmd, core); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(status.String(), "\nCpus_allowed_list:\t"+strconv.Itoa(core)+"\n") {
			t.Errorf("not only on processor %d: %s", core, &status)
		}
	}
	if after := Cores(); len(cores) == 0 || len(after) != len(cores) {
		t.Errorf("this process had %v and now has %v", cores, after)
	}
}

func TestFileSystem(t *testing.T) {
	if got := FileSystem("/proc"); got != "file system 0x9fa0" {
		t.Errorf("/proc is on %s", got)
	}
	if got := FileSystem("/nowhere"); got != "unknown" {
		t.Errorf("a missing directory is on %s", got)
	}
}
