package main

import (
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
)

func TestTailLine(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7_000_000, time.UTC)
	for _, tt := range []struct{ name, data, text, json string }{
		{
			"the type comes first",
			`{"type":"chat.message","user":"ann"}`,
			`04:05:06.007  lobby  chat.message  {"user":"ann"}`,
			`{"time":"2026-02-03T04:05:06.007Z","group":"lobby","type":"chat.message","data":{"type":"chat.message","user":"ann"}}`,
		}, {
			"the type comes later",
			`{"user":"ann","type":"chat.message"}`,
			`04:05:06.007  lobby  chat.message  {"user":"ann","type":"chat.message"}`,
			`{"time":"2026-02-03T04:05:06.007Z","group":"lobby","type":"chat.message","data":{"user":"ann","type":"chat.message"}}`,
		}, {
			"nothing but a type",
			`{"type":"ping"}`,
			`04:05:06.007  lobby  ping  {}`,
			`{"time":"2026-02-03T04:05:06.007Z","group":"lobby","type":"ping","data":{"type":"ping"}}`,
		}, {
			"over several lines",
			"{\n  \"type\": \"ping\",\r\n  \"n\": [1,\n 2]\n}\n",
			`04:05:06.007  lobby  ping  {"n":[1,2]}`,
			`{"time":"2026-02-03T04:05:06.007Z","group":"lobby","type":"ping","data":{"type":"ping","n":[1,2]}}`,
		}, {
			"commands for a terminal",
			"{\"type\":\"\\u001b]0;x\",\"a\":\"\u009b31m\u202e\x7f\"}",
			`04:05:06.007  lobby  \u001b]0;x  {"a":"\u009b31m\u202e\u007f"}`,
			"{\"time\":\"2026-02-03T04:05:06.007Z\",\"group\":\"lobby\",\"type\":\"\\u001b]0;x\",\"data\":{\"type\":\"\\u001b]0;x\",\"a\":\"\u009b31m\u202e\x7f\"}}",
		}, {
			"markup is nobody's business",
			`{"type":"a<b>","b":"&"}`,
			`04:05:06.007  lobby  a<b>  {"b":"&"}`,
			`{"time":"2026-02-03T04:05:06.007Z","group":"lobby","type":"a<b>","data":{"type":"a<b>","b":"&"}}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := layer.ParseMessage([]byte(tt.data))
			if err != nil {
				t.Fatal(err)
			}
			m.Group = "lobby"
			text, js := &tailing{output: outputText}, &tailing{output: outputJSON}
			if got, want := string(text.line(m, at, false)), tt.text+"\n"; got != want {
				t.Errorf("text: got %q, want %q", got, want)
			}
			if got, want := string(js.line(m, at, false)), tt.json+"\n"; got != want {
				t.Errorf("json: got %q, want %q", got, want)
			}
		})
	}
}

func TestWithoutSecrets(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"nats://127.0.0.1:4222", "nats://127.0.0.1:4222"},
		{"nats://ann:pass@host:1", "nats://host:1"},
		{"tls://token@host:1, ann:p@ss@other", "tls://host:1,nats://other"},
		{"host", "nats://host"},
	} {
		if got := withoutSecrets(tt.url); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.url, got, tt.want)
		}
	}
}
