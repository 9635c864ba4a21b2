package e2e

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsServerEnv makes the test binary a NATS server: its value is the address.
const natsServerEnv = "TIDEWAY_E2E_NATS_SERVER"

// serveNATS is a process's life as a NATS server. It ends by being killed.
func serveNATS(addr string) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	n, _ := strconv.Atoi(port)
	s, err := server.NewServer(&server.Options{
		Host: host, Port: n, NoSigs: true,
		JetStream: true, StoreDir: os.Getenv(natsServerEnv + "_STORE"),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	s.Start()
	s.WaitForShutdown()
}

// startNATS runs a NATS server in a process of its own, so that it can be
// killed, and returns once it takes connections.
func startNATS(t *testing.T, addr, store string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "", []string{natsServerEnv + "=" + addr, natsServerEnv + "_STORE=" + store}, self)
	waitForPort(t, p, addr)
	return p
}

// waitForPort returns once something takes connections at addr.
func waitForPort(t *testing.T, p *process, addr string) {
	t.Helper()
	eventually(t, 20*time.Second, addr+" takes connections", func() bool {
		p.alive()
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}
