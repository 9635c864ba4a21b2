package testport

import (
	"net"
	"sync"
	"testing"
)

func TestFree(t *testing.T) {
	var mu sync.Mutex // guards given
	given := map[string]bool{}
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 50 {
				address := Free(t)
				l, err := net.Listen("tcp", address)
				if err != nil {
					t.Errorf("it is taken: %v", err)
					continue
				}
				defer l.Close()
				mu.Lock()
				if given[address] {
					t.Errorf("%s was given out twice", address)
				}
				given[address] = true
				mu.Unlock()
			}
		})
	}
	asking.Wait()
}

// A port is free for others when the test has ended.
func TestFreeIsGivenBack(t *testing.T) {
	var address string
	t.Run("who has it", func(t *testing.T) {
		address = Free(t)
		if token, err := net.ListenPacket("udp", address); err == nil {
			token.Close()
			t.Error("somebody else could have it")
		}
	})
	token, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	token.Close()
}
