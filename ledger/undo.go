// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"

	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/nft/kernel"
)

// Leftover is an entry whose thing is still there.
type Leftover struct {
	Entry

	// Detail says what was found.
	Detail string
}

// SetSysctl records a sysctl with its present value and sets it. Nothing is written if it has the value already, or one
// of those that are as good.
func (l *Ledger) SetSysctl(host *hostnet.Host, name, value string, alsoGood ...string) error {
	old, err := host.Sysctl(name)
	if err != nil {
		return err
	}
	if old == value || slices.Contains(alsoGood, old) {
		return nil
	}
	if err := l.Record(Entry{Kind: Sysctl, Name: name, Old: old}); err != nil {
		return err
	}
	return host.SetSysctl(name, value)
}

// Undo takes back every entry, the last one first, and forgets those that it took back. It goes on after an error and
// returns all of them; calling it again continues.
func (l *Ledger) Undo(ctx context.Context) error {
	world, err := l.open()
	if err != nil {
		return err
	}
	defer world.close()
	entries := l.Entries()
	slices.Reverse(entries)
	var errs []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		if err := world.undo(e); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", e, err))
			continue
		}
		if err := l.Forget(e); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Verify reports which of the given entries still have their thing. Call it with what Entries said before Undo.
func (l *Ledger) Verify(ctx context.Context, entries []Entry) ([]Leftover, error) {
	world, err := l.open()
	if err != nil {
		return nil, err
	}
	defer world.close()
	var out []Leftover
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return out, fmt.Errorf("verify: %w", err)
		}
		detail, err := world.find(e)
		if err != nil {
			return out, fmt.Errorf("verify %s: %w", e, err)
		}
		if detail != "" {
			out = append(out, Leftover{Entry: e, Detail: detail})
		}
	}
	return out, nil
}

// world is the host that entries are about. Both parts of the network are nil when the namespace is gone, and with it
// all that was in it.
type world struct {
	host   *hostnet.Host
	tables *kernel.Writer
}

func (l *Ledger) open() (*world, error) {
	host, err := hostnet.New(l.config.NetNS)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, hostnet.ErrNoNamespace) {
		return &world{}, nil
	}
	if err != nil {
		return nil, err
	}
	return &world{host: host, tables: kernel.New(kernel.Config{NetNS: host.Namespace().FD()})}, nil
}

func (w *world) close() {
	if w.host != nil {
		_ = w.host.Close()
	}
}

func (w *world) undo(e Entry) error {
	switch e.Kind {
	case Link, Address, Route, Table, Sysctl:
		if w.host == nil {
			return nil
		}
		return w.undoNetwork(e)
	case File, Folder:
		err := os.Remove(e.Name)
		if errors.Is(err, os.ErrNotExist) || e.Kind == Folder && (errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EBUSY)) {
			return nil
		}
		return err
	case Tree:
		return os.RemoveAll(e.Name)
	case Namespace:
		return hostnet.RemoveNamespace(e.Name)
	default:
		return errors.New("unknown kind")
	}
}

func (w *world) undoNetwork(e Entry) error {
	switch e.Kind {
	case Link:
		if _, err := w.host.DeletePorts(e.Name); err != nil {
			return err
		}
		return w.host.DeleteLink(e.Name)
	case Address:
		link, prefix, err := splitAddress(e.Name)
		if err != nil {
			return err
		}
		return w.host.DeleteAddress(link, prefix)
	case Route:
		prefix, err := netip.ParsePrefix(e.Name)
		if err != nil {
			return err
		}
		return w.host.DeleteRoute(prefix)
	case Table:
		return w.tables.Apply(nft.Remove(nft.INet, e.Name))
	default: // Sysctl
		// The setting of a link goes with the link.
		if _, err := w.host.Sysctl(e.Name); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return w.host.SetSysctl(e.Name, e.Old)
	}
}

// find says what is there of an entry, or "".
func (w *world) find(e Entry) (string, error) {
	switch e.Kind {
	case Link, Address, Route, Table, Sysctl:
		if w.host == nil {
			return "", nil
		}
		return w.findNetwork(e)
	case File, Tree:
		if _, err := os.Lstat(e.Name); err == nil {
			return "exists", nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	case Folder:
		// One that others have filled is theirs now.
		if list, err := os.ReadDir(e.Name); err == nil && len(list) == 0 {
			return "exists and is empty", nil
		}
	case Namespace:
		if ns, err := hostnet.Open(e.Name); err == nil {
			return "is mounted", ns.Close()
		}
	}
	return "", nil
}

func (w *world) findNetwork(e Entry) (string, error) {
	switch e.Kind {
	case Link:
		link, err := w.host.Link(e.Name)
		if errors.Is(err, hostnet.ErrNotFound) {
			return "", nil
		}
		return "a " + link.Kind, err
	case Address:
		return w.findAddress(e)
	case Route:
		routes, err := w.host.Routes()
		for _, r := range routes {
			if r.Dst.String() == e.Name {
				return "by " + r.Dev, err
			}
		}
		return "", err
	case Table:
		there, err := w.tables.Exists(nft.INet, e.Name)
		if there {
			return "exists", err
		}
		return "", err
	default: // Sysctl
		value, err := w.host.Sysctl(e.Name)
		if errors.Is(err, os.ErrNotExist) || err == nil && value == e.Old {
			return "", nil
		}
		return "is " + value + ", was " + e.Old, err
	}
}

func (w *world) findAddress(e Entry) (string, error) {
	link, prefix, err := splitAddress(e.Name)
	if err != nil {
		return "", err
	}
	list, err := w.host.Addresses(link)
	if errors.Is(err, hostnet.ErrNotFound) {
		return "", nil
	}
	if slices.Contains(list, prefix) {
		return "is there", err
	}
	return "", err
}

// splitAddress reads the name of an Address entry.
func splitAddress(name string) (string, netip.Prefix, error) {
	link, text, ok := strings.Cut(name, " ")
	if !ok {
		return "", netip.Prefix{}, fmt.Errorf("address %q: need a link and a prefix", name)
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return "", netip.Prefix{}, fmt.Errorf("address %q: %w", name, err)
	}
	return link, prefix, nil
}
