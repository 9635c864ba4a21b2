package main

import (
	"net"
	"slices"
	"testing"
)

func TestNamesOfTheDemo(t *testing.T) {
	local := []string{"localhost", "127.0.0.1", "[::1]"}
	for _, tt := range []struct {
		listens string
		hosts   []string
		names   []string // nil: those of this machine
		page    string
	}{
		{"127.0.0.1:8000", nil, nil, "127.0.0.1:8000"},
		{"[::1]:8000", nil, nil, "[::1]:8000"},
		{"0.0.0.0:8000", nil, nil, "localhost:8000"},
		{"[::]:8000", []string{"chat.example.com", "other"}, append([]string{"chat.example.com", "other"}, local...), "chat.example.com:8000"},
		{"192.0.2.7:80", nil, append([]string{"192.0.2.7"}, local...), "192.0.2.7:80"},
		{"[2001:db8::7]:80", nil, append([]string{"[2001:db8::7]"}, local...), "[2001:db8::7]:80"},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tt.listens)
		if err != nil {
			t.Fatal(err)
		}
		d := &demo{program: &program{stderr: &output{}}, hosts: tt.hosts}
		if got := d.names(addr); !slices.Equal(got, tt.names) {
			t.Errorf("%s, --host %q: got the names %q, want %q", tt.listens, tt.hosts, got, tt.names)
		}
		if got := d.pageHost(addr); got != tt.page {
			t.Errorf("%s, --host %q: got the page at %s, want %s", tt.listens, tt.hosts, got, tt.page)
		}
	}
}
