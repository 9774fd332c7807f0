// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/hostnet"
	"kogge.dev/kogge/internal/need"
	"kogge.dev/kogge/ledger"
	"kogge.dev/kogge/nft"
	"kogge.dev/kogge/nft/kernel"
)

func open(t *testing.T, config ledger.Config) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func record(t *testing.T, l *ledger.Ledger, entries ...ledger.Entry) {
	t.Helper()
	for _, e := range entries {
		if err := l.Record(e); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryTornTailIsDropped cuts the file at every byte: what was acknowledged before the cut line is there, and the
// ledger goes on.
func TestEveryTornTailIsDropped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, ledger.Config{Path: path})
	all := []ledger.Entry{{Kind: ledger.Link, Name: "a"}, {Kind: ledger.Sysctl, Name: "net/x", Old: "0"}, {Kind: ledger.File, Name: "/x"}}
	sizes := make([]int64, 0, len(all))
	for _, e := range all {
		record(t, l, e)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(data) + 1 {
		var want []ledger.Entry
		for i, size := range sizes {
			if int64(cut) >= size {
				want = all[:i+1]
			}
		}
		file := filepath.Join(t.TempDir(), "cut")
		if err := os.WriteFile(file, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again := open(t, ledger.Config{Path: file})
		if diff := cmp.Diff(want, again.Entries()); diff != "" {
			t.Fatalf("cut at %d: entries (-want +got):\n%s", cut, diff)
		}
		record(t, again, ledger.Entry{Kind: ledger.Table, Name: "later"})
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		last := open(t, ledger.Config{Path: file}).Entries()
		if len(last) != len(want)+1 {
			t.Fatalf("cut at %d: after another entry = %v, want %d entries", cut, last, len(want)+1)
		}
	}
}

func TestEntriesAreUniqueAndFirstOldValueCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := open(t, ledger.Config{Path: path})
	record(t, l,
		ledger.Entry{Kind: ledger.Sysctl, Name: "net/ipv4/ip_forward", Old: "0"},
		ledger.Entry{Kind: ledger.Sysctl, Name: "net/ipv4/ip_forward", Old: "1"},
		ledger.Entry{Kind: ledger.Link, Name: "b"}, ledger.Entry{Kind: ledger.File, Name: "/b"})
	if err := l.Forget(ledger.Entry{Kind: ledger.Link, Name: "b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(ledger.Config{Path: path}); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	want := []ledger.Entry{{Kind: ledger.Sysctl, Name: "net/ipv4/ip_forward", Old: "0"}, {Kind: ledger.File, Name: "/b"}}
	if diff := cmp.Diff(want, open(t, ledger.Config{Path: path}).Entries()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestBadEntriesAndFilesAreRefused(t *testing.T) {
	l := open(t, ledger.Config{Path: filepath.Join(t.TempDir(), "ledger")})
	for _, e := range []ledger.Entry{{Kind: ledger.Tree, Name: "/"}, {Kind: ledger.File, Name: "x"}, {Kind: "?", Name: "x"}, {Kind: ledger.Link}, {Kind: ledger.File, Name: "/a/../b"}} {
		if err := l.Record(e); err == nil {
			t.Errorf("Record(%v) succeeded", e)
		}
	}
	path := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(path, []byte("not json\n{\"kind\":\"link\",\"name\":\"a\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(ledger.Config{Path: path}); err == nil {
		t.Error("Open of a damaged ledger succeeded")
	}
}

func TestUndoRestoresFiles(t *testing.T) {
	dir := t.TempDir()
	l := open(t, ledger.Config{Path: filepath.Join(dir, "ledger")})
	file, folder, tree := filepath.Join(dir, "file"), filepath.Join(dir, "folder"), filepath.Join(dir, "tree")
	record(t, l, ledger.Entry{Kind: ledger.Folder, Name: folder}, ledger.Entry{Kind: ledger.File, Name: filepath.Join(folder, "x")},
		ledger.Entry{Kind: ledger.File, Name: file}, ledger.Entry{Kind: ledger.Tree, Name: tree})
	for _, d := range []string{folder, filepath.Join(tree, "deep")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{filepath.Join(folder, "x"), file, filepath.Join(tree, "deep", "y")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries := l.Entries()
	if left, err := l.Verify(t.Context(), entries); err != nil || len(left) != 3 {
		t.Errorf("Verify before = %v, %v, want all but the folder that is not empty", left, err)
	}
	if err := l.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := l.Verify(t.Context(), entries); err != nil || len(left) != 0 || len(l.Entries()) != 0 {
		t.Errorf("Verify after = %v, %v, entries %v, want nothing", left, err, l.Entries())
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("folder holds %v, %v, want the ledger only", list, err)
	}
}

func TestUndoRestoresNetwork(t *testing.T) {
	need.Root(t, "network namespaces are made")
	dir := t.TempDir()
	ns := filepath.Join(dir, "ns")
	if err := hostnet.CreateNamespace(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hostnet.RemoveNamespace(ns) })
	host, err := hostnet.New(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	l := open(t, ledger.Config{Path: filepath.Join(dir, "ledger"), NetNS: ns})
	record(t, l, ledger.Entry{Kind: ledger.Link, Name: "br"}, ledger.Entry{Kind: ledger.Route, Name: "10.9.0.0/16"},
		ledger.Entry{Kind: ledger.Table, Name: "kogge-test"}, ledger.Entry{Kind: ledger.Address, Name: "lo 10.8.0.1/32"},
		ledger.Entry{Kind: ledger.Link, Name: "never-made"})
	was, err := host.Sysctl("net.ipv4.ip_forward")
	if err != nil {
		t.Fatal(err)
	}
	flipped := map[string]string{"0": "1", "1": "0"}[was]
	for _, step := range []func() error{
		func() error {
			return host.EnsureBridge(hostnet.Bridge{Name: "br", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}})
		},
		func() error {
			return host.EnsureRoute(hostnet.Route{Dst: netip.MustParsePrefix("10.9.0.0/16"), Via: netip.MustParseAddr("10.1.0.9"), Dev: "br"})
		},
		func() error { return host.EnsureAddress("lo", netip.MustParsePrefix("10.8.0.1/32")) },
		func() error { return l.SetSysctl(host, "net.ipv4.ip_forward", flipped) },
		func() error {
			return kernel.New(kernel.Config{NetNS: host.Namespace().FD()}).Apply(nft.Replace(nft.NewTable("kogge-test")))
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	entries := l.Entries()
	if left, err := l.Verify(t.Context(), entries); err != nil || len(left) != 5 {
		t.Errorf("Verify before = %v, %v, want five", left, err)
	}
	if err := l.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := l.Verify(t.Context(), entries); err != nil || len(left) != 0 {
		t.Errorf("Verify after = %v, %v, want nothing", left, err)
	}
	if now, err := host.Sysctl("net.ipv4.ip_forward"); err != nil || now != was {
		t.Errorf("ip_forward = %s, %v, want %s", now, err, was)
	}
}
