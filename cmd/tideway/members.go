package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/layer"
)

func (p *program) membersCommand() *cobra.Command {
	var output outputFlag
	c := &cobra.Command{
		Use:   "members GROUP",
		Short: "List who is in a group",
		Long: `Members lists the users who are present in a group, by name: since when, and with
how many connections in all processes. A note on stderr says how many connections
have no user. The site has to keep the presence of the group.`,
		Example: `  tideway members chat.lobby
  tideway members -o json chat.lobby | jq -r .user`,
		Args: groupArg,
		RunE: func(c *cobra.Command, args []string) error {
			return p.withLayer(c.Context(), func(ctx context.Context, l *layer.Layer) error { return p.listMembers(ctx, l, args[0], output) })
		},
	}
	output.register(c)
	return c
}

func groupArg(c *cobra.Command, args []string) error {
	if err := oneArg("which group?")(c, args); err != nil {
		return err
	}
	return layer.CheckGroup(args[0])
}

func (p *program) listMembers(ctx context.Context, l *layer.Layer, group string, output outputFlag) error {
	ctx, cancel := context.WithTimeout(ctx, p.server.timeout)
	defer cancel()
	all, err := allMembers(ctx, l, group)
	if err != nil {
		return err
	}
	n, err := l.CountMembers(ctx, group)
	if err != nil {
		return err
	}
	if n.Anonymous > 0 {
		p.note("and %s without a user", plural(n.Anonymous, "connection"))
	}
	if output == outputJSON {
		enc := json.NewEncoder(p.stdout)
		for _, m := range all {
			if err := enc.Encode(m); err != nil {
				return err
			}
		}
		return nil
	}
	if len(all) == 0 {
		p.note("no user is in %s", group)
		return nil
	}
	return table(p.stdout, "USER\tSINCE\tCONNECTIONS", len(all), func(i int) string {
		m := all[i]
		return fmt.Sprintf("%s\t%s\t%d", visible(m.User), m.Since.Local().Format(time.DateTime), m.Connections)
	})
}

// allMembers reads all pages.
func allMembers(ctx context.Context, l *layer.Layer, group string) (all []layer.Member, err error) {
	for after := ""; ; {
		page, err := l.Members(ctx, group, &layer.MembersOptions{After: after})
		if err != nil || len(page) == 0 {
			return all, err
		}
		all = append(all, page...)
		after = page[len(page)-1].User
	}
}
