//go:build !unix

package gameserver

import "os/exec"

func detach(*exec.Cmd) {}
