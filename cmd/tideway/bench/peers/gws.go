package main

import (
	"net/http"

	"github.com/lxzan/gws"
)

// gwsServer is lxzan/gws with its Broadcaster.
type gwsServer struct {
	gws.BuiltinEventHandler
	rooms[*gws.Conn]
	upgrader *gws.Upgrader
}

// roomKey is where a connection's session keeps its room.
const roomKey = "room"

func newGWS(deflate bool) handled {
	s := &gwsServer{}
	s.upgrader = gws.NewUpgrader(s, &gws.ServerOption{
		PermessageDeflate: gws.PermessageDeflate{Enabled: deflate},
		Authorize: func(r *http.Request, session gws.SessionStorage) bool {
			room, err := roomOf(r)
			session.Store(roomKey, room)
			return err == nil
		},
	})
	return s
}

func (s *gwsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c, err := s.upgrader.Upgrade(w, r); err == nil {
		go c.ReadLoop() // the documented way to let the request go
	}
}

func (s *gwsServer) OnOpen(c *gws.Conn) { s.join(roomIn(c), c) }

func (s *gwsServer) OnClose(c *gws.Conn, _ error) { s.leave(roomIn(c), c) }

func roomIn(c *gws.Conn) int {
	v, _ := c.Session().Load(roomKey)
	room, _ := v.(int)
	return room
}

// Publish implements bench.Served.
func (s *gwsServer) Publish(room int, text []byte) error {
	m, err := message(text)
	b := gws.NewBroadcaster(gws.OpcodeText, m)
	defer b.Close()
	for _, c := range s.of(room) {
		b.Broadcast(c) // an error means that the connection ends
	}
	return err
}
