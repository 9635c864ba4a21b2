package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/tideway-go/tideway/cmd/tideway/bench"
)

// centrifugeServer is a centrifuge node with its JSON protocol and a server-side
// subscription for each client, buffers and goroutines saved as it documents.
type centrifugeServer struct {
	site
	node  *centrifuge.Node
	open  atomic.Int64
	redis *redis // nil without

	// On Redis a publish waits for its answer. So that this does not bound the
	// rate, rooms are shared out among publishers.
	publishers [publishers]chan centrifugeMessage
	publishing sync.WaitGroup
	failed     atomic.Pointer[error]
}

const publishers = 16

type centrifugeMessage struct {
	room int
	data []byte
}

func startCentrifuge(ctx context.Context, s bench.Site) (bench.Served, bench.Opened, error) {
	if s.Shared || !s.Serve {
		return nil, bench.Opened{}, errors.New("its broker is in memory: use --publisher inside, or centrifuge-redis")
	}
	return newCentrifuge(s, nil, "")
}

// startCentrifugeRedis has a Redis server of its own, as Debian packages it.
func startCentrifugeRedis(ctx context.Context, s bench.Site) (bench.Served, bench.Opened, error) {
	if s.Broker != "" {
		return newCentrifuge(s, nil, s.Broker)
	}
	r, err := startRedis(ctx)
	if err != nil {
		return nil, bench.Opened{}, err
	}
	served, opened, err := newCentrifuge(s, r, r.addr)
	if err != nil {
		r.close()
		return nil, opened, err
	}
	opened.PIDs = []int{r.process.Process.Pid}
	return served, opened, nil
}

func newCentrifuge(s bench.Site, r *redis, broker string) (bench.Served, bench.Opened, error) {
	opened := bench.Opened{Broker: broker, Path: path, Hello: `{"id":1,"connect":{}}`, Replies: 1}
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return nil, opened, err
	}
	if broker != "" {
		if err := onRedis(node, broker); err != nil {
			return nil, opened, err
		}
	}
	c := &centrifugeServer{node: node, redis: r}
	node.OnConnecting(func(ctx context.Context, _ centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		room, _ := ctx.Value(roomInContext{}).(int)
		return centrifuge.ConnectReply{Subscriptions: map[string]centrifuge.SubscribeOptions{channel(room): {}}}, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		c.open.Add(1)
		client.OnDisconnect(func(centrifuge.DisconnectEvent) { c.open.Add(-1) })
	})
	if err := node.Run(); err != nil {
		return nil, opened, err
	}
	if broker != "" {
		c.startPublishers()
	}
	if s.Serve {
		opened.Addr, err = c.listen(c.handler(s.Deflate))
	}
	return c, opened, err
}

func (c *centrifugeServer) startPublishers() {
	for i := range c.publishers {
		in := make(chan centrifugeMessage, 256)
		c.publishers[i] = in
		c.publishing.Go(func() {
			for m := range in {
				if _, err := c.node.Publish(channel(m.room), m.data); err != nil {
					c.failed.Store(&err)
				}
			}
		})
	}
}

func onRedis(node *centrifuge.Node, address string) error {
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: address})
	if err != nil {
		return err
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return err
	}
	node.SetBroker(broker)
	return nil
}

type roomInContext struct{}

func channel(room int) string { return "room" + strconv.Itoa(room) }

func (c *centrifugeServer) handler(deflate bool) http.Handler {
	config := centrifuge.WebsocketConfig{
		ReadBufferSize: 512, WriteBufferSize: 1024, UseWriteBufferPool: true, ProcessCommandsOffReadLoop: true,
		Compression: deflate,
		// The load client answers no pings.
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1},
	}
	if deflate {
		config.CompressionPreparedMessageCacheSize = 1 << 20
	}
	sockets := centrifuge.NewWebsocketHandler(c.node, config)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		room, err := roomOf(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx := context.WithValue(r.Context(), roomInContext{}, room)
		sockets.ServeHTTP(w, r.WithContext(centrifuge.SetCredentials(ctx, &centrifuge.Credentials{})))
	})
}

// Publish implements bench.Served.
func (c *centrifugeServer) Publish(room int, text []byte) error {
	m, err := message(text)
	if err != nil {
		return err
	}
	if in := c.publishers[room%publishers]; in != nil {
		in <- centrifugeMessage{room, m}
		if failed := c.failed.Load(); failed != nil {
			return *failed
		}
		return nil
	}
	_, err = c.node.Publish(channel(room), m)
	return err
}

// Connections implements bench.Served.
func (c *centrifugeServer) Connections() int { return int(c.open.Load()) }

// Close implements bench.Served.
func (c *centrifugeServer) Close() {
	if c.server.Handler != nil {
		c.site.Close()
	}
	for _, in := range c.publishers {
		if in != nil {
			close(in)
		}
	}
	c.publishing.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.node.Shutdown(ctx) // its time may be up: the process ends
	c.redis.close()
}

// redis is a Redis server that keeps nothing.
type redis struct {
	process *exec.Cmd
	addr    string
	folder  string
	output  sync.WaitGroup
}

func startRedis(ctx context.Context) (*redis, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	ln.Close()
	_, port, _ := net.SplitHostPort(addr)
	folder, err := os.MkdirTemp("", "bench-redis-")
	if err != nil {
		return nil, err
	}
	r := &redis{addr: addr, folder: folder}
	r.process = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder)
	out, err := r.process.StdoutPipe()
	if err == nil {
		err = r.process.Start()
	}
	if err != nil {
		os.RemoveAll(folder)
		return nil, fmt.Errorf("start redis-server, of Debian's package of that name: %w", err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	r.output.Go(func() {
		defer close(ended)
		told := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if !told && strings.Contains(lines.Text(), "Ready to accept connections") {
				told = true
				close(ready)
			}
		}
	})
	select {
	case <-ready:
		return r, nil
	case <-ended:
		r.close()
		return nil, errors.New("redis-server ended before it was ready")
	case <-ctx.Done():
		r.close()
		return nil, fmt.Errorf("redis-server is not ready: %w", ctx.Err())
	}
}

func (r *redis) close() {
	if r == nil {
		return
	}
	r.process.Process.Kill()
	r.output.Wait()
	r.process.Wait() // it was killed
	os.RemoveAll(r.folder)
}
