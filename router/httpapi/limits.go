package httpapi

import (
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// usage is what one caller has used of what it may.
type usage struct {
	rate, burst, streams int // negative: no limit

	mu     sync.Mutex // guards all below
	tokens float64
	filled time.Time
	open   int // streams
}

func newUsage(rate, burst, streams int) *usage {
	return &usage{rate: rate, burst: burst, streams: streams, tokens: float64(burst), filled: time.Now()}
}

// spend takes one request out of the bucket, or says when there will be one.
func (u *usage) spend() error {
	if u.rate < 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.tokens = min(float64(u.burst), u.tokens+now.Sub(u.filled).Seconds()*float64(u.rate))
	u.filled = now
	if u.tokens < 1 {
		wait := time.Duration((1 - u.tokens) / float64(u.rate) * float64(time.Second))
		return retry(wait, http.StatusTooManyRequests, "rate_limited", "more than %d requests a second, and %d at once, with these credentials", u.rate, u.burst)
	}
	u.tokens--
	return nil
}

// idle reports whether the usage is as good as a new one.
func (u *usage) idle() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.open == 0 && time.Since(u.filled) > time.Minute
}

// stream takes one of the streams that the caller may have.
func (u *usage) stream() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.streams >= 0 && u.open >= u.streams {
		return retry(5*time.Second, http.StatusTooManyRequests, "too_many_streams", "%d streams are open with these credentials, which is the most", u.open)
	}
	u.open++
	return nil
}

func (u *usage) unstream() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.open--
}

// Stream counts a response that lasts, such as server-sent events, until done is
// called. Its error says that there are too many of them, or that the server
// shuts down. The channel that [API.Draining] returns says when to end it.
func (a *API) Stream(c *Caller) (done func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.ending:
		return nil, retry(2*time.Second, http.StatusServiceUnavailable, "shutting_down", "this server is shutting down; another one may be up")
	case a.opts.MaxStreams >= 0 && a.streams >= a.opts.MaxStreams:
		return nil, retry(5*time.Second, http.StatusServiceUnavailable, "too_many_streams", "%d streams are open, which is the most", a.streams)
	}
	if err := c.usage.stream(); err != nil {
		return nil, err
	}
	a.streams++
	return sync.OnceFunc(func() {
		c.usage.unstream()
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.streams--; a.ending && a.streams == 0 {
			close(a.empty)
		}
	}), nil
}

// sampler lets a line a second into the log, with how many it stands for.
type sampler struct {
	mu      sync.Mutex // guards all below
	last    time.Time
	skipped int
}

func (s *sampler) tell(log *slog.Logger, text string, args ...any) {
	s.mu.Lock()
	now := time.Now()
	if !s.last.IsZero() && now.Sub(s.last) < time.Second {
		s.skipped++
		s.mu.Unlock()
		return
	}
	skipped := s.skipped
	s.last, s.skipped = now, 0
	s.mu.Unlock()
	if skipped > 0 {
		args = append(args, "and_before", skipped)
	}
	log.Info(text, args...)
}
