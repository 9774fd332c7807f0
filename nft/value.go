// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Layer-4 protocols that Services know.
const (
	TCP  uint8 = 6
	UDP  uint8 = 17
	SCTP uint8 = 132
)

// AddrValue encodes an address: 4 bytes for IPv4 (also when mapped into IPv6), else 16.
func AddrValue(a netip.Addr) []byte { return a.Unmap().AsSlice() }

// ProtoValue encodes a layer-4 protocol.
func ProtoValue(p uint8) []byte { return []byte{p} }

// PortValue encodes a port.
func PortValue(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// NumberValue encodes a mark, identifier or index.
func NumberValue(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// IfNameValue encodes an interface name.
func IfNameValue(name string) []byte {
	b := make([]byte, 16)
	copy(b[:15], name)
	return b
}

// Concat joins encoded fields into a key or data. With more than one field each is padded to whole registers, as the kernel wants.
func Concat(fields ...[]byte) []byte {
	if len(fields) == 1 {
		return fields[0]
	}
	n := 0
	for _, f := range fields {
		n += (len(f) + 3) &^ 3
	}
	out := make([]byte, 0, n)
	for _, f := range fields {
		out = append(out, f...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

// Prefix returns the first and last address of a prefix as values of an interval element.
func Prefix(p netip.Prefix) (first, last []byte) {
	p = p.Masked()
	first = AddrValue(p.Addr())
	last = append([]byte(nil), first...)
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 1 << (7 - i%8)
	}
	return first, last
}

// split cuts an encoded key into its fields, without padding.
func split(types []Type, b []byte) [][]byte {
	if len(types) == 1 {
		return [][]byte{b}
	}
	out := make([][]byte, 0, len(types))
	for _, t := range types {
		if len(b) < t.Size() {
			return append(out, b)
		}
		out = append(out, b[:t.Size()])
		b = b[min(len(b), (t.Size()+3)&^3):]
	}
	return out
}

// Format renders an encoded value for people.
func Format(types []Type, b []byte) string {
	var parts []string
	for i, f := range split(types, b) {
		parts = append(parts, formatField(types[i], f))
	}
	return strings.Join(parts, " . ")
}

func formatField(t Type, b []byte) string {
	if len(b) < t.Size() {
		return fmt.Sprintf("%x", b)
	}
	switch t {
	case Addr4, Addr6:
		a, _ := netip.AddrFromSlice(b)
		return a.String()
	case Proto:
		switch b[0] {
		case TCP:
			return "tcp"
		case UDP:
			return "udp"
		case SCTP:
			return "sctp"
		}
		return strconv.Itoa(int(b[0]))
	case Service:
		return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
	case Number:
		return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(b)), 10)
	case IfName:
		return strings.TrimRight(string(b), "\x00")
	default:
		return fmt.Sprintf("%x", b)
	}
}
