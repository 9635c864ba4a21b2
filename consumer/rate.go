package consumer

import "time"

// allowance is how many messages of a client may be handled now. It grows with
// time up to a burst, and without a bound while nobody read on: what waited for us
// meanwhile came at a lawful rate.
type allowance struct {
	left float64
	at   time.Time // when left was that; zero before the first message
	told time.Time // when the client was last told that it is too fast
}

// take takes one message, and reports whether there was one left.
func (a *allowance) take(t *Terms, now time.Time) bool {
	if t.MessageRate <= 0 {
		return true
	}
	if a.at.IsZero() {
		a.left = float64(t.MessageBurst)
	} else {
		grown := a.left + now.Sub(a.at).Seconds()*float64(t.MessageRate)
		a.left = max(a.left, min(grown, float64(t.MessageBurst)))
	}
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// excuse credits a time in which nobody read.
func (a *allowance) excuse(t *Terms, d time.Duration) {
	if !a.at.IsZero() {
		a.left += d.Seconds() * float64(t.MessageRate)
		a.at = a.at.Add(d)
	}
}

const tooFast = "too many messages; slow down, or the connection is closed"

// limited refuses a message of a client that sends too many, and reports whether
// it did. A request gets its reply; else the client is told once a second.
func (c *Conn) limited(id string) bool {
	now := time.Now()
	c.mu.Lock()
	a := &c.flow.rate
	fine := a.take(c.setup.Terms, now)
	tell := !fine && (id != "" || now.Sub(a.told) >= time.Second)
	if tell && id == "" {
		a.told = now
	}
	c.mu.Unlock()
	switch {
	case fine:
		return false
	case id != "":
		c.tell(replyErrorFrame(id, refusedFrame{Code: codeRate, Message: tooFast}))
	case tell:
		c.tell(errorFrame(codeRate, tooFast))
	}
	c.setup.Stats.Limited.Add(1)
	return true
}
