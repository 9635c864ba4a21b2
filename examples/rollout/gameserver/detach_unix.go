//go:build unix

package gameserver

import (
	"os/exec"
	"syscall"
)

// detach keeps an interrupt on the terminal from the process: updates that are
// under way while the worker drains need it.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
