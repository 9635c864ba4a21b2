package client

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
)

// Request sends v as JSON to the consumer's Receive, waits for its reply, and
// decodes that into reply, a pointer or nil. A refusal is an *[Error]. Events must
// be received meanwhile: the reply comes behind them.
func (c *Conn) Request(ctx context.Context, v, reply any) error {
	return c.ask(ctx, reply, func(id uint64) any {
		return struct {
			ID   uint64 `json:"id"`
			Data any    `json:"data"`
		}{id, v}
	})
}

// Authenticate sends a token over the open connection: the first one, or a new
// one before the old one expires. A refusal is an *[Error].
func (c *Conn) Authenticate(ctx context.Context, token string) error {
	return c.ask(ctx, nil, func(id uint64) any { return authFrame{id, token} })
}

// ask sends what has an id, and waits for its reply.
func (c *Conn) ask(ctx context.Context, reply any, make1 func(id uint64) any) error {
	id, answer := c.expect()
	defer c.forget(id)
	if err := c.write(ctx, make1(id)); err != nil {
		return err
	}
	return c.await(ctx, answer, reply)
}

// expect returns the id of a request to come, and where its answer will be.
func (c *Conn) expect() (id uint64, answer chan frame) {
	answer = make(chan frame, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	c.requests[c.lastID] = answer
	return c.lastID, answer
}

func (c *Conn) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.requests, id)
}

// await waits for the answer to a request.
func (c *Conn) await(ctx context.Context, answer chan frame, reply any) error {
	select {
	case f := <-answer:
		return f.answers(reply)
	case <-c.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case f := <-answer: // it came just before the end
		return f.answers(reply)
	default:
		return c.ended()
	}
}

// answers decodes a reply.
func (f *frame) answers(reply any) error {
	switch {
	case f.Error != nil:
		return f.Error
	case reply == nil:
		return nil
	}
	if err := json.Unmarshal(f.Data, reply); err != nil {
		return fmt.Errorf("client: the reply does not fit into %T: %w", reply, err)
	}
	return nil
}

// authFrame shows a token.
type authFrame struct {
	ID   uint64 `json:"id"`
	Auth string `json:"auth"`
}

// number reads a reply's id, 0 for none of ours.
func number(raw json.RawMessage) uint64 {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
