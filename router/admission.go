package router

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"github.com/tideway-go/tideway/consumer"
)

// Admission paces newcomers, so that thousands who return at once, as after a
// restart, leave those who are connected their share of the machine. Each waits
// for its turn with its handshake open; those whose turn would come too late are
// told when to try again. Whoever waits counts for MaxConnections and
// MaxPerAddress, so that one address cannot fill the line.
type Admission struct {
	// Rate is how many handshakes begin in a second, on average. Default 1,000
	// for each CPU that Go uses (GOMAXPROCS), which is about a sixth of what one
	// can do; negative is no limit.
	Rate int

	// Burst is how many may begin at once after a quiet time. Default a tenth of
	// Rate.
	Burst int

	// Wait is how long a newcomer may have to wait. One whose turn would come
	// later is refused at once, with 503 and Retry-After. Default 5 s; negative
	// lets nobody wait.
	Wait time.Duration
}

// resolve fills in the defaults.
func (a *Admission) resolve() (*Admission, error) {
	if a == nil {
		a = &Admission{}
	}
	set := *a
	setDefault(&set.Rate, 1000*runtime.GOMAXPROCS(0))
	setDefault(&set.Burst, max(set.Rate/10, 1))
	setDefault(&set.Wait, 5*time.Second)
	if set.Burst < 0 {
		return nil, fmt.Errorf("router: Options.Admission.Burst is %d; without a limit, Rate is negative", set.Burst)
	}
	return &set, nil
}

// turnTick is how often those who wait are looked at, at most: a timer for each
// would cost more than its precision is worth.
const turnTick = 2 * time.Millisecond

// turnstile is an Admission at work: a bucket of tokens, of which each handshake
// takes one, and a line of those who wait for the next.
type turnstile struct {
	rate, burst float64 // tokens a second, and at most; a rate below zero is no limit
	wait        time.Duration

	mu     sync.Mutex // guards all below
	tokens float64
	at     time.Time // when tokens was true
	line   list.List // of chan struct{}: closed when the turn has come, or nobody's will
	timer  *time.Timer
	closed bool
	waited int64
}

func newTurnstile(a *Admission) *turnstile {
	return &turnstile{rate: float64(a.Rate), burst: float64(a.Burst), wait: a.Wait, tokens: float64(a.Burst), at: time.Now()}
}

// errLeft is returned to a newcomer who did not wait for its turn.
var errLeft = errors.New("router: the client left before its turn")

// pass returns nil when the newcomer's turn has come. Otherwise it says what to
// answer, and why: or, where ctx ended first, only errLeft.
func (t *turnstile) pass(ctx context.Context) (*consumer.DenyError, error) {
	turn, place, deny, why := t.join()
	if turn == nil {
		return deny, why
	}
	select {
	case <-turn:
	case <-ctx.Done():
		t.leave(place, turn)
		return nil, errLeft
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return unavailable("the server restarts"), errShutDown
	}
	return nil, nil
}

var errShutDown = errors.New("the router is shutting down")

// join takes a token, or a place in the line. Without a place, deny says whether
// the newcomer may go on.
func (t *turnstile) join() (turn chan struct{}, place *list.Element, deny *consumer.DenyError, why error) {
	if t.rate < 0 {
		return nil, nil, nil, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fill()
	switch wait := t.expected(); {
	case t.closed:
		return nil, nil, unavailable("the server restarts"), errShutDown
	case t.line.Len() == 0 && t.tokens >= 1:
		t.tokens--
		return nil, nil, nil, nil
	case wait > t.wait:
		deny := unavailable("too many connect at the same time")
		// Those who are sent away together must not return together.
		deny.Header = retryAfter(1 + int((wait + rand.N(max(t.wait, time.Second))).Seconds()))
		return nil, nil, deny, fmt.Errorf("%d handshakes wait, which is %v at %g a second (Options.Admission)", t.line.Len(), wait.Round(time.Millisecond), t.rate)
	}
	t.waited++
	turn = make(chan struct{})
	place = t.line.PushBack(turn)
	t.arm()
	return turn, place, nil, nil
}

// expected is how long the next in the line will have to wait. Mu is held.
func (t *turnstile) expected() time.Duration {
	missing := float64(t.line.Len()+1) - t.tokens
	return time.Duration(missing / t.rate * float64(time.Second))
}

// fill adds the tokens of the time that has passed. Mu is held.
func (t *turnstile) fill() {
	now := time.Now()
	t.tokens = min(t.tokens+now.Sub(t.at).Seconds()*t.rate, t.burst)
	t.at = now
}

// arm sets the timer for the first in the line. Mu is held.
func (t *turnstile) arm() {
	if t.timer != nil || t.line.Len() == 0 {
		return
	}
	next := time.Duration((1 - t.tokens) / t.rate * float64(time.Second))
	t.timer = time.AfterFunc(max(next, turnTick), t.tick)
}

// tick lets those through for whom there are tokens.
func (t *turnstile) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = nil
	t.fill()
	for t.tokens >= 1 && t.line.Len() > 0 {
		t.tokens--
		close(t.line.Remove(t.line.Front()).(chan struct{}))
	}
	t.arm()
}

// leave gives up a place, or the token that came meanwhile.
func (t *turnstile) leave(place *list.Element, turn chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-turn:
		t.tokens = min(t.tokens+1, t.burst)
	default:
		t.line.Remove(place)
	}
}

// close sends away all who wait, and all who come.
func (t *turnstile) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for t.line.Len() > 0 {
		close(t.line.Remove(t.line.Front()).(chan struct{}))
	}
}

// counts returns how many wait, and how many have had to.
func (t *turnstile) counts() (waiting int, waited int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.line.Len(), t.waited
}
