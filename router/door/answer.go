package door

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
)

// Fail answers a request with an error, in the form that all doors use.
func Fail(w http.ResponseWriter, status int, code, message string) {
	type body struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	Reply(w, status, map[string]body{"error": {code, message}})
}

// Reply answers a request with a value, as JSON.
func Reply(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // a value of ours
		status, data = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"the answer cannot be encoded"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // who asked has left
}

// Decode reads the body of a request as one JSON value into v, a pointer; an empty
// body leaves v as it is. What is wrong with the body it answers, and returns
// false.
func Decode(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if errors.Is(err, io.EOF) {
		return true
	}
	if err == nil {
		if _, more := d.Token(); errors.Is(more, io.EOF) {
			return true
		}
		err = errors.New("there is something behind the JSON value")
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		Fail(w, http.StatusRequestEntityTooLarge, "too_large", large.Error())
		return false
	}
	Fail(w, http.StatusBadRequest, "bad_body", "the body is not the JSON object that is wanted: "+err.Error())
	return false
}
