//go:build !unix

package storetest

import (
	"errors"
	"os"
)

const canStop = false

func stop(*os.Process) error { return errors.ErrUnsupported }
