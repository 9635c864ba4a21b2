package layer

import (
	"errors"
	"fmt"
)

var (
	// ErrChannelFull is returned by Send when the channel holds as many unread
	// messages as its capacity allows. Nothing was dropped; send again later,
	// or give the channel more readers. Channels calls it ChannelFull.
	ErrChannelFull = errors.New("layer: channel is full")

	// ErrTooLarge is returned when a message with its headers is larger than
	// [Options].MaxMessage or than the wire carries. Nothing was sent.
	ErrTooLarge = errors.New("layer: message is too large")

	// ErrUnavailable is returned when the network is out of reach: nothing was
	// sent. The layer reconnects by itself; try again later.
	ErrUnavailable = errors.New("layer: the network is unavailable")

	// ErrClosed is returned by everything that is called on a closed [Layer] or
	// [Channel].
	ErrClosed = errors.New("layer: closed")

	// ErrNoChannel is returned when a channel's process is known not to exist,
	// or no longer has that channel.
	ErrNoChannel = errors.New("layer: no such channel")

	// ErrTooManyGroups is returned by GroupAdd for the channel of a connection that
	// is in as many groups as it may be.
	ErrTooManyGroups = errors.New("layer: the channel is in too many groups")

	// ErrUnknown is returned for a message to a durable group when nobody knows
	// whether it is stored: the store did not answer for 30 seconds. Publish it
	// again with the same ID, and it is stored once.
	ErrUnknown = errors.New("layer: stored or not is not known")

	// ErrConflict is wrapped by every *[ConflictError].
	ErrConflict = errors.New("layer: the group has gone on")

	// ErrReading is returned by Receive while another Receive of the same
	// Channel waits: a channel has one reader at a time.
	ErrReading = errors.New("layer: the channel already has a reader")
)

// ConflictError is returned for a message that was to be stored after a place
// behind which the group has gone on; see [PublishOptions].After. The message is
// not stored. It wraps [ErrConflict].
type ConflictError struct {
	Group    string
	After    Position // where the message was to be stored
	Position Position // where the group was when this was found out
}

// Error names the group and both positions.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("layer: group %s is at position %q and no longer at %q: read what came between, and decide anew",
		e.Group, e.Position, e.After)
}

// Unwrap returns [ErrConflict].
func (e *ConflictError) Unwrap() error { return ErrConflict }

// NameError reports a channel or group name that breaks the rules of the
// Channels specification (channel_layer_spec.rst): ASCII letters, digits,
// hyphens, underscores and periods, 1 to 99 characters; a channel name may hold
// one "!".
type NameError struct {
	Kind string // "channel" or "group"
	Name string // as it was given, in full
	Why  string // what is wrong with it
}

// Error names the kind, the name (its first 120 bytes), the rule and the first
// character that breaks it.
func (e *NameError) Error() string {
	name := e.Name
	if len(name) > 120 {
		name = name[:120] + "..."
	}
	return fmt.Sprintf("layer: %s name %q is not valid: %s", e.Kind, name, e.Why)
}

// MessageError reports bytes that are no message, or a value that cannot be
// made one.
type MessageError struct {
	Why string
	Err error // the cause, or nil
}

func (e *MessageError) Error() string {
	if e.Err != nil {
		return "layer: not a message: " + e.Why + ": " + e.Err.Error()
	}
	return "layer: not a message: " + e.Why
}

// Unwrap returns the cause.
func (e *MessageError) Unwrap() error { return e.Err }
