package main

import (
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/tideway-go/tideway/examples/notify/inbox"
	"github.com/tideway-go/tideway/examples/rollout/fleet"
	"github.com/tideway-go/tideway/examples/terminal"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// greeting is what the terminal and the page at the root say of the demo.
type greeting struct {
	Host     string             // of the site, with its port
	Tideway  string             // the command that runs this program
	Flags    string             // by which it finds the NATS server, with a space before
	Alone    bool               // no other program reaches the NATS server
	Clone    bool               // the program was built from a clone, whose scripts are there
	Commands []terminal.Command // which push into a group
	Keeps    bool               // there are rollouts, inboxes and jobs

	key   string       // of the HTTP door, "" when somebody chose it
	users []fleet.User // made up, so that they have to be told
}

// greeting says what there is at addr, and how to push into it.
func (d *demo) greeting(addr net.Addr, bus *natsbus.Bus) *greeting {
	g := &greeting{Host: d.pageHost(addr), Tideway: "tideway"}
	if d.freshKey {
		g.key = d.apiKey
	}
	g.Clone = readBuild().checkout()
	if g.Clone {
		g.Tideway = "go run ./cmd/tideway"
	}
	nats, prefix := d.server.nats, "channels"
	if bus.ClientURL() != "" {
		nats = bus.ClientURL()
	} else if nats == "" {
		g.Alone = true
	}
	if nats != defaultNATS && nats != "" {
		g.Flags = " --nats " + withoutSecrets(nats)
	}
	if p := d.server.prefix; p != "" && p != prefix {
		g.Flags, prefix = g.Flags+" --prefix "+p, p
	}
	if !g.Alone {
		g.Commands = append(g.Commands, terminal.Command{Tool: "tideway", Line: g.Tideway + " send {group}" + g.Flags + " {message}"})
	}
	if own := strings.TrimPrefix(bus.ClientURL(), "nats://"); own != "" && g.Clone && prefix == "channels" {
		g.Commands = append(g.Commands, scripts(own)...)
	}
	g.Commands = append(g.Commands, terminal.Command{
		Tool: "curl", Line: `curl -H "X-API-Key: $TIDEWAY_API_KEY" --json {message} http://` + g.Host + "/api/v1/groups/{group}/messages",
	})
	return g
}

// scripts are the commands of those that are in the clone.
func scripts(nats string) []terminal.Command {
	python, bash := "", ""
	if nats != defaultNATSAddr {
		python, bash = "--addr "+nats+" ", "NATS_ADDR="+nats+" "
	}
	return []terminal.Command{
		{Tool: "Python", Line: "python3 examples/push/push.py " + python + "{group} {message}"},
		{Tool: "bash", Line: bash + "bash examples/push/push.sh {group} {message}"},
	}
}

// Printed reports whether the terminal has the passwords of who may log in.
func (g *greeting) Printed() bool { return g.users != nil }

// Push is the first command, to the chat.
func (g *greeting) Push() string {
	return g.Commands[0].For("chat.lobby", `{"type":"chat.message","user":"`+g.Commands[0].Tool+`","text":"hello"}`)
}

// Notify is the command that tells ann something.
func (g *greeting) Notify() string {
	return g.Commands[0].For("notify.ann", `{"type":"notify.message","text":"hello ann"}`)
}

// Worker is the command that works on jobs of the kind backup, in a clone.
func (g *greeting) Worker() string {
	line := "bash examples/curlworker/worker.sh backup"
	if g.Host != defaultAddr {
		line = "SITE=http://" + g.Host + " " + line
	}
	return line
}

// command returns the line that a tool pushes a message with.
func (g *greeting) command(tool, group, message string) string {
	for _, c := range g.Commands {
		if c.Tool == tool {
			return c.For(group, message)
		}
	}
	return ""
}

// print says it in the terminal.
func (g *greeting) print(out io.Writer) {
	say := func(format string, a ...any) { fmt.Fprintf(out, format+"\n", a...) }
	say("Open http://%s/ in a browser:\n", g.Host)
	say("    /chat/     a chat; open it in two windows")
	if g.Keeps {
		say("    %s  forty simulated game servers are updated, and everybody watches", fleet.Path)
		for _, who := range g.users {
			say("               log in as %s (%s) with the password %s", who.Name, who.Role, who.Password)
		}
		say("    %s    an inbox for each user, which misses nothing", inbox.Path)
	}
	say("    /quotes/   a thousand prices a second, and what slow clients get\n")
	if g.Alone {
		say("No other program reaches the NATS server: --nats-addr is empty.")
	} else {
		say("Push a message into the chat, from another terminal:\n\n    %s\n",
			g.command("tideway", "chat.lobby", `{"type":"chat.message","user":"script","text":"hello"}`))
	}
	if g.key != "" {
		say("Or from any program that speaks HTTP, with this key:\n\n    export TIDEWAY_API_KEY=%s", g.key)
	} else {
		say("Or from any program that speaks HTTP, with the key that was chosen:\n")
	}
	say("    %s\n", g.command("curl", "chat.lobby", `{"type":"chat.message","user":"curl","text":"hello"}`))
}
