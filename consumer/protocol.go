package consumer

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Protocol is the subprotocol that a client offers to hear of groups, positions
// and gaps, to resume, and to ask for replies. It is spoken with every consumer,
// which need not change for it. docs/reference/wire.md has its frames.
const Protocol = "tideway.v1"

// protocolVersion is what hello says.
const protocolVersion = 1

// Codes of error frames and of replies that are errors.
const (
	codeFrame       = "bad_frame"     // it is no frame of the protocol, or its members contradict each other
	codeUnknown     = "unknown_frame" // none of its members is known here
	codeCursor      = "bad_cursor"    // a position that is not one of this group and network
	codeLate        = "late_resume"   // groups were joined before it came
	codeData        = "bad_data"      // not what the consumer expects
	codeRate        = "rate_limited"  // it was not handled; slow down
	codeAuth        = "unauthorized"  // the token was refused
	codeUnsupported = "unsupported"   // the server does not do that
	codeUnavailable = "unavailable"   // the server cannot do that now
	codeInternal    = "internal"      // a handler failed
	codeClosed      = "closed"        // the connection is being closed
)

// refusal is the body of an error, in an error frame or in a reply.
type refusedFrame struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	ID      string `json:"id,omitempty"` // by which the server's log names it
}

// appendJSON appends a string as JSON.
func appendJSON(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always marshals
	}
	return append(b, q...)
}

// object appends v, a value that always marshals, as the only member of an object.
func object(member string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	b := append(make([]byte, 0, len(data)+len(member)+5), '{')
	b = append(appendJSON(b, member), ':')
	return append(append(b, data...), '}')
}

func helloFrame(session string, ping time.Duration) []byte {
	return object("hello", struct {
		Session string `json:"session"`
		Ping    int    `json:"ping"`
		Version int    `json:"version"`
	}{session, int(ping / time.Second), protocolVersion})
}

// dataFrame wraps JSON that goes to this connection alone.
func dataFrame(data []byte) []byte {
	b := append(make([]byte, 0, len(data)+9), `{"data":`...)
	return append(append(b, data...), '}')
}

// groupFrame wraps JSON that came through a group: it is the same for all
// members. at is "" in a group that is not durable.
func groupFrame(group, at string, data []byte) []byte {
	b := append(make([]byte, 0, len(data)+len(group)+len(at)+32), `{"group":`...)
	b = appendJSON(b, group)
	if at != "" {
		b = append(append(append(b, `,"at":"`...), at...), '"') // base64url
	}
	b = append(append(b, `,"data":`...), data...)
	return append(b, '}')
}

// The outcomes of a join.
const (
	outcomeLive    = "live"
	outcomeResumed = "resumed"
	outcomeGap     = "gap"
)

// GapFar is why a client does not get what it missed, though it is kept: it would
// be more than [JoinOptions].Most.
const GapFar layer.GapReason = "far"

// joinedFrame is the answer to a join. It comes before the group's first message.
type joinedFrame struct {
	Group    string          `json:"joined"`
	Outcome  string          `json:"outcome"`
	Replayed int             `json:"replayed,omitempty"`
	Reason   layer.GapReason `json:"reason,omitempty"`
	At       string          `json:"at,omitempty"` // where the messages that follow begin
}

func (j joinedFrame) bytes() []byte {
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // it is made of strings
	}
	return b
}

func gapFrame(group string, reason layer.GapReason) []byte {
	return object("gap", struct {
		Group  string          `json:"group"`
		Reason layer.GapReason `json:"reason"`
	}{group, reason})
}

// leftFrame says that the connection is not in a group, of which the client may
// think that it is.
func leftFrame(group string) []byte { return object("left", group) }

// replyFrame answers the request with the id, which is a number as the client
// wrote it.
func replyFrame(id string, data []byte) []byte {
	b := append(make([]byte, 0, len(id)+len(data)+20), `{"reply":`...)
	b = append(append(append(b, id...), `,"data":`...), data...)
	return append(b, '}')
}

// pongFrame answers a client's ping, of which a page in a browser sees no other
// sign. It repeats what the ping held.
func pongFrame(ping []byte) []byte {
	return append(append([]byte(`{"pong":`), ping...), '}')
}

func replyErrorFrame(id string, r refusedFrame) []byte {
	inner := object("error", r)
	b := append(make([]byte, 0, len(id)+len(inner)+10), `{"reply":`...)
	b = append(append(b, id...), ',')
	return append(b, inner[1:]...)
}

func errorFrame(code, message string) []byte {
	return object("error", refusedFrame{Code: code, Message: message})
}

// byeFrame tells a client to come back after a random wait between the two.
func byeFrame(code StatusCode, from, to time.Duration) []byte {
	b := append([]byte(`{"bye":{"code":`), strconv.Itoa(int(code))...)
	b = strconv.AppendInt(append(b, `,"reconnect":[`...), from.Milliseconds(), 10)
	b = strconv.AppendInt(append(b, ','), to.Milliseconds(), 10)
	return append(b, `]}}`...)
}

// prepareText makes the wire form of one text frame of the protocol.
func prepareText(b []byte) *Prepared { return Prepare(Frame{Text, b}) }
