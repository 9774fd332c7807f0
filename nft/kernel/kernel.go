// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

// Package kernel sends nft transactions to the kernel over netlink, one batch each. It needs no nft program.
package kernel

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"

	nftables "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"

	"kogge.dev/kogge/nft"
)

// Config of a Writer; the zero value is usable.
type Config struct {
	// NetNS is an open file of the network namespace to write to; 0 means that of the process.
	NetNS int
}

// Writer applies transactions. It may be used by several goroutines.
//
// It keeps one connection for ordinary transactions: closing one makes the kernel wait until it has freed what the transaction
// removed, which costs milliseconds.
type Writer struct {
	config Config

	mu   sync.Mutex
	conn *nftables.Conn // nil until first use and after an error
}

// New makes a writer.
func New(config Config) *Writer { return &Writer{config: config} }

// chunk is how many elements go into one netlink message: an attribute is at most 64 KiB long, an element here at most 150 bytes.
const chunk = 400

// bytesPerElement and bytesPerStep bound what a batch occupies, for the size of the socket buffer.
const (
	bytesPerElement = 256
	bytesPerStep    = 16 << 10
)

// ordinary is the largest batch that the kept connection's buffers hold.
const ordinary = 1 << 20

// dial opens a connection whose buffers hold a batch of the given size. Without that the kernel answers EMSGSIZE.
func (w *Writer) dial(size int, more ...nftables.ConnOption) (*nftables.Conn, error) {
	size = max(size, ordinary)
	return nftables.New(append(more, nftables.WithNetNSFd(w.config.NetNS), nftables.WithSockOptions(func(c *netlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(2*size), c.SetReadBuffer(2*size))
	}))...)
}

// Close closes the kept connection. The writer may be used again.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closeLocked()
}

func (w *Writer) closeLocked() error {
	if w.conn == nil {
		return nil
	}
	conn := w.conn
	w.conn = nil
	return conn.CloseLasting()
}

// Apply sends a transaction; on error the kernel has changed nothing.
func (w *Writer) Apply(tx *nft.Transaction) error {
	if tx.Empty() {
		return nil
	}
	size := bytesPerStep * len(tx.Steps)
	for _, s := range tx.Steps {
		switch s := s.(type) {
		case nft.AddElements:
			size += bytesPerElement * len(s.Elements)
		case nft.DeleteElements:
			size += bytesPerElement * len(s.Elements)
		}
	}
	if err := w.send(tx, size); err != nil {
		return fmt.Errorf("table %s: %w", tx.Table, translate(err))
	}
	return nil
}

// send runs a transaction over the kept connection, or over one of its own if the batch is large. After an error the kept one may
// hold answers that nobody reads, so it is given up.
func (w *Writer) send(tx *nft.Transaction, size int) (err error) {
	if size > ordinary {
		conn, err := w.dial(size)
		if err != nil {
			return err
		}
		return flush(conn, tx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn == nil {
		if w.conn, err = w.dial(ordinary, nftables.AsLasting()); err != nil {
			return err
		}
	}
	if err := flush(w.conn, tx); err != nil {
		return errors.Join(err, w.closeLocked())
	}
	return nil
}

func flush(conn *nftables.Conn, tx *nft.Transaction) error {
	b := batch{conn: conn, table: &nftables.Table{Name: tx.Table, Family: nftables.TableFamily(tx.Family)}}
	for i, s := range tx.Steps {
		if err := b.step(s); err != nil {
			return fmt.Errorf("step %d %T: %w", i, s, err)
		}
	}
	return conn.Flush()
}

// translate adds nft's sentinel errors to the kernel's.
func translate(err error) error {
	switch {
	case errors.Is(err, syscall.EEXIST):
		return errors.Join(nft.ErrExists, err)
	case errors.Is(err, syscall.ENOENT):
		return errors.Join(nft.ErrNotFound, err)
	case errors.Is(err, syscall.EBUSY):
		return errors.Join(nft.ErrBusy, err)
	}
	return err
}

type batch struct {
	conn  *nftables.Conn
	table *nftables.Table
}

func (b *batch) step(s nft.Step) error {
	switch s := s.(type) {
	case nft.AddTable:
		b.conn.AddTable(b.table)
	case nft.DeleteTable:
		b.conn.DelTable(b.table)
	case nft.AddChain:
		b.conn.AddChain(b.chain(s.Chain))
	case nft.SetRules:
		return b.setRules(s)
	case nft.DeleteChain:
		b.conn.DelChain(&nftables.Chain{Table: b.table, Name: s.Name})
	case nft.AddSet:
		return b.conn.AddSet(b.set(&s.Set), nil)
	case nft.DeleteSet:
		b.conn.DelSet(&nftables.Set{Table: b.table, Name: s.Name})
	case nft.AddElements:
		return b.elements(s.Set, s.Elements, b.conn.SetAddElements)
	case nft.DeleteElements:
		return b.elements(s.Set, s.Elements, b.conn.SetDeleteElements)
	default:
		return fmt.Errorf("step %T is unknown", s)
	}
	return nil
}

func (b *batch) chain(c nft.Chain) *nftables.Chain {
	out := &nftables.Chain{Table: b.table, Name: c.Name}
	if c.Hook == nft.NoHook {
		return out
	}
	out.Type = nftables.ChainType(c.Kind)
	out.Priority = new(nftables.ChainPriority(c.Priority))
	switch c.Hook {
	case nft.Prerouting:
		out.Hooknum = nftables.ChainHookPrerouting
	case nft.Input:
		out.Hooknum = nftables.ChainHookInput
	case nft.Forward:
		out.Hooknum = nftables.ChainHookForward
	case nft.Output:
		out.Hooknum = nftables.ChainHookOutput
	case nft.Postrouting:
		out.Hooknum = nftables.ChainHookPostrouting
	case nft.NoHook:
	}
	return out
}

// commentTag is the type of a rule's comment in its user data, as libnftnl defines it.
const commentTag = 0

func (b *batch) setRules(s nft.SetRules) error {
	chain := &nftables.Chain{Table: b.table, Name: s.Chain}
	b.conn.FlushChain(chain)
	for _, r := range s.Rules {
		rule := &nftables.Rule{Table: b.table, Chain: chain}
		for _, op := range r.Ops {
			exprs, err := encode(op)
			if err != nil {
				return fmt.Errorf("chain %s: %w", s.Chain, err)
			}
			rule.Exprs = append(rule.Exprs, exprs...)
		}
		if r.Comment != "" {
			rule.UserData = append([]byte{commentTag, byte(len(r.Comment) + 1)}, append([]byte(r.Comment), 0)...)
		}
		b.conn.AddRule(rule)
	}
	return nil
}

func (b *batch) set(s *nft.Set) *nftables.Set {
	out := &nftables.Set{
		Table: b.table, Name: s.Name, KeyType: datatype(s.Key), Interval: s.Interval, Size: s.Size,
		Dynamic: s.Dynamic, HasTimeout: s.Dynamic, Concatenation: len(s.Key) > 1, IsMap: s.IsMap(),
	}
	if s.IsMap() {
		out.DataType = datatype(s.Data)
	}
	return out
}

func datatype(types []nft.Type) nftables.SetDatatype {
	parts := make([]nftables.SetDatatype, len(types))
	for i, t := range types {
		switch t {
		case nft.Addr4:
			parts[i] = nftables.TypeIPAddr
		case nft.Addr6:
			parts[i] = nftables.TypeIP6Addr
		case nft.Proto:
			parts[i] = nftables.TypeInetProto
		case nft.Service:
			parts[i] = nftables.TypeInetService
		case nft.Number:
			parts[i] = nftables.TypeMark
		case nft.IfName:
			parts[i] = nftables.TypeIFName
		case nft.Jump:
			parts[i] = nftables.TypeVerdict
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return nftables.MustConcatSetType(parts...)
}

func (b *batch) elements(s *nft.Set, list []nft.Element, send func(*nftables.Set, []nftables.SetElement) error) error {
	set := b.set(s)
	out := make([]nftables.SetElement, 0, min(len(list), chunk)+1)
	for _, e := range list {
		out = appendElement(out, s, e)
		if len(out) >= chunk {
			if err := send(set, out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	if len(out) == 0 {
		return nil
	}
	return send(set, out)
}

// appendElement encodes one element. Ranges over a single field are two elements for the kernel, a first key and a key after the
// last; ranges in concatenations are one.
func appendElement(out []nftables.SetElement, s *nft.Set, e nft.Element) []nftables.SetElement {
	el := nftables.SetElement{Key: e.Key, Val: e.Data, Timeout: e.Timeout, Expires: e.Expires}
	if e.Verdict.Kind != nft.NoVerdict {
		v := verdict(e.Verdict)
		el.VerdictData = &v
	}
	if !s.Interval {
		return append(out, el)
	}
	end := e.End
	if end == nil {
		end = e.Key
	}
	if len(s.Key) > 1 {
		el.KeyEnd = end
		return append(out, el)
	}
	out = append(out, el)
	if after, ok := next(end); ok {
		out = append(out, nftables.SetElement{Key: after, IntervalEnd: true})
	}
	return out
}

// next returns the key after b, unless b is the last one.
func next(b []byte) ([]byte, bool) {
	out := append([]byte(nil), b...)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]++
		if out[i] != 0 {
			return out, true
		}
	}
	return nil, false
}

func verdict(v nft.Verdict) expr.Verdict {
	switch v.Kind {
	case nft.Accept:
		return expr.Verdict{Kind: expr.VerdictAccept}
	case nft.Drop:
		return expr.Verdict{Kind: expr.VerdictDrop}
	case nft.Return:
		return expr.Verdict{Kind: expr.VerdictReturn}
	case nft.JumpTo:
		return expr.Verdict{Kind: expr.VerdictJump, Chain: v.Chain}
	case nft.GoTo:
		return expr.Verdict{Kind: expr.VerdictGoto, Chain: v.Chain}
	case nft.NoVerdict:
	}
	return expr.Verdict{Kind: expr.VerdictContinue}
}

// Exists reports whether the table is there.
func (w *Writer) Exists(family nft.Family, table string) (bool, error) {
	conn, err := w.dial(0)
	if err != nil {
		return false, fmt.Errorf("table %s: %w", table, err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamily(family))
	if err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	for _, t := range tables {
		if t.Name == table {
			return true, nil
		}
	}
	return false, nil
}

// Elements reads back the elements of a set of plain keys or of a map with data: those of dynamic sets, mostly, which only the kernel
// knows. A missing table or set is nft.ErrNotFound.
func (w *Writer) Elements(family nft.Family, table string, shape *nft.Set) ([]nft.Element, error) {
	conn, err := w.dial(0)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", table, err)
	}
	b := batch{conn: conn, table: &nftables.Table{Name: table, Family: nftables.TableFamily(family)}}
	// The library hides the kernel's error numbers from reads, so what is missing is found by listing.
	if there, err := w.Exists(family, table); err != nil {
		return nil, err
	} else if !there {
		return nil, fmt.Errorf("table %s: %w", table, nft.ErrNotFound)
	}
	sets, err := conn.GetSets(b.table)
	if err != nil {
		return nil, fmt.Errorf("list sets of table %s: %w", table, err)
	}
	if !slices.ContainsFunc(sets, func(s *nftables.Set) bool { return s.Name == shape.Name }) {
		return nil, fmt.Errorf("set %s of table %s: %w", shape.Name, table, nft.ErrNotFound)
	}
	list, err := conn.GetSetElements(b.set(shape))
	if err != nil {
		return nil, fmt.Errorf("read set %s of table %s: %w", shape.Name, table, translate(err))
	}
	out := make([]nft.Element, 0, len(list))
	for _, e := range list {
		out = append(out, nft.Element{Key: e.Key, End: e.KeyEnd, Data: e.Val, Timeout: e.Timeout, Expires: e.Expires})
	}
	return out, nil
}
