package consumer

import (
	"context"
	"fmt"

	"github.com/tideway-go/tideway/layer"
)

// cursorPurpose is what a group's cursors are signed for; no group's name holds
// a "/".
func cursorPurpose(group string) string { return "cursor/" + group }

// Cursor returns a position of a durable group as clients get it, for a page that
// is rendered with the group's state: the page's client comes "back" with it, and
// misses nothing that was published since. It is opaque and signed: whoever has
// one can resume where the consumer lets it join, and learns nothing from it.
func Cursor(l *layer.Layer, group string, p layer.Position) string {
	text, _ := p.AppendText(nil) // it has no way to fail
	return l.Sign(cursorPurpose(group), text)
}

// OpenCursor returns the position that a cursor stands for, for a program that
// takes one from a client: what it has seen, or from where it wants to read. The
// error is [layer.ErrForged] for one that no process of the network gave out for
// that group.
func OpenCursor(ctx context.Context, l *layer.Layer, group, cursor string) (layer.Position, error) {
	text, err := l.Verify(ctx, cursorPurpose(group), cursor)
	if err != nil {
		return layer.Position{}, err
	}
	p, err := layer.ParsePosition(string(text))
	if err != nil {
		return p, fmt.Errorf("%w (%w)", layer.ErrForged, err)
	}
	return p, nil
}
