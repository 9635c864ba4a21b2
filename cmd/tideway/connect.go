package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

const defaultNATS = "nats://127.0.0.1:4222"

// serverFlags say which NATS server a command uses, and how.
type serverFlags struct {
	nats, creds, prefix string
	timeout             time.Duration
}

func (s *serverFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.nats, "nats", "", "`URL` of the NATS server, or a comma-separated list ($NATS_URL; default "+defaultNATS+")")
	f.StringVar(&s.creds, "creds", "", "NATS credentials `file` ($NATS_CREDS)")
	f.StringVar(&s.prefix, "prefix", "", "`word` that begins every NATS subject ($TIDEWAY_PREFIX; default channels)")
	f.DurationVar(&s.timeout, "timeout", 5*time.Second, "how long to wait for the server")
}

// resolve fills in what the environment says and no flag does.
func (s *serverFlags) resolve(env func(string) string) error {
	s.nats = cmp.Or(s.nats, env("NATS_URL"), defaultNATS)
	s.creds = cmp.Or(s.creds, env("NATS_CREDS"))
	s.prefix = cmp.Or(s.prefix, env("TIDEWAY_PREFIX"))
	if s.timeout <= 0 {
		return usagef("--timeout is %v; it must be longer than nothing", s.timeout)
	}
	return s.checkCreds()
}

// checkCreds finds a file that is missing before anybody waits for a server.
func (s *serverFlags) checkCreds() error {
	if s.creds == "" {
		return nil
	}
	f, err := os.Open(s.creds)
	if err != nil {
		return fmt.Errorf("the credentials of --creds or NATS_CREDS: %w", err)
	}
	return f.Close()
}

// options are for a command that is a guest at a server.
func (s *serverFlags) options(log *slog.Logger) *natsbus.Options {
	return &natsbus.Options{URL: s.nats, CredsFile: s.creds, Prefix: s.prefix, ConnectWait: s.timeout, Logger: log}
}

// explain makes an error of natsbus.New one that says what to do.
func (s *serverFlags) explain(err error) error {
	if errors.Is(err, layer.ErrUnavailable) {
		return fmt.Errorf(`no NATS server answers at %s; start one with "tideway demo", or name yours with --nats or NATS_URL`, withoutSecrets(s.nats))
	}
	return err
}

// withoutSecrets returns a list of URLs without users, passwords and tokens.
func withoutSecrets(list string) string {
	urls := strings.Split(list, ",")
	for i, u := range urls {
		scheme, rest, found := strings.Cut(strings.TrimSpace(u), "://")
		if !found {
			scheme, rest = "nats", scheme
		}
		urls[i] = scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return strings.Join(urls, ",")
}

// guest is a command's place in the network of a running site.
type guest struct {
	bus   *natsbus.Bus
	layer *layer.Layer
}

// join connects to the server that flags and environment name. The layer's
// notes go to stderr. The caller leaves in the end.
func (p *program) join(ctx context.Context, opts layer.Options) (*guest, error) {
	if err := p.server.resolve(p.env); err != nil {
		return nil, err
	}
	// The layer tells of a lost link, too; more than that is an error.
	bus, err := natsbus.New(ctx, p.server.options(slog.New(&noteHandler{p, slog.LevelError})))
	if err != nil {
		return nil, p.server.explain(err)
	}
	opts.Logger = slog.New(&noteHandler{p, slog.LevelInfo})
	l, err := layer.New(bus, &opts)
	if err != nil {
		return nil, errors.Join(err, bus.Close(ctx))
	}
	return &guest{bus, l}, nil
}

// leaveTimeout is for giving up a place in the network; a server that does not
// answer is no reason to wait.
const leaveTimeout = 5 * time.Second

func (g *guest) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	return errors.Join(g.layer.Close(ctx), g.bus.Close(ctx))
}
