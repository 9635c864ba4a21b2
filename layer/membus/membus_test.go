package membus_test

import (
	"testing"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/layertest"
	"github.com/tideway-go/tideway/layer/membus"
)

func network(testing.TB) layertest.Dial {
	bus := membus.New()
	return func(testing.TB) layer.Bus { return bus }
}

func TestBus(t *testing.T) { layertest.TestBus(t, network, &layertest.Options{Bubble: true}) }

// The same in real time, where goroutines really race.
func TestBusInRealTime(t *testing.T) { layertest.TestBus(t, network, nil) }
