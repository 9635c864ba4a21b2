package e2e

import (
	"testing"

	"github.com/tideway-go/tideway/router"
)

// python is Debian's, which has the websockets library; another one may be
// first in PATH.
const python = "/usr/bin/python3"

// A client that others wrote agrees with ours about the protocol.
func TestPythonWebsockets(t *testing.T) {
	s := startSite(t, router.Limits{})
	got := command(t, "testdata", "", python, "client.py", s.socketURL(""))
	want := `same
same
same
same
same
same
same
in three fragments
pong
closed 1000
consumer 4009 as you asked
not UTF-8 1007 a text message is not UTF-8
too big 1009 a message may have 65536 bytes, this one has 65537 or more
refused 404
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
