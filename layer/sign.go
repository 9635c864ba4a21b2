package layer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// ErrForged is returned by [Layer.Verify] for a token that no process of the
// network made for that purpose, or that is so old that its key is gone.
var ErrForged = errors.New("layer: the token is not one of this network, or too old")

const (
	// keyState is the name of the keys in the network's state.
	keyState = "keys.sign"

	// keysKept is how many keys verify: the newest signs, too.
	keysKept = 2

	// leastKeyAge is how long a key signs; longer where messages are kept longer,
	// so that a position is not forgotten before the messages behind it.
	leastKeyAge = 24 * time.Hour

	keyIDSize  = 4
	macSize    = 16 // of HMAC-SHA256, truncated (RFC 2104, section 5)
	keyRetry   = time.Minute
	keyTimeout = 10 * time.Second
	keyTries   = 3 // to set keys, of which the network may not say whether it has them
)

// signingKey signs for a while, and verifies for as long again.
type signingKey struct {
	Made   time.Time `json:"made"`
	Secret []byte    `json:"secret"`

	id   [keyIDSize]byte // the beginning of the secret's hash
	macs sync.Pool       // of *proof
}

// proof is a hash that has the secret, to be used again, and room for a sum.
type proof struct {
	hash.Hash
	sum [sha256.Size]byte
}

func newKey() *signingKey {
	k := &signingKey{Made: time.Now().UTC(), Secret: make([]byte, sha256.Size)}
	rand.Read(k.Secret) // it never fails
	k.name()
	return k
}

func (k *signingKey) name() {
	sum := sha256.Sum256(k.Secret)
	copy(k.id[:], sum[:])
}

// mac is what proves that data was signed for purpose, which holds no NUL.
func (k *signingKey) mac(purpose string, data []byte) [macSize]byte {
	h, ok := k.macs.Get().(*proof)
	if !ok {
		h = &proof{Hash: hmac.New(sha256.New, k.Secret)}
	}
	defer k.macs.Put(h)
	h.Reset()
	io.WriteString(h, purpose)
	h.Write([]byte{0})
	h.Write(data)
	return [macSize]byte(h.Sum(h.sum[:0]))
}

// keyring holds the keys that this process knows. In a network without durable
// groups they are its own; else they are the network's, which any process may
// make and replace: the first one wins, by compare-and-set.
type keyring struct {
	shared bool // fixed by New
	age    time.Duration
	keys   atomic.Pointer[[]*signingKey] // the newest first; never empty after New

	timer *time.Timer // renews; nil without durable groups; Layer.mu guards it

	mu    sync.Mutex // guards what follows
	asked time.Time  // when an unknown key last made us look
}

// Sign returns a token of letters, digits, "-" and "_" that holds data, readable
// for everybody, and the proof that a process of the network made it for that
// purpose. It never waits. In a network without durable groups only this process
// verifies it.
func (l *Layer) Sign(purpose string, data []byte) string {
	k := (*l.ring.keys.Load())[0]
	b := make([]byte, 0, keyIDSize+macSize+len(data))
	b = append(b, k.id[:]...)
	proof := k.mac(purpose, data)
	b = append(b, proof[:]...)
	return base64.RawURLEncoding.EncodeToString(append(b, data...))
}

// Verify returns the data of a token that [Layer.Sign] made for that purpose, in
// any process of the network. Tokens hold for a day, and at least as long as
// messages are kept; [ErrForged] says that one does not, or never did.
func (l *Layer) Verify(ctx context.Context, purpose, token string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) < keyIDSize+macSize {
		return nil, ErrForged
	}
	k := l.ring.find(b)
	if k == nil && l.ring.mayAsk() {
		if err := l.loadKeys(ctx); err != nil {
			return nil, fmt.Errorf("layer: verify: %w", err)
		}
		k = l.ring.find(b)
	}
	data := b[keyIDSize+macSize:]
	if k == nil {
		return nil, ErrForged
	}
	if want := k.mac(purpose, data); !hmac.Equal(want[:], b[keyIDSize:keyIDSize+macSize]) {
		return nil, ErrForged
	}
	return data, nil
}

// find returns the key that a token names, or nil.
func (r *keyring) find(token []byte) *signingKey {
	for _, k := range *r.keys.Load() {
		if [keyIDSize]byte(token) == k.id {
			return k
		}
	}
	return nil
}

// mayAsk reports whether a key that is unknown here is worth a look at the
// network's: not for each of a flood of forged tokens.
func (r *keyring) mayAsk() bool {
	if !r.shared {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.asked).Abs() > time.Second {
		r.asked = now
		return true
	}
	return false
}

// openKeys makes the ring ready. In a network with durable groups it needs the
// network.
func (l *Layer) openKeys(ctx context.Context) error {
	r := &l.ring
	r.keys.Store(&[]*signingKey{newKey()})
	if len(l.policies) == 0 {
		return nil
	}
	r.shared, r.age = true, leastKeyAge
	for _, p := range l.policies {
		r.age = max(r.age, p.Age)
	}
	if err := l.loadKeys(ctx); err != nil {
		return fmt.Errorf("layer: the keys that sign positions: %w", err)
	}
	l.renewKeys(l.ring.left())
	return nil
}

// left is how long the newest key will go on signing.
func (r *keyring) left() time.Duration {
	return max(r.age-time.Since((*r.keys.Load())[0].Made), 0)
}

// renewKeys replaces the newest key when its time has come.
func (l *Layer) renewKeys(after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.ring.timer = time.AfterFunc(after, func() {
		if !l.begin() {
			return
		}
		defer l.busy.Done()
		ctx, cancel := context.WithTimeout(context.Background(), keyTimeout)
		defer cancel()
		if err := l.loadKeys(ctx); err != nil {
			l.log.Warn("layer: the keys that sign positions could not be renewed; the old ones stay", "err", err)
		}
		l.renewKeys(max(l.ring.left(), keyRetry))
	})
}

// sharedKeys is what the network keeps.
type sharedKeys struct {
	Keys []*signingKey `json:"keys"`
}

// loadKeys takes over the network's keys, after it put a new one in front where
// there is none, or where the newest has signed for long enough.
func (l *Layer) loadKeys(ctx context.Context) error {
	for try := 1; ; try++ {
		raw, revision, err := l.link.State(ctx, keyState)
		if err != nil {
			return err
		}
		var s sharedKeys
		if raw != nil {
			if err := json.Unmarshal(raw, &s); err != nil {
				return &MessageError{Why: "what the network keeps under " + keyState, Err: err}
			}
		}
		if len(s.Keys) > 0 && time.Since(s.Keys[0].Made) < l.ring.age {
			for _, k := range s.Keys {
				k.name()
			}
			l.ring.keys.Store(&s.Keys)
			return nil
		}
		s.Keys = append([]*signingKey{newKey()}, s.Keys[:min(len(s.Keys), keysKept-1)]...)
		if raw, err = json.Marshal(s); err != nil {
			return err
		}
		// Whoever set it, it is read again; so it is when nobody knows whether it was set.
		if _, err := l.link.SetState(ctx, keyState, raw, revision, 0); err != nil && try == keyTries {
			return err
		}
	}
}
