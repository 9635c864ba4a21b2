package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// ReadBody returns the body of a request, which has to say that it is JSON: a
// form of a foreign page cannot. The error is an [Error] of 400, 413 or 415.
func (a *API) ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || kind != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, Errorf(http.StatusUnsupportedMediaType, "media_type", "the Content-Type is not application/json")
	}
	// A ResponseWriter without deadlines is a test's or a framework's, which has
	// its own ways. One that stayed would end r's context when it comes.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(a.opts.BodyTimeout))
	defer control.SetReadDeadline(time.Time{})
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(a.opts.MaxBody)))
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return nil, Errorf(http.StatusRequestEntityTooLarge, "too_large", "the body is larger than %d bytes", a.opts.MaxBody)
	}
	if err != nil {
		return nil, Errorf(http.StatusBadRequest, "body", "the body did not arrive in full within %v", a.opts.BodyTimeout)
	}
	return body, nil
}

// ReadJSON reads a body that is one JSON value into v, a pointer: an object
// without members that v does not have. Without a body v stays as it is. Errors:
// those of ReadBody.
func (a *API) ReadJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if r.ContentLength == 0 {
		return nil
	}
	body, err := a.ReadBody(w, r)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err = dec.Decode(v)
	if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("there is something behind the JSON value")
	}
	if err != nil {
		return Errorf(http.StatusBadRequest, "body", "the body is not the JSON object that is wanted: %v", err)
	}
	return nil
}

// ReadMessage returns the message that is the body of a request. Errors: those of
// ReadBody and [layer.ParseMessage].
func (a *API) ReadMessage(w http.ResponseWriter, r *http.Request) (layer.Message, error) {
	body, err := a.ReadBody(w, r)
	if err != nil {
		return layer.Message{}, err
	}
	return layer.ParseMessage(body)
}

// maxKey is how long an idempotency key may be.
const maxKey = 255

// IdempotencyKey returns the header of that name, "" if there is none: printable
// ASCII, at most 255 bytes, not beginning with "~". The quotes that a structured
// header has around a string are taken off.
func IdempotencyKey(r *http.Request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := values[0]
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	bad := strings.ContainsFunc(key, func(c rune) bool { return c < ' ' || c > '~' })
	if len(values) > 1 || key == "" || len(key) > maxKey || bad || key[0] == '~' {
		return "", Errorf(http.StatusBadRequest, "idempotency_key", `the Idempotency-Key is one value of 1 to %d printable ASCII characters that does not begin with "~"`, maxKey)
	}
	return key, nil
}
