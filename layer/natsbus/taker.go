package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The levels of a queue, in the order in which they are taken from. The ordinary
// one is asked to wait for messages. The others are looked at when they are
// announced, and now and then, as an announcement may be lost.
const (
	levelHigh = iota
	levelDue
	levelNormal
	levelLow
	levels
)

var levelNames = [levels]string{"high", "due", "normal", "low"}

const (
	noLevel = -1
	// lookEvery is how often the other levels are looked at without a reason.
	lookEvery = 2 * time.Second
	// takerIdle is how long a taker stays ready for the next Take: workers that are
	// all busy come back.
	takerIdle = 10 * time.Second
	// maxAsked is how many messages may be on their way to one queue of a process.
	maxAsked = 512
	// After that a queue's consumer that nobody asks is deleted. It knows how
	// often messages were delivered.
	workerIdle = 7 * 24 * time.Hour
)

// takeLoop is the state of a taker's goroutine.
type takeLoop struct {
	*taker
	in      chan *nats.Msg
	inbox   *nats.Subscription
	hints   *nats.Subscription
	opened  [levels]bool // the consumer exists, as far as we know
	waits   int          // messages that the ordinary level was asked to wait for
	peak    int          // the most Takes that waited at the same time
	looking int          // the level that is looked at; noLevel
	dry     bool         // the ordinary level had nothing when it was looked at
	left    int          // messages that it may still bring
	heard   time.Time    // when the server last said something
	looked  time.Time    // when all levels were last looked at
	seen    time.Time    // when this goroutine last ran, see stoodStill
	busy    time.Time    // when there was last something to do
	rested  time.Time    // not to ask before
}

// run is a taker's goroutine.
func (t *taker) run() {
	p := &takeLoop{taker: t, looking: noLevel, seen: time.Now()}
	defer p.end()
	pulse := min(pullBeat, t.work.policy.AckWait/4)
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	for p.step() {
		var m *nats.Msg
		select {
		case m = <-p.in:
		case <-t.wake:
		case <-beat.C:
			if (p.waits > 0 || p.looking != noLevel) && time.Since(p.heard) > 2*pullBeat {
				p.forget()
			}
		case <-t.link.quit:
			return
		}
		if !p.stoodStill() && m != nil {
			p.receive(m)
		}
	}
}

// stoodStill reports whether this goroutine, and so perhaps the process, did
// nothing for so long that nobody knows how old a message is that it finds:
// another may have it by now. All that came to the inbox is dropped then, and
// comes again when its lease is over. No request is worth anything either: those
// that wait do so for half a lease, see wait.
func (p *takeLoop) stoodStill() bool {
	now := time.Now()
	still := now.Sub(p.seen)
	p.seen = now
	if still <= p.work.policy.AckWait/2 {
		return false
	}
	p.waits, p.looking, p.left, p.looked = 0, noLevel, 0, time.Time{}
	if p.inbox != nil {
		_ = p.inbox.Unsubscribe() // fails when the connection is down, which ends it too
		p.inbox, p.in = nil, nil
	}
	return true
}

// step asks for as many messages as there are Takes that wait, and reports
// whether there is anything left to do. While messages are given back it does not
// ask, as it would get those behind them; not for long, if the server is slow.
func (p *takeLoop) step() bool {
	p.mu.Lock()
	want, told, back, lost := len(p.waiting), p.told, len(p.back) > 0, p.lost
	held := back && time.Since(p.held) < pullBeat
	p.lost = false
	if want > 0 || back || p.waits > 0 || p.looking != noLevel {
		p.busy = p.seen
	} else if p.seen.Sub(p.busy) > takerIdle {
		p.over = true
		p.mu.Unlock()
		return false
	}
	p.mu.Unlock()
	if lost {
		p.forget()
		p.rested = time.Time{}
	}
	if want == 0 || held || p.looking != noLevel || time.Now().Before(p.rested) {
		return true
	}
	if err := p.ask(min(want, maxAsked), told); err != nil {
		p.failed(err)
	}
	return true
}

// ask makes the next request. The server is never asked for more than want
// messages, but when a level is announced while the ordinary one waits in vain.
func (p *takeLoop) ask(want int, told [levels]bool) error {
	p.peak = max(p.peak, want)
	if time.Since(p.looked) > lookEvery {
		p.looked = time.Now()
		told = [levels]bool{levelHigh: true, levelDue: true, levelLow: true}
		for level, may := range told {
			p.note(level, may)
		}
	}
	for _, level := range []int{levelHigh, levelDue} {
		if told[level] {
			return p.look(level, want)
		}
	}
	switch {
	case told[levelLow] && (p.dry || p.waits > 0):
		return p.look(levelLow, want)
	case told[levelLow]:
		return p.look(levelNormal, want)
	case p.waits == 0, want-p.waits >= p.peak/2+1: // those who come one by one share a request
		return p.wait(want - p.waits)
	}
	return nil
}

// look asks a level for what it has, without waiting.
func (p *takeLoop) look(level, n int) error {
	err := p.request(level, fmt.Appendf(nil, `{"batch":%d,"no_wait":true}`, n))
	if err == nil {
		p.looking, p.left, p.dry = level, n, false
		p.note(level, false)
	}
	return err
}

// note says whether there may be messages of a level.
func (p *takeLoop) note(level int, may bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told[level] = may
}

// wait asks the ordinary level for messages that may be still to come. A process
// that freezes takes what its request still gets, and nobody handles it before
// that lease is over. So the request is over before the leases are that the
// process had, which it renewed less than half of AckWait ago: it does not get
// its own messages once more.
func (p *takeLoop) wait(n int) error {
	expiry := min(pullExpiry, p.work.policy.AckWait/2)
	beat := min(pullBeat, expiry/2)
	err := p.request(levelNormal, fmt.Appendf(nil, `{"batch":%d,"expires":%d,"idle_heartbeat":%d}`, n, int64(expiry), int64(beat)))
	if err == nil {
		p.waits += n
	}
	return err
}

func (p *takeLoop) request(level int, body []byte) (err error) {
	if !p.opened[level] {
		if err := p.open(level); err != nil {
			return err
		}
		p.stoodStill() // that may have taken long
	}
	b := p.link.bus
	if p.inbox == nil {
		p.in = make(chan *nats.Msg, 2*maxAsked)
		if p.inbox, err = b.conn.ChanSubscribe(b.conn.NewInbox()+".*", p.in); err != nil {
			return err
		}
	}
	if p.waits == 0 && p.looking == noLevel {
		p.heard = time.Now()
	}
	reply := strings.TrimSuffix(p.inbox.Subject, "*") + strconv.Itoa(level)
	return b.conn.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+p.stream(level)+"."+p.consumer(level), reply, body)
}

func (p *takeLoop) stream(level int) string {
	if level == levelDue {
		return p.link.bus.subjects.laterStream()
	}
	return p.work.stream
}

func (p *takeLoop) consumer(level int) string {
	return levelNames[level] + "_" + strings.ReplaceAll(p.queue, ".", "=")
}

// open makes sure that announcements are heard and a level's consumer exists.
func (p *takeLoop) open(level int) (err error) {
	b := p.link.bus
	if p.hints == nil {
		if p.hints, err = b.conn.Subscribe(b.subjects.wake(p.tokens), p.hint); err != nil {
			return err
		}
	}
	ctx, end := p.link.calls.begin(context.Background(), roundTrip)
	defer end()
	_, err = b.store.js.CreateOrUpdateConsumer(ctx, p.stream(level), jetstream.ConsumerConfig{
		Durable:           p.consumer(level),
		FilterSubject:     p.subjects[level],
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           p.work.policy.AckWait,
		MaxDeliver:        -1, // the dead letters are ours
		MaxAckPending:     -1, // one that pauses must not hold up others
		MaxWaiting:        maxWaiting,
		InactiveThreshold: workerIdle,
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		err = errors.Join(err, b.reopenWork(ctx, p.work))
	}
	p.opened[level] = err == nil
	return err
}

// hint takes an announcement: <prefix>.qwake.<level>.<queue>.
func (p *takeLoop) hint(m *nats.Msg) {
	rest := strings.TrimPrefix(m.Subject, p.link.bus.subjects.prefix+".qwake.")
	for level, name := range levelNames {
		if strings.HasPrefix(rest, name+".") {
			p.tell(level)
		}
	}
}

// forget takes it that the server no longer knows what was asked. If it does,
// its messages still come to the same inbox.
func (p *takeLoop) forget() {
	p.waits, p.looking, p.left, p.opened, p.looked = 0, noLevel, 0, [levels]bool{}, time.Time{}
}

// failed tells the Takes what will not go away, and otherwise sees to it that
// the goroutine tries again.
func (p *takeLoop) failed(err error) {
	p.opened = [levels]bool{}
	if isPassing(err) || !p.link.bus.conn.IsConnected() {
		p.rest()
		return
	}
	for w := p.first(); w != nil; w = p.first() {
		w.got <- taken{err: err}
	}
}

// rest puts off the next request.
func (p *takeLoop) rest() {
	p.rested = time.Now().Add(pullRetry)
	time.AfterFunc(pullRetry, p.signal)
}

// receive takes a message or a status.
func (p *takeLoop) receive(m *nats.Msg) {
	p.heard = time.Now()
	if m.Reply == "" {
		p.status(m)
		return
	}
	level := p.levelOf(m)
	switch {
	case level == p.looking:
		if p.left--; p.left <= 0 {
			p.looking = noLevel
			p.note(level, true) // there may be more
		}
	case level == levelNormal:
		p.waits = max(0, p.waits-1)
	}
	if w := p.first(); w != nil {
		w.got <- taken{msg: m, at: p.heard}
		return
	}
	p.giveBack(m)
}

func (p *takeLoop) levelOf(m *nats.Msg) int {
	for level := range levels {
		if m.Subject == p.subjects[level] {
			return level
		}
	}
	return noLevel
}

// status takes what the server says of a request: the last token of the subject
// is its level.
func (p *takeLoop) status(m *nats.Msg) {
	level := int(m.Subject[len(m.Subject)-1] - '0')
	switch m.Header.Get(statusHeader) {
	case "100": // it lives
	case "404", "408":
		if level == p.looking {
			p.looking, p.left, p.dry = noLevel, 0, level == levelNormal
			return
		}
		left, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
		if err != nil {
			left = p.waits
		}
		p.waits = max(0, p.waits-left)
	default: // the consumer is gone, has moved or has too many requests
		p.forget()
		p.rest()
	}
}

// end gives back what has arrived for nobody.
func (p *takeLoop) end() {
	p.taker.mu.Lock()
	p.over = true
	p.taker.mu.Unlock()
	l := p.link
	l.takers.mu.Lock()
	if l.takers.all[p.queue] == p.taker {
		delete(l.takers.all, p.queue)
	}
	l.takers.mu.Unlock()
	for _, s := range []*nats.Subscription{p.inbox, p.hints} {
		if s != nil {
			_ = s.Unsubscribe() // fails when the connection is down, which ends it too
		}
	}
	for {
		select {
		case m := <-p.in:
			if m.Reply != "" {
				p.giveBack(m)
			}
		default:
			return
		}
	}
}
