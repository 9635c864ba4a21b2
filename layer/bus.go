package layer

import (
	"context"
	"time"
)

// Bus is the wire under a [Layer]: it carries packets between processes and
// knows nothing of members, capacity or expiry, which the Layer does once for
// every bus. Package membus is a Bus inside one process, package natsbus a Bus
// on NATS, and package layertest proves the rules below for any other.
type Bus interface {
	// Attach makes the layer named process a part of the network and starts
	// delivery to r. A process name is unique in the network for all time,
	// starts with "tw" and holds no "!". One Bus may serve several layers; each
	// is a process of its own.
	Attach(ctx context.Context, process string, r Receiver) (Link, error)
}

// Link is one process's end of a [Bus]. All methods may be called at the same
// time from many goroutines, except that the Layer never overlaps Subscribe and
// Unsubscribe of the same [Subscription].
//
// An error that a caller can act upon wraps [ErrUnavailable] (the link is down:
// nothing was sent), [ErrTooLarge], [ErrChannelFull], [ErrNoChannel] or
// [ErrClosed]. A Packet is the Layer's again when the call has returned.
//
// The name of a group may begin with "=": such a group is the layer's own, in
// which processes talk to each other. It is like any other, but no policy covers
// it, and nobody else can send to it.
type Link interface {
	// Subscribe returns nil when every message that is published to the group
	// from then on, anywhere in the network, reaches this process.
	Subscribe(ctx context.Context, s Subscription) error

	// Unsubscribe ends a subscription. It does not wait for the network;
	// messages that are under way may still be delivered.
	Unsubscribe(s Subscription) error

	// Publish hands p to every process that is subscribed to the group, this
	// one included. Messages of one publisher to one group arrive in order. nil
	// says that a live link took it, no more: delivery is at most once.
	Publish(ctx context.Context, group string, p *Packet) error

	// SendTo hands p to the process that owns channel, whose name contains "!".
	// It returns ErrChannelFull when the owner says so, and ErrNoChannel when
	// it is known that nobody owns it.
	SendTo(ctx context.Context, channel string, p *Packet) error

	// Push stores p in the queue of a shared channel until it is pulled or its
	// time is up; it returns ErrChannelFull when the queue holds as many
	// unexpired messages as the limits allow.
	Push(ctx context.Context, channel string, p *Packet, limits Limits) error

	// Pull takes the oldest message of a shared channel, waiting until there is
	// one. Each message goes to one puller in the network. When ctx ends first,
	// Pull returns its error and has taken nothing: no message is lost.
	Pull(ctx context.Context, channel string, limits Limits) (*Packet, error)

	// Call asks process, or every process when process is "" (this one
	// included), and returns the answers. A single process that does not exist
	// is ErrNoChannel. With "" it returns when no answer came for a short time,
	// at the latest when ctx ends; what came is returned without an error.
	Call(ctx context.Context, process string, request []byte) (answers [][]byte, err error)

	// Retain makes the groups that the policies cover durable, and returns the
	// policies of the whole network, these included. A policy that contradicts
	// one of the network is an error that states both. The Layer calls it once,
	// before all else, also without a policy of its own; a Link that keeps
	// nothing then returns none. From then on, a message to a group that a
	// returned policy covers is stored, whoever publishes it, and delivered with
	// its [Stamp], as it was stored; messages that were published otherwise do
	// not come.
	Retain(ctx context.Context, policies []Retention) ([]Retention, error)

	// Store publishes p to a durable group and returns when it is stored. A
	// message with the same Header.ID that was stored in that group within
	// [Retention.Window] is not stored again: then duplicate is true, and the
	// stamp that one's. The stamp's Previous need not be set.
	//
	// With after, p is stored only if the group's newest message is the one with
	// that stamp, Sequence 0 meaning that none is kept, and Epoch 0 that any store
	// will do; else the error wraps [ErrConflict]. A retry with the same ID and the
	// same after is a duplicate, not a conflict, if the first try was stored.
	//
	// An error that wraps [ErrUnknown] says that p may be stored or not; every
	// other, that it is not. Delivery of what is stored is at most once, in the
	// order of the stamps.
	Store(ctx context.Context, group string, p *Packet, after *Stamp) (s Stamp, duplicate bool, err error)

	// Read returns the oldest messages of a durable group behind the one with the
	// sequence after, at most limit, with nothing left out between them. It may
	// lag behind what is stored. Where after is no message of the group that is
	// kept, but any number between two, it returns those that follow it, and says
	// that they are not anchored.
	Read(ctx context.Context, group string, after uint64, limit int) (Page, error)

	// Last returns the stamp of a group's newest message, without its Previous,
	// and sequence 0 when none is kept. It never lags: it includes all whose Store
	// returned before, anywhere. A message that is stored after Last was called
	// reaches a process that was subscribed then, if it is not lost.
	Last(ctx context.Context, group string) (Stamp, error)

	// State returns what the network keeps under key, a name with periods, and its
	// revision: nil when there is nothing, and 0 when there was nothing lately. It
	// never lags.
	State(ctx context.Context, key string) (value []byte, revision uint64, err error)

	// SetState puts value under key if the revision there is still that one, 0
	// meaning that there is nothing yet, and reports whether it did. A value of nil
	// takes away what is there. The value outlives all processes, as durable groups do, for
	// the given age, which is in whole seconds and may be exceeded by one; 0 is for
	// ever.
	SetState(ctx context.Context, key string, value []byte, revision uint64, age time.Duration) (set bool, err error)

	QueueLink

	// Close ends delivery; no call to the Receiver is running or follows when
	// it returns, and calls of the Link that still wait return ErrClosed. It
	// does not close the Bus.
	Close(ctx context.Context) error
}

// Receiver takes what a [Link] brings. The Layer implements it. None of its
// methods but Call blocks on the network or on a consumer.
type Receiver interface {
	// Deliver takes group messages. The bus has one or more dispatch
	// goroutines, the shards; all messages of one group come from the same
	// shard, in order. A shard passes all that is waiting in one call, so that
	// the layer can join it. The slice is the bus's again when Deliver returns;
	// the packets' bytes are the layer's for ever.
	Deliver(batch []Inbound)

	// DeliverTo takes a message for one of this process's channels, given by
	// its full name. ErrChannelFull and ErrNoChannel are for the sender.
	DeliverTo(channel string, p Packet) error

	// Call answers a request of another process. Unlike the others it may wait
	// for the network, so the bus calls it on a goroutine of its own.
	Call(ctx context.Context, request []byte) (answer []byte)

	// Report takes what happened on the link.
	Report(e LinkEvent)
}

// Subscription is what a process wants from a group.
type Subscription struct {
	Group string

	// Relay is empty for a process with members of its own. Otherwise it is the
	// name of a shared channel that is a member of the group: of all processes
	// that subscribe with the same Group and Relay, one gets each message.
	Relay string
}

// Packet is one message on a [Bus].
type Packet struct {
	// Data is the message as a JSON object. A bus may carry it in another
	// form, but takes and gives JSON. It must not be modified.
	Data []byte

	// Header travels beside the data; the zero Header is not sent.
	Header Header
}

// Inbound is a group message as a [Link] delivers it.
type Inbound struct {
	Subscription Subscription
	Packet       Packet

	// Stamp is where a message of a durable group stands; it is zero in an
	// ordinary group.
	Stamp Stamp
}

// Stamp says where a message of a durable group stands.
type Stamp struct {
	// Epoch names the store for all time: one that was made anew has another.
	Epoch uint64

	// Sequence grows from message to message, and need not be contiguous.
	Sequence uint64

	// Previous is the sequence of the group's message before this one; 0 when
	// there was none, or none was kept any more when this one was stored.
	Previous uint64
}

// Page is what [Link].Read returns.
type Page struct {
	Epoch    uint64
	Messages []Inbound // without their Previous
	Left     int       // how many follow these

	// Anchored says that the message at after is still kept, so that nothing is
	// missing between it and Messages.
	Anchored bool
}

// Limits bound a shared channel; they follow from the layer's [Options].
type Limits struct {
	Capacity int           // unexpired messages that the channel holds at most
	Expiry   time.Duration // how long an unread message is kept

	// Ceiling is the largest Capacity that the options give to any channel: a
	// bus that has one limit for all channels uses it, and checks a lower
	// Capacity itself.
	Ceiling int

	// Stated says that the program set capacity or expiry itself. Such limits
	// are an error where the network already has others; defaults give way.
	Stated bool
}

// LinkEvent is what a [Link] reports to its [Receiver].
type LinkEvent struct {
	Kind LinkEventKind

	// Group is set where the event concerns one group, else it is "".
	Group string

	// Count is how many messages were lost, for Dropped and Malformed.
	Count int

	// Err says more, for the log. It may be nil.
	Err error
}

// LinkEventKind is the kind of a [LinkEvent].
type LinkEventKind int

const (
	// LinkDown: the network is out of reach. The bus goes on trying.
	LinkDown LinkEventKind = iota + 1
	// LinkUp: it is in reach again and every subscription is whole. What was
	// published in between is lost.
	LinkUp
	// LinkClosed: the link is closed for good, though nobody called Close.
	LinkClosed
	// Dropped: messages were lost on the way to this process, because it was
	// too slow to take them (a NATS slow consumer).
	Dropped
	// Malformed: messages arrived that are no messages.
	Malformed
	// Doubtful: messages of durable groups that are stored may have been lost on
	// the way, for the server that sends them has changed.
	Doubtful
)
