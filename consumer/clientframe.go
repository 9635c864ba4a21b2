package consumer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

const (
	// maxCursor is the longest cursor in bytes: it bounds what a client can have
	// us keep for it.
	maxCursor = 256

	// maxRequest is the largest id of a request: beyond it JavaScript's numbers
	// are not whole.
	maxRequest = 1<<53 - 1
)

// clientFrame is what a client that speaks tideway.v1 sent. One of data, token
// and resume is set, or none in a frame that nobody here understands.
type clientFrame struct {
	data    []byte            // JSON, for Receive
	token   string            // credentials
	resume  map[string]string // a cursor for each group
	session string            // of the connection before, beside resume
	id      string            // a number; "" when no reply is wanted
	ping    json.RawMessage   // a sign of life is wanted, with this in it
}

// parseClient reads a client's frame. Members that it does not know are passed
// over, so that newer clients can say more. The error is for the client.
func parseClient(text []byte, mostGroups int) (f clientFrame, err error) {
	if tooDeep(text) {
		return f, fmt.Errorf("JSON may be nested %d deep here", maxDepth)
	}
	var raw struct {
		Data    json.RawMessage   `json:"data"`
		ID      json.RawMessage   `json:"id"`
		Auth    *string           `json:"auth"`
		Resume  map[string]string `json:"resume"`
		Session string            `json:"session"`
		Ping    json.RawMessage   `json:"ping"`
	}
	if err := json.Unmarshal(text, &raw); err != nil || text[firstByte(text)] != '{' {
		return f, errors.New("this is no frame of " + Protocol + ": one JSON object, whose members have their types")
	}
	kinds := 0
	if raw.Ping != nil {
		kinds++
		if f.ping = raw.Ping; len(f.ping) > maxCursor {
			return f, fmt.Errorf("a ping has at most %d bytes", maxCursor)
		}
	}
	if raw.Data != nil {
		kinds++
		f.data = raw.Data
	}
	if raw.Auth != nil {
		kinds++
		if f.token = *raw.Auth; f.token == "" {
			return f, errors.New("the token is empty")
		}
	}
	if raw.Resume != nil {
		kinds++
		f.resume, f.session = raw.Resume, raw.Session
	}
	if kinds > 1 {
		return f, errors.New("a frame holds one of data, auth, resume and ping")
	}
	if raw.ID != nil {
		if f.id, err = requestID(raw.ID); err != nil {
			return f, err
		}
	}
	return f, checkResume(f, mostGroups)
}

// firstByte returns the place of the first byte that is no white space; JSON is
// not empty.
func firstByte(text []byte) int {
	i := 0
	for text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n' {
		i++
	}
	return i
}

// requestID returns a request's id as the reply repeats it.
func requestID(raw []byte) (string, error) {
	n, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || n > maxRequest {
		return "", fmt.Errorf("an id is a whole number from 0 to %d", int64(maxRequest))
	}
	return string(raw), nil
}

func checkResume(f clientFrame, most int) error {
	// Clients list up to 128 that they have been in, over several connections.
	if n := max(most, defaultMaxGroups); most >= 0 && len(f.resume) > n {
		return fmt.Errorf("resume has %d groups; %d is the most", len(f.resume), n)
	}
	if len(f.session) > maxCursor {
		return fmt.Errorf("a session has at most %d bytes", maxCursor)
	}
	for group, cursor := range f.resume {
		if len(group) > maxCursor || len(cursor) > maxCursor {
			return fmt.Errorf("a group and a position have at most %d bytes", maxCursor)
		}
	}
	return nil
}
