package main

import (
	"time"

	"github.com/spf13/pflag"
)

func clientsFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntSliceVar(&b.Clients, "clients", b.Clients, "`number` of connections")
}

func groupsFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntSliceVar(&b.Groups, "groups", b.Groups, "`number` of groups, over which clients and messages are spread")
}

func rateFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntSliceVar(&b.Rate, "rate", b.Rate, "`number` of messages, or connections, a second in all; 0 is as fast as it goes")
}

func sizeFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntSliceVar(&b.Size, "size", b.Size, "`bytes` of a message's text")
}

func membersFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntSliceVar(&b.Members, "members", b.Members, "`number` of members of each group")
}

func nodesFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntSliceVar(&b.Nodes, "nodes", b.Nodes, "`number` of servers in a cluster, over which members, clients or workers are spread")
}

func missedFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntSliceVar(&b.Missed, "missed", b.Missed, "`number` of messages that each client misses")
}

func durableFlag(b *benchmark, f *pflag.FlagSet) {
	f.BoolVar(&b.Durable, "durable", false, "groups are durable: each message is stored and acknowledged")
}

func windowFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntVar(&b.Window, "window", b.Window, "`messages` that are under way when there is no rate")
}

func workersFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntVar(&b.Workers, "workers", 16, "`number` of senders, readers or joins at the same time")
}

func stayingFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntVar(&b.Staying, "staying", 500, "`number` of connections that stay and get messages")
}

func admissionFlag(b *benchmark, f *pflag.FlagSet) {
	f.IntVar(&b.Admission, "admission", 0, "`number` of handshakes a second that the bench's own server begins; 0 is the router's default, -1 as many as come")
}

func publisherFlags(b *benchmark, f *pflag.FlagSet) {
	f.StringVar(&b.Publisher, "publisher", "", "`who` sends: the server itself (inside), another process (outside), a socket (client)")
	f.BoolVar(&b.Deflate, "deflate", false, "offer permessage-deflate; of compressed messages one in 64 is looked into")
	f.BoolVar(&b.Handled, "handled", false, "each connection decodes and encodes each message, instead of forwarding it")
	f.IntSliceVar(&b.Slow, "slow", []int{0}, "`number` of clients that never read")
}

func floorFlag(b *benchmark, f *pflag.FlagSet) {
	f.BoolVar(&b.Floor, "floor", false, "measure the same on a bare loop of reads and writes, too")
}

func peerFlag(b *benchmark, f *pflag.FlagSet) {
	f.StringArrayVar(&b.peers, "peer", nil, "measure another `server`, too, name=command; may be repeated")
	f.BoolVar(&b.KeepGoing, "keep-going", false, "leave a --peer out of a run in which it fails, instead of giving up")
}

func urlFlags(b *benchmark, f *pflag.FlagSet) {
	f.StringVar(&b.URL, "url", "", "`URL` of the server's sockets; %d is the group's number (default: a server of the bench's own)")
	f.IntSliceVar(&b.PIDs, "pid", nil, "`processes` whose CPU time and memory are the server's; a broker's, too")
	f.StringArrayVar(&b.Header, "header", nil, "`line` of each handshake, \"Name: value\"; may be repeated")
	f.StringVar(&b.Hello, "hello", "", "text `message` behind each handshake; %d is the group's number")
	f.IntVar(&b.Replies, "hello-replies", 0, "`number` of messages that answer --hello")
	f.StringVar(&b.Message, "message", "", "`text` that a publishing client sends; %s is the mark and the padding")
	f.BoolVar(&b.Stranger, "yes-load-that-server", false, "the server of --url may be on another machine")
}

func loadFlags(b *benchmark, f *pflag.FlagSet) {
	f.IntVar(&b.Workers, "dialers", 64, "`number` of handshakes at the same time")
	f.DurationVar(&b.Nap, "nap", 300*time.Microsecond, "`time` between two looks of the load client at its connections")
}
