//go:build unix

package main

import (
	"io"
	"os"
	"testing"
)

func TestColorIsForTerminals(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, tt := range []struct {
		name   string
		flag   colorFlag
		stdout io.Writer
		env    map[string]string
		want   bool
	}{
		{"on a terminal", colorAuto, terminal, nil, true},
		{"NO_COLOR", colorAuto, terminal, map[string]string{"NO_COLOR": "1"}, false},
		{"NO_COLOR that is empty", colorAuto, terminal, map[string]string{"NO_COLOR": ""}, true},
		{"a terminal without colour", colorAuto, terminal, map[string]string{"TERM": "dumb"}, false},
		{"/dev/null", colorAuto, null, nil, false},
		{"something in memory", colorAuto, &output{}, nil, false},
		{"always", colorAlways, null, map[string]string{"NO_COLOR": "1"}, true},
		{"never", colorNever, terminal, nil, false},
	} {
		env := func(name string) string { return tt.env[name] }
		if got := tt.flag.on(tt.stdout, env); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
