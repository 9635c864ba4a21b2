//go:build !unix

package natsbus_test

import (
	"errors"
	"os"
)

var errNoFreezing = errors.New("this system has no signal that stops a process")

func freeze(*os.Process) error { return errNoFreezing }

func thaw(*os.Process) error { return errNoFreezing }
