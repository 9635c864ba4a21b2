package bench

import (
	"context"
	"fmt"
	"strings"
)

// Peer is a server of somebody else's, in a program that [Serve] makes a child,
// or that speaks as one: see docs/performance.md.
type Peer struct {
	Name    string
	Command []string
}

// ParsePeer reads "name=command with arguments", separated by spaces.
func ParsePeer(s string) (Peer, error) {
	name, command, _ := strings.Cut(s, "=")
	p := Peer{strings.TrimSpace(name), strings.Fields(command)}
	if p.Name == "" || len(p.Command) == 0 {
		return p, settingsErrorf("--peer %q: want name=command, as in gws='peers gws'", s)
	}
	return p, nil
}

// withPeers measures a point on our server and on each peer's, one right after
// the other. Each run begins with another of them, so that none always has the
// machine as a certain other one left it.
func (k Kind) withPeers(ctx context.Context, s *Settings, p Point, run int) (*sample, error) {
	var out *sample
	theirs := make([]*sample, len(s.Peers))
	for i := range len(s.Peers) + 1 {
		turn := (i + run) % (len(s.Peers) + 1)
		var err error
		if turn == 0 {
			out, err = k.run(ctx, s, p)
		} else {
			theirs[turn-1], err = k.peerRun(ctx, s, p, &s.Peers[turn-1])
		}
		if err != nil {
			return nil, err
		}
	}
	for i, one := range theirs {
		if least, ok := out.metric("floor_cpu_us"); ok {
			one.over("ratio", floorRatio, least)
		}
		if ours, ok := out.metric("cpu_us"); ok {
			one.over("ratio_ours", "server CPU over Tideway's", ours)
		}
		for _, text := range one.remarks {
			out.remarks = append(out.remarks, s.Peers[i].Name+": "+text)
		}
	}
	out.peers = theirs
	return out, nil
}

// peerRun measures a peer. One that fails has no figures, if the settings say
// that the others go on.
func (k Kind) peerRun(ctx context.Context, s *Settings, p Point, peer *Peer) (*sample, error) {
	own := *s
	own.peer, own.Floor = peer, false
	out, err := k.run(ctx, &own, p)
	if err != nil && s.KeepGoing && ctx.Err() == nil {
		return &sample{remarks: []string{"a run failed: " + err.Error()}}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", peer.Name, err)
	}
	return out, nil
}

// over adds the CPU time that a server took as a multiple of another's.
func (out *sample) over(key, title string, other float64) {
	if own, ok := out.metric("cpu_us"); ok && own > 0 && other > 0 {
		out.add(key, title, "x", own/other)
	}
}

const floorRatio = "server CPU over the floor's"
