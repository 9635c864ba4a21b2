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
// the other.
func (k Kind) withPeers(ctx context.Context, s *Settings, p Point) (*sample, error) {
	out, err := k.run(ctx, s, p)
	if err != nil {
		return nil, err
	}
	for _, peer := range s.Peers {
		own := *s
		own.peer, own.Floor = &peer, false
		theirs, err := k.run(ctx, &own, p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", peer.Name, err)
		}
		theirs.over("server CPU over ours", out)
		for _, text := range theirs.remarks {
			out.remarks = append(out.remarks, peer.Name+": "+text)
		}
		out.peers = append(out.peers, theirs)
	}
	return out, nil
}

// over adds the CPU time that a server took as a multiple of another's.
func (out *sample) over(title string, other *sample) {
	ours, _ := out.metric("cpu_us")
	if theirs, ok := other.metric("cpu_us"); ok && theirs > 0 && ours > 0 {
		out.add("ratio", title, "x", ours/theirs)
	}
}
