package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/tideway-go/tideway/cmd/tideway/bench"
)

// benchmark is one run of `tideway bench KIND`.
type benchmark struct {
	*program
	bench.Settings
	kind   string
	output outputFlag
	html   string
	tables string // a path for the report in Markdown
	peers  []string
}

func (p *program) benchCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench " + strings.Join(benchNames(), "|"),
		Short: "Measure this machine's Tideway, or any WebSocket server",
		Long: `Bench measures a server of its own, another process of this program, or the
one that --url names: ours, or any that passes on to a room what a member of it
says. Latencies count from when a message was due. CPU time is the server's,
read from its clocks; it is known for the bench's own server, and for the
processes that --pid names. Linux measures best: elsewhere there are neither
CPU times nor memory, and the load client is heavier.

A list of values for one of the sizes measures each, and the growth from one to
the next. Every run has a fresh server of the bench's own. docs/performance.md
says how to read the results.`,
		Example: `  tideway bench broadcast
  tideway bench broadcast --size 128,1024,16384 --html report.html
  tideway bench idle --clients 5000 -o json
  tideway bench broadcast --url 'ws://127.0.0.1:8000/ws/chat/room%d/' --pid 4711 \
      --message '{"type":"chat.message","user":"bench","text":"%s"}' --rate 20
  tideway bench layer --members 10,100,1000,10000`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which benchmark? there are %s", strings.Join(benchNames(), ", "))
			}
			return usagef("there is no benchmark %q; there are %s", args[0], strings.Join(benchNames(), ", "))
		},
		RunE: func(*cobra.Command, []string) error { return nil }, // Args has refused
	}
	for _, k := range benchKinds {
		c.AddCommand(p.benchKindCommand(k))
	}
	c.AddCommand(p.benchServeCommand())
	return c
}

// benchKind is what the command line has for a benchmark.
type benchKind struct {
	name, short, long string
	sizes             bench.Settings // defaults
	flags             []func(*benchmark, *pflag.FlagSet)
}

func benchNames() []string {
	var names []string
	for _, k := range benchKinds {
		names = append(names, k.name)
	}
	return names
}

var benchKinds = []benchKind{
	{
		"broadcast", "Messages to the members of groups",
		`Broadcast sends messages to groups and measures the way to every member's socket.
--rate 0 sends as fast as they arrive, with --window under way.`,
		bench.Settings{Clients: []int{1000}, Groups: []int{1}, Rate: []int{100}, Size: []int{128}, Duration: 5 * time.Second},
		[]func(*benchmark, *pflag.FlagSet){clientsFlag, groupsFlag, rateFlag, sizeFlag, nodesFlag, windowFlag, publisherFlags, floorFlag, peerFlag, urlFlags, loadFlags},
	}, {
		"echo", "Round trips: a client gets its own message back",
		`Echo has the clients take turns to send a message, which comes back to its sender.`,
		bench.Settings{Clients: []int{100}, Rate: []int{5000}, Size: []int{128}, Duration: 5 * time.Second},
		[]func(*benchmark, *pflag.FlagSet){clientsFlag, rateFlag, sizeFlag, windowFlag, urlFlags, loadFlags},
	}, {
		"connect", "Handshakes, each with the join of a group",
		`Connect opens connections, --dialers at the same time, or --rate a second. Servers
that answer 503 or 429 are tried again.`,
		bench.Settings{Clients: []int{1000}, Groups: []int{1}, Rate: []int{0}, Duration: time.Second},
		[]func(*benchmark, *pflag.FlagSet){clientsFlag, groupsFlag, rateFlag, nodesFlag, floorFlag, peerFlag, urlFlags, loadFlags},
	}, {
		"idle", "What connections weigh that do nothing",
		`Idle opens connections, waits for --duration, and measures the memory that each
costs the server, behind a garbage collection where the server is the bench's own.`,
		bench.Settings{Clients: []int{5000}, Groups: []int{1}, Duration: time.Second},
		[]func(*benchmark, *pflag.FlagSet){clientsFlag, groupsFlag, peerFlag, urlFlags, loadFlags},
	}, {
		"storm", "Many return at once: when are all back, and what others notice",
		`Storm breaks --clients connections at once and lets all of them return, while
--staying others get messages. Those who return are in --groups other groups.`,
		bench.Settings{Clients: []int{5000}, Groups: []int{1}, Rate: []int{100}, Size: []int{128}, Duration: 2 * time.Second},
		[]func(*benchmark, *pflag.FlagSet){clientsFlag, stayingFlag, admissionFlag, groupsFlag, rateFlag, sizeFlag, nodesFlag, floorFlag, peerFlag, urlFlags, loadFlags},
	}, {
		"resume", "Clients return to durable groups, and get what they missed",
		`Resume has clients of durable groups miss --missed messages each, and come back
with their cursors, to the next node if there are several. A client is back when
it has all of them; one that misses a message, or gets one twice, is a wrong outcome.`,
		bench.Settings{Clients: []int{1000}, Groups: []int{1}, Missed: []int{100}, Rate: []int{0}, Size: []int{128}, Nodes: []int{1}, Duration: time.Second},
		[]func(*benchmark, *pflag.FlagSet){clientsFlag, groupsFlag, missedFlag, rateFlag, sizeFlag, nodesFlag, loadFlags},
	}, {
		"queue", "Durable queues: put in, take, acknowledge",
		`Queue puts messages into a durable queue and takes them from it, and does the same
by JetStream's own calls in turns. All of it is in one process.`,
		bench.Settings{Nodes: []int{1}, Size: []int{128}, Duration: 4 * time.Second},
		[]func(*benchmark, *pflag.FlagSet){nodesFlag, sizeFlag, windowFlag, workersFlag},
	}, {
		"layer", "The layer without sockets, beside bare nats.go",
		`Layer joins groups, sends to them as fast as messages arrive, and does the same by
nats.go's own calls in turns. All of it is in one process; several --nodes are a
cluster of NATS servers inside it. --durable stores each message first, and
compares with JetStream's own calls.`,
		bench.Settings{Members: []int{1}, Groups: []int{1}, Nodes: []int{1}, Size: []int{128}, Duration: 4 * time.Second},
		[]func(*benchmark, *pflag.FlagSet){membersFlag, groupsFlag, nodesFlag, sizeFlag, durableFlag, windowFlag, workersFlag},
	}, {
		"scale", "As many connections as this machine bears",
		`Scale opens connections to a cluster from several load clients, 15,000 from each
at most, and measures one after the other how they come, what they weigh, and
messages to groups that have members on all nodes. See docs/scaling.md.`,
		sizesOfScale,
		[]func(*benchmark, *pflag.FlagSet){clientsFlag, groupsFlag, nodesFlag, rateFlag, sizeFlag, loadFlags},
	},
}

// sizesOfScale are the most that fits into two processes of 20,000 descriptors.
var sizesOfScale = bench.Settings{
	Clients: []int{30_000}, Groups: []int{3000}, Nodes: []int{2}, Rate: []int{1000}, Size: []int{128}, Duration: 5 * time.Second,
}

func (p *program) benchKindCommand(k benchKind) *cobra.Command {
	b := &benchmark{program: p, Settings: k.sizes, kind: k.name}
	b.Window, b.Workers, b.Runs, b.Admission = 256, 16, 3, -1
	c := &cobra.Command{
		Use:   k.name,
		Short: k.short,
		Long:  k.long,
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return b.run(c.Context(), c.Flags()) },
	}
	f := c.Flags()
	f.SortFlags = false
	for _, register := range k.flags {
		register(b, f)
	}
	f.DurationVar(&b.Duration, "duration", b.Duration, "`time` of each run")
	f.IntVar(&b.Runs, "runs", b.Runs, "`number` of runs, of which medians are told")
	f.StringVar(&b.Profile, "profile", "", "write the own server's profiles for go tool pprof to `PATH`.cpu and PATH.allocs")
	f.StringVar(&b.html, "html", "", "write a report with plots to `PATH`, too")
	if f.Lookup("publisher") != nil {
		complete(c, "publisher", bench.Inside, bench.Outside, bench.Client)
	}
	f.StringVar(&b.tables, "markdown", "", "write the table as Markdown to `PATH`, too")
	b.output.register(c)
	return c
}

func (b *benchmark) run(ctx context.Context, f *pflag.FlagSet) error {
	if f.Changed("nats") {
		if err := b.server.resolve(b.env); err != nil {
			return err
		}
		b.NATS, b.Prefix = b.server.nats, b.server.prefix
	}
	for _, p := range b.peers {
		peer, err := bench.ParsePeer(p)
		if err != nil {
			return usagef("%s", err)
		}
		b.Peers = append(b.Peers, peer)
	}
	b.Stderr = b.stderr
	hide := func() {}
	if isTerminal(b.stderr) && b.env("TERM") != "dumb" {
		bar := bench.NewBar(b.stderr, "tideway bench "+b.kind)
		b.Progress, hide = bar.Set, bar.Close
	}
	r, err := bench.Run(ctx, b.kind, &b.Settings)
	hide()
	var settings *bench.SettingsError
	if errors.As(err, &settings) {
		return usagef("%s", settings)
	}
	if err != nil {
		return err
	}
	return b.write(r)
}

// write prints the report, and what makes it doubtful.
func (b *benchmark) write(r *bench.Report) error {
	if b.html != "" {
		page, err := r.HTML()
		if err == nil {
			err = os.WriteFile(b.html, page, 0o666)
		}
		if err != nil {
			return fmt.Errorf("the report of --html: %w", err)
		}
	}
	if b.tables != "" {
		var page bytes.Buffer
		err := r.WriteMarkdown(&page)
		if err == nil {
			err = os.WriteFile(b.tables, page.Bytes(), 0o666)
		}
		if err != nil {
			return fmt.Errorf("the report of --markdown: %w", err)
		}
	}
	if b.output == outputJSON {
		return json.NewEncoder(b.stdout).Encode(r)
	}
	if err := r.WriteText(b.stdout); err != nil {
		return err
	}
	for _, text := range r.Remarks {
		b.note("%s", text)
	}
	return nil
}

// benchServeCommand is the other process of a benchmark.
func (p *program) benchServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "serve",
		Short:  "Serve a benchmark, which gives orders on stdin",
		Hidden: true,
		Args:   noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log := slog.New(&noteHandler{p, slog.LevelError})
			return bench.Serve(c.Context(), p.stdin, p.stdout, bench.Own(log))
		},
	}
}
