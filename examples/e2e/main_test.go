package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const root = "../.."

// The programs under test, built once, with the race detector if the tests have
// it.
var tideway, notify, rollout, lineServer string

func TestMain(m *testing.M) {
	if addr := os.Getenv(natsServerEnv); addr != "" {
		serveNATS(addr) // this process is the NATS server of a test
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	for _, need := range []string{"bash", "caddy", "/usr/bin/chromium", "curl", "git", "nats", "nginx", "node", "npm", python} {
		if _, err := exec.LookPath(need); err != nil {
			fmt.Fprintf(os.Stderr, "%v; .ci/run installs all that these tests need\n", err)
			return 1
		}
	}
	dir, err := os.MkdirTemp("", "tideway-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)

	for program, folder := range map[*string]string{&tideway: "./cmd/tideway", &notify: "./examples/notify", &rollout: "./examples/rollout", &lineServer: "./router/clientjs/test/server"} {
		*program = filepath.Join(dir, filepath.Base(folder))
		args := []string{"build", "-o", *program}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, folder)...)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n%s", build, err, out)
			return 1
		}
	}
	return m.Run()
}
