package layer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// MembersOptions are the settings of [Layer.Members]. A nil *MembersOptions and
// the zero MembersOptions mean the defaults.
type MembersOptions struct {
	// After is the last user of the page before. Default "": from the start.
	After string

	// Limit is how many members are returned at most. Default 1,000, at most
	// 10,000.
	Limit int
}

const (
	defaultMembers = 1000
	mostMembers    = 10_000
)

// Members returns the users who are present in a group, in the order of their
// names, byte by byte; the next page follows the last user of this one. A process
// with members in the group knows them all; any other asks those that have some.
// Channels that nobody identified are not listed. Errors: *[NameError],
// [ErrNoPresence], [ErrUnavailable], [ErrClosed], ctx's.
func (l *Layer) Members(ctx context.Context, group string, opts *MembersOptions) ([]Member, error) {
	var o MembersOptions
	if opts != nil {
		o = *opts
	}
	o.Limit = orDefault(o.Limit, defaultMembers)
	if o.Limit < 1 || o.Limit > mostMembers {
		return nil, fmt.Errorf("layer: members of group %s: MembersOptions.Limit is %d; want 1 to %d", group, o.Limit, mostMembers)
	}
	if err := l.checkMembers(group); err != nil {
		return nil, err
	}
	var all []Member
	if l.presence.look(group, func(t *table) { all = t.members(o.After, o.Limit) }) {
		return all, nil
	}
	found, err := l.askMembers(ctx, group, o.After, o.Limit)
	if err != nil {
		return nil, fmt.Errorf("layer: members of group %s: %w", group, err)
	}
	return found.members, nil
}

// CountMembers counts who is present in a group. It is cheap in a process with
// members in the group; any other has to read all their names. Errors: those of
// [Layer.Members].
func (l *Layer) CountMembers(ctx context.Context, group string) (MemberCount, error) {
	if err := l.checkMembers(group); err != nil {
		return MemberCount{}, err
	}
	var n MemberCount
	if l.presence.look(group, func(t *table) { n = t.count() }) {
		return n, nil
	}
	for after := ""; ; {
		found, err := l.askMembers(ctx, group, after, mostMembers)
		if err != nil {
			return MemberCount{}, fmt.Errorf("layer: count the members of group %s: %w", group, err)
		}
		n.Users += len(found.members)
		n.Anonymous = found.nobody
		for _, m := range found.members {
			n.Connections += m.Connections
		}
		if !found.more {
			return n, nil
		}
		after = found.members[len(found.members)-1].User
	}
}

func (l *Layer) checkMembers(group string) error {
	if err := CheckGroup(group); err != nil {
		return err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.presence != nil && l.presenceOf(group) == nil:
		return fmt.Errorf("%w: no policy of Options.Presence covers %s", ErrNoPresence, group)
	}
	return nil
}

// look calls f with the table of a group, if there is one that knows all.
func (p *presences) look(group string, f func(*table)) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.layer.now()
	p.drain(now)
	t := p.tables[group]
	if t == nil || !t.settled(now) {
		return false
	}
	f(t)
	return true
}

// foundMembers is a page of members, put together from all processes.
type foundMembers struct {
	members []Member
	nobody  int
	more    bool
}

// askMembers asks all processes for their own members. That nobody keeps them is
// asked twice: whoever does may have been too busy to answer in time.
func (l *Layer) askMembers(ctx context.Context, group, after string, limit int) (foundMembers, error) {
	f, err := l.askMembersOnce(ctx, group, after, limit)
	if errors.Is(err, ErrNoPresence) {
		f, err = l.askMembersOnce(ctx, group, after, limit)
	}
	return f, err
}

func (l *Layer) askMembersOnce(ctx context.Context, group, after string, limit int) (foundMembers, error) {
	answers, err := l.Command(ctx, "", "presence", presenceArgs{Group: group, After: after, Limit: limit})
	if err != nil {
		return foundMembers{}, err
	}
	if err := ctx.Err(); err != nil {
		return foundMembers{}, err // some may not have answered
	}
	var pages []*presencePage
	kept := false
	for _, a := range answers {
		page, err := parsePage(a)
		if err != nil {
			return foundMembers{}, &MessageError{Why: "an answer to the command presence", Err: err}
		}
		kept = kept || page.Kept
		pages = append(pages, page)
	}
	if !kept {
		return foundMembers{}, fmt.Errorf("%w: no process has a policy that covers it", ErrNoPresence)
	}
	return merge(pages, limit), nil
}

// merge makes one page of those of all processes. It ends where a page ends that
// others follow: what comes behind may be missing there.
func merge(pages []*presencePage, limit int) (f foundMembers) {
	users := map[string]*attendee{}
	end, cut := "", false
	for _, p := range pages {
		f.nobody += p.Nobody
		if p.More {
			if last := p.Seats[len(p.Seats)-1].User; !cut || last < end {
				end, cut = last, true
			}
		}
		for _, s := range p.Seats {
			u := users[s.User]
			if u == nil {
				u = &attendee{since: math.MaxInt64}
				users[s.User] = u
			}
			u.connections += s.N
			u.since = min(u.since, s.Since)
		}
	}
	for user, u := range users {
		if !cut || strings.Compare(user, end) <= 0 {
			f.members = append(f.members, u.member(user))
		}
	}
	slices.SortFunc(f.members, byUser)
	f.more = cut
	if len(f.members) > limit {
		f.members, f.more = f.members[:limit], true
	}
	return f
}
