package natsbus

import (
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/tideway-go/tideway/layer"
)

// Header names on the wire. They are written as they stand here and read
// without regard to case: nats.Header, unlike HTTP's, does not change them.
const (
	channelHeader     = "Channel"
	idHeader          = "Nats-Msg-Id"
	senderHeader      = "Tideway-Sender"
	traceParentHeader = "traceparent"
	traceStateHeader  = "tracestate"
	processHeader     = "Tideway-Process"
)

// newMsg makes a NATS message with p's header.
func newMsg(subject string, data []byte, h *layer.Header) *nats.Msg {
	m := &nats.Msg{Subject: subject, Data: data}
	setHeader(m, idHeader, h.ID)
	setHeader(m, senderHeader, h.Sender)
	setHeader(m, traceParentHeader, h.TraceParent)
	setHeader(m, traceStateHeader, h.TraceState)
	return m
}

func setHeader(m *nats.Msg, name, value string) {
	if value == "" {
		return
	}
	if m.Header == nil {
		m.Header = make(nats.Header, 2)
	}
	m.Header[name] = []string{value}
}

// draft is a message that is published and then used again. The connection has
// copied it when its publish has returned.
type draft struct {
	msg    nats.Msg
	values [8]string // of the header
	used   int
}

var drafts = sync.Pool{New: func() any { return &draft{msg: nats.Msg{Header: make(nats.Header, 8)}} }}

// newDraft makes a draft with h. Who has published it calls free.
func newDraft(subject string, data []byte, h *layer.Header) *draft {
	d := drafts.Get().(*draft)
	d.msg.Subject, d.msg.Data = subject, data
	d.set(idHeader, h.ID)
	d.set(senderHeader, h.Sender)
	d.set(traceParentHeader, h.TraceParent)
	d.set(traceStateHeader, h.TraceState)
	return d
}

// set adds a header, unless its value is empty. Each may be set once.
func (d *draft) set(name, value string) {
	if value == "" {
		return
	}
	d.values[d.used] = value
	d.msg.Header[name] = d.values[d.used : d.used+1 : d.used+1]
	d.used++
}

func (d *draft) free() {
	header := d.msg.Header
	clear(header)
	*d = draft{msg: nats.Msg{Header: header}}
	drafts.Put(d)
}

// maxHeaderValue is the longest value that a layer.Header may have; a stranger's
// longer one is left out.
const maxHeaderValue = 512

// maxKey is the longest idempotency key: a durable group's has its name in front.
const maxKey = maxHeaderValue + 100

// readHeader takes from a NATS message's header what a layer knows.
func readHeader(from nats.Header) (h layer.Header, channel string) {
	for name, values := range from {
		if len(values) == 0 || len(values[0]) > maxHeaderValue && !(strings.EqualFold(name, idHeader) && len(values[0]) <= maxKey) {
			continue
		}
		value := values[0]
		switch {
		case strings.EqualFold(name, channelHeader):
			channel = value
		case strings.EqualFold(name, idHeader):
			h.ID = value
		case strings.EqualFold(name, senderHeader):
			h.Sender = value
		case strings.EqualFold(name, traceParentHeader):
			h.TraceParent = value
		case strings.EqualFold(name, traceStateHeader):
			h.TraceState = value
		}
	}
	return h, channel
}
