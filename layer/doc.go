// Package layer is the channel layer: named channels and groups through which
// any process hands messages to any other. It is the model of Django Channels,
// with its words, on a wire of one's choice.
//
//	bus := membus.New() // or natsbus.New, for many processes
//	l, err := layer.New(bus, nil)
//	ch, err := l.NewChannel(ctx)
//	err = l.GroupAdd(ctx, "chat.lobby", ch.Name())
//	err = l.GroupSend(ctx, "chat.lobby", Said{"ann", "hello"})
//	m, err := ch.Receive(ctx) // m.Type is "chat.said"
//
// # The model
//
// A message is a JSON object with a string "type"; the type is said once, by
// the Go type that is sent, see [Payload]. A message arrives as the bytes that
// its sender wrote.
//
// A channel is a mailbox with one reader at a time: bounded, expiring, first in
// first out. [Layer.NewChannel] makes one that belongs to this process, under a
// fresh name that any process may send to. [Layer.Listen] opens a shared one,
// under a name that all processes know: each of its messages goes to one reader.
//
// A group is a name for a set of channels. A message that is sent to a group
// reaches every member, in whichever process it lives. A group needs no
// creation: sending to one that nobody joined is no error.
//
// A [Layer] is one process's place in all this. Capacity, expiry, names and the
// way to the members are the same on every wire; the wire is a [Bus]. Package
// membus is one inside this process, package natsbus one on NATS, and package
// layertest proves what follows for any bus.
//
// # Names
//
// A group's name has 1 to 99 of the characters A-Z a-z 0-9 . _ - and nothing
// else. A channel's name may hold one "!", behind the name of the process that
// owns it. Names are compared byte by byte. A name that breaks the rules is a
// *[NameError] wherever it is given; the error shows the kind, the name, the
// rule and the first character that breaks it.
//
// # Capacity and expiry
//
// A channel holds as many unread messages as its capacity says, 100 unless
// [Options] say otherwise, for all channels or by pattern. A Send over capacity
// is refused with [ErrChannelFull], and nothing is dropped for it. A member that
// is full keeps what it has and misses the new message of a group; the others
// get it, and GroupSend does not fail. Such losses are counted in [Stats], and
// logged at a limited rate: the first at once, then a line every ten seconds
// while they go on, the last one with the total.
//
// A message that nobody read within the expiry, 60 seconds by default, is never
// delivered. An expired message takes no room. Expiry is about messages only: a
// member never expires from its group.
//
// # Delivery
//
// After GroupAdd returned, every message that is sent to the group from then on,
// anywhere in the network, reaches the channel. After GroupDiscard returned,
// nothing that is sent from then on does. Members may come and go while messages
// flow; those that stay miss nothing, and nobody gets a message twice.
//
// To a group, and to a channel of one process, delivery is at most once. When
// GroupSend returns nil, the network took the message; when the link is down the
// error is [ErrUnavailable], and nothing was sent. Send to a channel of a Tideway
// process returns nil when the message is in the channel; a channel that is gone
// is [ErrNoChannel].
//
// A shared channel keeps each message until it is read or expires, whether or
// not anybody reads at the moment. As a member of a group a shared channel gets
// each message once, however many processes added it and however many workers
// read it; a Message that came this way does not tell its group.
//
// [Channel.Receive] takes a message or nothing: cancelling it loses nothing, and
// the channel stays in its groups. Members of a group do not share bytes: what
// Receive returns is the receiver's own.
//
// A message over [Options].MaxMessage is refused with [ErrTooLarge] before it is
// sent; headers count. What arrives and is no message reaches nobody: it is
// counted, and logged at a limited rate.
//
// # Durable groups
//
// [Options].Groups makes groups durable, by the pattern of their names. A durable
// group keeps the newest messages, as many and for as long as its policy says,
// whether or not anybody is a member. GroupSend to it returns nil when the
// message is stored, and so does [Layer.Publish], which takes an idempotency key
// and tells the message's [Position]; when the store does not answer for 30
// seconds the error is [ErrUnknown]. Durability belongs to the group: a message
// that a stranger publishes to it on the wire is stored like any other.
//
// A message of a durable group arrives with its Position, in one order for all
// members of all processes. What is lost between the store and a process is read
// from the store and delivered in its place, before anything later; what is
// doubled is dropped. Each process checks that for each of its durable groups,
// with every message, whenever the link was down, and once a minute for groups
// that are quiet. A hole that the store cannot fill any more is counted in
// [Stats].Gaps and logged. A member that is full misses messages of a durable
// group like those of any other: it can read them back.
//
// [Layer.History] reads what follows a position, [Layer.Position] is the place
// behind the newest message. A shared channel that is a member of a durable group
// gets its messages at most once, and without a position.
//
// # Presence
//
// [Options].Presence makes the network keep who is in a group, by the pattern of
// its name. [Channel.Identify] says who stands behind a channel; a user with many
// channels, in many processes, is one member. [Layer.Members] lists them, for any
// process; a group that no policy covers is [ErrNoPresence]. A group's
// channels are told who comes and who goes, by [PresenceJoin] and [PresenceLeave],
// many at once where many come. These two are the layer's own: a process with
// presence does not send them for anybody, and drops those that arrive. They have
// no place among the group's messages, are not stored, and a shared channel does
// not get them.
//
// With the defaults a join is known everywhere within 2 seconds. A user whose last
// channel left has gone after the grace of 5 seconds, and one who is back before
// that was not away; those of a process that ends have the grace, too. The users of
// a process that was killed, or is cut off, have gone within 35 seconds. When the
// network is whole again all processes agree within the lease: nobody is missing,
// and nobody is there who left. While a process has no link at all, what it knows
// stays.
//
// A process knows the members of the groups that it has members in, and of no
// others. Each costs it about 200 bytes, and each such group a message in every
// third of the lease, to those processes alone that have members in it, too. A group
// without presence costs nothing.
//
// # Durable queues
//
// [Options].Queues makes shared channels durable queues, by the pattern of their
// names. [Layer.Enqueue] stores a message, and so does Send; workers take it with
// [Layer.Take], or let package router do that. A message stays until a worker says
// that it is done with it. Each message is with one worker at a time, which has
// it for the policy's AckWait and may extend that. A worker that dies or is silent
// for longer loses the message to another, and learns so by [ErrStale]; the
// [Delivery] says that it is not the first. Delivery is at least once.
//
// An attempt that failed is followed by another after a pause that grows. When its
// attempts are used up, a message goes to the dead letters, with the reason; there
// it stays until somebody replays or drops it: [Layer.DeadLetters]. What is no
// message goes there at once. A message that kills its workers uses up its
// attempts, too.
//
// High messages are taken before all others, low ones when there is nothing else;
// those of one priority come in the order in which they were stored. A message may
// come later, or again and again. Messages with the same ID are stored once. A queue
// that holds as many messages of a priority as its capacity says refuses more with
// ErrChannelFull, and drops nothing. A Take that is cancelled takes nothing, and no
// attempt counts.
//
// # Order
//
// Messages of one sender to one group reach each member in the order in which
// they were sent, and so do messages of one sender to one channel. A shared
// channel hands them out in the order in which they arrived; several readers,
// or several processes that feed it from a group, may overtake each other.
//
// # Closing
//
// A channel that is closed leaves all its groups. A layer that is closed closes
// its channels; calls that wait and calls that follow return [ErrClosed]. No
// goroutine of a layer outlives Close. The process stays subscribed to a group for
// [Options].Linger after its last member left, and no longer.
//
// # What is not promised
//
// Exactly once; order between groups, or between senders to a group that is not
// durable; that a member which is full, or a process whose link is down, gets what
// it missed of such a group; anything after retention has passed; that a message in a
// channel of one process survives that process.
//
// # Differences from the layers of Channels
//
// The methods have the names of the Channels specification and keep its rules,
// but for these:
//
//   - GroupAdd waits for the network: the next GroupSend, from anywhere, reaches
//     the member. In channels_redis's pub/sub layer and on plain NATS it may not.
//   - GroupAdd takes a channel of any Tideway process, not only one's own.
//   - A membership lives as long as its channel. There is no group_expiry: a
//     socket that is open for more than a day stays in its groups.
//   - Capacity is each channel's own. In channels_redis all the sockets of a
//     process share the capacity of one queue.
//   - A channel that refuses or misses a message is counted, and the log ends with
//     the number; the in-memory layer of Channels drops silently.
//   - Receive may be cancelled at any moment and loses nothing, which the specification
//     asks for and several layers do not keep.
//   - A shared channel refuses a message over capacity on every bus, and has the same
//     expiry whoever reads it.
//   - A shared channel may be a durable queue, whose messages are acknowledged when
//     the worker is done. In Channels they are lost with the worker.
//   - There is no flush: a test makes a network of its own.
package layer
