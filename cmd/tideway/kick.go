package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/router"
)

func (p *program) kickCommand() *cobra.Command {
	var k router.Kick
	var code int
	c := &cobra.Command{
		Use:   "kick --user USER | --session SESSION | --group GROUP",
		Short: "Close the connections of a user, a session or a group, on every node",
		Long: `Kick closes the connections of a user, of one session or in a group, in every
process of the site, and prints how many there were. What the user may do afterwards is
for the site's authentication to decide: revoke the credentials first.`,
		Example: `  tideway kick --user ann
  tideway kick --session 3f9c1a --reason "logged out elsewhere" --code 4001`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			k.Code = consumer.StatusCode(code)
			if err := checkKick(k); err != nil {
				return err
			}
			return p.kick(c.Context(), k)
		},
	}
	f := c.Flags()
	f.StringVar(&k.User, "user", "", "`ID` of the user")
	f.StringVar(&k.Session, "session", "", "`ID` of the session")
	f.StringVar(&k.Group, "group", "", "`name` of a group that they are in; of several flags, all must match")
	f.StringVar(&k.Reason, "reason", "", "`text` for the client (default \"closed by an operator\")")
	f.IntVar(&code, "code", int(consumer.StatusForbidden), "close `code` for the client")
	return c
}

// kickCodes are the close codes below 3000 that say something true about a kick.
var kickCodes = []consumer.StatusCode{
	consumer.StatusNormalClosure, consumer.StatusPolicyViolation, consumer.StatusServiceRestart, consumer.StatusTryAgainLater,
}

// checkKick finds what the far end could not carry out (RFC 6455, sections 5.5
// and 7.4.2).
func checkKick(k router.Kick) error {
	switch {
	case k.User == "" && k.Session == "" && k.Group == "":
		return usagef("whom? give --user, --session or --group")
	case len(k.Reason) > 123:
		return usagef("--reason has %d bytes; a close frame has room for 123", len(k.Reason))
	case !slices.Contains(kickCodes, k.Code) && (k.Code < 3000 || k.Code > 4999):
		return usagef("--code is %d; it is 1000, 1008, 1012, 1013 or from 3000 to 4999", k.Code)
	}
	return nil
}

func (p *program) kick(ctx context.Context, k router.Kick) (err error) {
	g, err := p.join(ctx, layer.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.leave(ctx)) }()
	ctx, cancel := context.WithTimeout(ctx, p.server.timeout)
	defer cancel()
	n, err := k.Do(ctx, g.layer)
	fmt.Fprintln(p.stdout, plural(n, "connection"), "closed")
	return err
}

func plural(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
