package layer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrNoTicket is returned by [Layer.Redeem] for a ticket that nobody issued for
// that purpose, that was redeemed, or whose time is over: which, it does not tell.
var ErrNoTicket = errors.New("layer: the ticket is not one of this network, was used, or is too old")

const (
	ticketSize = 26 // of rand.Text, in base32
	ticketKeys = "ticket."
	maxTicket  = time.Hour
)

// Issue returns a ticket of 26 letters and digits that stands for data, which may not
// be empty, until it is redeemed or its time is over: from 1 s to an hour, in whole
// seconds, of which the network's clock may count one more. The network keeps the
// data, and a hash of the ticket: who can read there can redeem nothing. It needs
// the network: on NATS, JetStream. Errors: [ErrTooLarge], [ErrUnavailable],
// [ErrClosed], ctx's.
func (l *Layer) Issue(ctx context.Context, purpose string, data []byte, age time.Duration) (ticket string, err error) {
	switch {
	case age < time.Second || age > maxTicket || age%time.Second != 0:
		return "", fmt.Errorf("layer: issue: a ticket's time is %v; it is in whole seconds, from 1s to %v", age, maxTicket)
	case len(data) == 0:
		return "", errors.New("layer: issue: the data is empty; a ticket stands for something")
	case len(data) > l.opts.MaxMessage:
		return "", fmt.Errorf("layer: issue: %d bytes of data: %w", len(data), ErrTooLarge)
	}
	ticket = rand.Text()
	set, err := l.link.SetState(ctx, ticketKey(purpose, ticket), data, 0, age)
	if err == nil && !set {
		err = fmt.Errorf("%w: something is there already", ErrUnavailable)
	}
	if err != nil {
		return "", fmt.Errorf("layer: issue: %w", err)
	}
	return ticket, nil
}

// Redeem uses a ticket up that [Layer.Issue] made for that purpose, in any process of
// the network, and returns what it stands for. Of several calls with one ticket, at
// whichever processes, one gets it; the others get [ErrNoTicket]. After any other
// error it may be used up or not.
func (l *Layer) Redeem(ctx context.Context, purpose, ticket string) ([]byte, error) {
	if !mayBeTicket(ticket) {
		return nil, ErrNoTicket
	}
	key := ticketKey(purpose, ticket)
	data, revision, err := l.link.State(ctx, key)
	if err == nil && data == nil {
		return nil, ErrNoTicket
	}
	taken := false
	if err == nil {
		// Whoever takes the revision away that was read has the ticket.
		taken, err = l.link.SetState(ctx, key, nil, revision, 0)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("layer: redeem: %w", err)
	case !taken:
		return nil, ErrNoTicket
	}
	return data, nil
}

// ticketKey is where the network keeps what a ticket stands for. The purpose holds
// no NUL.
func ticketKey(purpose, ticket string) string {
	sum := sha256.Sum256([]byte(purpose + "\x00" + ticket))
	return ticketKeys + hex.EncodeToString(sum[:])
}

// mayBeTicket reports whether a text could come from Issue, so that garbage costs
// the network nothing.
func mayBeTicket(s string) bool {
	return len(s) == ticketSize && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}
