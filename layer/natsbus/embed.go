package natsbus

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Embedded is a NATS server inside this process. The zero value has no
// listener: the Bus is connected to it in memory, and nothing else is.
type Embedded struct {
	// Name names the server. Default: a random name. The servers of one
	// cluster need different names, which stay the same over restarts when the
	// cluster stores streams.
	Name string

	// Listen is the address for NATS clients of other processes, such as
	// "127.0.0.1:4222"; port 0 takes a free one, see Bus.ClientURL. Default "":
	// no listener.
	Listen string

	// Token, or User and Password, are what clients at Listen have to show.
	// Default: nothing, so whoever reaches the address may take part.
	Token    string
	User     string
	Password string

	// TLS is for clients at Listen. Default: none.
	TLS *tls.Config

	// Cluster joins the server to others. Default: it stands alone.
	Cluster *Cluster

	// NoJetStream turns JetStream off, which shared channels need. Default: on.
	NoJetStream bool

	// StoreDir is the folder for JetStream's files. Default: a new temporary
	// folder that Close removes; nothing then outlives the process.
	StoreDir string

	// MaxMemory and MaxStore bound what JetStream keeps in memory and in
	// StoreDir, in bytes. Defaults: 512 MiB and 4 GiB.
	MaxMemory int64
	MaxStore  int64

	// SyncInterval is how often JetStream's files are flushed to the disk. The
	// writes of that time may be lost with the power, not with the process.
	// Default 1 second; negative: after every write.
	SyncInterval time.Duration

	// MaxPayload is the largest message with its headers, in bytes. Default
	// 1 MiB and 64 KiB, so that a message of 1 MiB passes whatever its headers.
	MaxPayload int

	// Configure is called last with the server's options, for what has no
	// field here, such as leaf nodes. Default nil.
	Configure func(*server.Options)
}

// Cluster is a full mesh of NATS servers. Each lists all, itself included, and
// so they start in any order.
type Cluster struct {
	// Name is the cluster's name, the same on all servers. Default "tideway".
	Name string

	// Listen is the address for the other servers, such as "10.0.0.1:6222".
	// Required.
	Listen string

	// Routes are the Listen addresses of all servers. JetStream requires at
	// least one.
	Routes []string

	// Secret is what the servers show each other, the same on all. Default:
	// nothing, so whoever reaches Listen may take part.
	Secret string

	// TLS is for the connections between the servers; it has to hold a
	// certificate and the authority that signed the others'. Default: none.
	TLS *tls.Config

	// Wait is how long New waits for the other servers of Routes. It is no error
	// when there is none by then. Default 2 seconds.
	Wait time.Duration
}

const (
	defaultMaxPayload = 1<<20 + 64<<10
	startTimeout      = 10 * time.Second
	clusterUser       = "tideway"
)

// embeddedServer is a running server.
type embeddedServer struct {
	*server.Server
	tempDir  string      // removed at the end
	login    nats.Option // what its own client shows
	listens  bool        // it has a listener that was asked for
	networks bool        // other servers may be connected to it
}

// startServer starts the server. When ctx ends first, it is stopped.
func startServer(ctx context.Context, e *Embedded, log *slog.Logger) (*embeddedServer, error) {
	o, err := e.serverOptions()
	if err != nil {
		return nil, err
	}
	s := &embeddedServer{listens: e.Listen != ""}
	if s.tempDir, err = e.storeDir(o); err != nil {
		return nil, err
	}
	if e.Configure != nil {
		e.Configure(o)
	}
	s.networks = o.Cluster.Port != 0 || o.LeafNode.Port != 0 || len(o.LeafNode.Remotes) > 0 || o.Gateway.Port != 0
	s.login = loginOption(o)
	if err := s.start(ctx, o, log); err != nil {
		s.stop()
		return nil, err
	}
	if e.Cluster != nil {
		s.awaitRoutes(ctx, e.Cluster)
	}
	return s, nil
}

func (s *embeddedServer) start(ctx context.Context, o *server.Options, log *slog.Logger) error {
	if err := checkFree(o); err != nil {
		return err
	}
	srv, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("natsbus: the embedded server's options: %w", err)
	}
	s.Server = srv
	logger := newServerLogger(log)
	srv.SetLoggerV2(logger, logger.debug, false, false)
	srv.Start()
	deadline := time.Now().Add(startTimeout)
	for !srv.ReadyForConnections(20 * time.Millisecond) {
		select {
		case fatal := <-logger.fatal:
			return fmt.Errorf("natsbus: the embedded server did not start: %s", fatal)
		case <-ctx.Done():
			return fmt.Errorf("natsbus: the embedded server did not start: %w", ctx.Err())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("natsbus: the embedded server did not start within %v", startTimeout)
		}
	}
	return nil
}

// stop ends the server and waits until it has written what it holds.
func (s *embeddedServer) stop() {
	if s.Server != nil {
		s.Shutdown()
		s.WaitForShutdown()
	}
	if s.tempDir != "" {
		os.RemoveAll(s.tempDir)
	}
}

// peers returns how many other servers there is a route to.
func (s *embeddedServer) peers() int {
	z, err := s.Routez(nil)
	if err != nil {
		return 0
	}
	ids := map[string]bool{}
	for _, r := range z.Routes {
		ids[r.RemoteID] = true
	}
	return len(ids)
}

// awaitRoutes waits for the other servers, so that a process that starts into a
// running cluster is a part of it when New returns: a route to one of them alone
// says nothing about what is published on the others.
func (s *embeddedServer) awaitRoutes(ctx context.Context, c *Cluster) {
	others := len(c.Routes)
	for _, r := range c.Routes {
		if strings.TrimPrefix(r, "nats-route://") == c.Listen {
			others--
		}
	}
	if others == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Wait, 2*time.Second))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.peers() < others {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// serverOptions turns e into nats-server's options.
func (e *Embedded) serverOptions() (*server.Options, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName:         cmp.Or(e.Name, "tw"+rand.Text()),
		DontListen:         e.Listen == "" && e.Cluster == nil,
		NoSigs:             true,
		NoLog:              true,
		MaxPayload:         int32(cmp.Or(e.MaxPayload, defaultMaxPayload)),
		Authorization:      e.Token,
		Username:           e.User,
		Password:           e.Password,
		TLSConfig:          e.TLS,
		TLS:                e.TLS != nil,
		AllowNonTLS:        false,
		JetStream:          !e.NoJetStream,
		JetStreamMaxMemory: cmp.Or(e.MaxMemory, 512<<20),
		JetStreamMaxStore:  cmp.Or(e.MaxStore, 4<<30),
		// One consumer for each shared channel in use.
		JetStreamLimits:        server.JSLimitOpts{DefaultMaxConsumers: -1},
		DisableJetStreamBanner: true,
		SyncInterval:           cmp.Or(max(e.SyncInterval, 0), time.Second),
		SyncAlways:             e.SyncInterval < 0,
	}
	if e.Listen != "" {
		var err error
		if o.Host, o.Port, err = splitAddress("Embedded.Listen", e.Listen); err != nil {
			return nil, err
		}
	}
	if e.Cluster != nil {
		return o, e.clusterOptions(o)
	}
	return o, nil
}

// clusterOptions adds the cluster to o. Routing waits for a client listener, so
// a server that was not given one listens on the loopback interface and lets
// nobody in.
func (e *Embedded) clusterOptions(o *server.Options) error {
	c := e.Cluster
	host, port, err := splitAddress("Cluster.Listen", c.Listen)
	if err != nil {
		return err
	}
	o.Cluster = server.ClusterOpts{
		Name: cmp.Or(c.Name, "tideway"), Host: host, Port: port,
		TLSConfig: c.TLS, TLSTimeout: 5, NoAdvertise: e.Listen == "",
	}
	if c.Secret != "" {
		o.Cluster.Username, o.Cluster.Password = clusterUser, c.Secret
	}
	if e.Listen == "" {
		o.Host, o.Port = "127.0.0.1", server.RANDOM_PORT
		o.Authorization = rand.Text()
	}
	for _, r := range c.Routes {
		r = strings.TrimPrefix(r, "nats-route://")
		if _, _, err := splitAddress("Cluster.Routes", r); err != nil {
			return err
		}
		u := &url.URL{Scheme: "nats-route", Host: r}
		if c.Secret != "" {
			u.User = url.UserPassword(clusterUser, c.Secret)
		}
		o.Routes = append(o.Routes, u)
	}
	return nil
}

// check finds settings that contradict each other.
func (e *Embedded) check() error {
	c := e.Cluster
	switch {
	case e.Token != "" && e.User != "":
		return errors.New("natsbus: Embedded.Token and Embedded.User exclude each other: set one")
	case (e.User == "") != (e.Password == ""):
		return errors.New("natsbus: Embedded.User and Embedded.Password belong together: set both or neither")
	case e.Listen == "" && (e.Token != "" || e.User != "" || e.TLS != nil):
		return errors.New("natsbus: Embedded.Token, User and TLS are for clients at Embedded.Listen, which is empty")
	case e.NoJetStream && (e.StoreDir != "" || e.MaxMemory != 0 || e.MaxStore != 0 || e.SyncInterval != 0):
		return errors.New("natsbus: Embedded.NoJetStream excludes StoreDir, MaxMemory, MaxStore and SyncInterval")
	case e.MaxPayload < 0 || e.MaxPayload > 64<<20:
		return fmt.Errorf("natsbus: Embedded.MaxPayload is %d, not within 1 byte and 64 MiB", e.MaxPayload)
	case e.MaxMemory < 0 || e.MaxStore < 0:
		return errors.New("natsbus: Embedded.MaxMemory and MaxStore cannot be negative")
	case c == nil:
		return nil
	case c.Listen == "":
		return errors.New("natsbus: Cluster.Listen is empty: say where the other servers reach this one, such as 10.0.0.1:6222")
	case len(c.Routes) == 0 && !e.NoJetStream:
		return errors.New("natsbus: Cluster.Routes is empty: JetStream needs the addresses of all servers on each of them")
	case c.Wait < 0:
		return fmt.Errorf("natsbus: Cluster.Wait is %v, less than 0", c.Wait)
	}
	return nil
}

// storeDir sets o.StoreDir; left empty, nats-server would share one temporary
// folder between all processes of the machine.
func (e *Embedded) storeDir(o *server.Options) (temp string, err error) {
	if e.NoJetStream {
		return "", nil
	}
	o.StoreDir = e.StoreDir
	if o.StoreDir != "" {
		return "", nil
	}
	if temp, err = os.MkdirTemp("", "tideway-nats-"); err != nil {
		return "", fmt.Errorf("natsbus: a folder for JetStream: %w", err)
	}
	o.StoreDir = temp
	return temp, nil
}

// loginOption is what the server's own client has to show.
func loginOption(o *server.Options) nats.Option {
	switch {
	case o.Authorization != "":
		return nats.Token(o.Authorization)
	case o.Username != "":
		return nats.UserInfo(o.Username, o.Password)
	}
	return func(*nats.Options) error { return nil }
}

// checkFree tries the addresses first: the server itself only logs that one is
// taken.
func checkFree(o *server.Options) error {
	addresses := map[string]string{}
	if !o.DontListen && o.Port > 0 {
		addresses["Embedded.Listen"] = net.JoinHostPort(o.Host, strconv.Itoa(o.Port))
	}
	if o.Cluster.Port > 0 {
		addresses["Cluster.Listen"] = net.JoinHostPort(o.Cluster.Host, strconv.Itoa(o.Cluster.Port))
	}
	for field, address := range addresses {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("natsbus: cannot listen on %s (%s): %w", address, field, err)
		}
		l.Close()
	}
	return nil
}

// splitAddress parses host:port; nats-server wants -1 for any free port.
func splitAddress(field, address string) (host string, port int, err error) {
	host, service, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(service)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("natsbus: %s %q is not valid: want host:port", field, address)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	return host, port, nil
}
