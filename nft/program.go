// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package nft

// Program joins pieces of a rule. Pieces that only compare use the highest registers as scratch, so that they never disturb keys,
// which are laid out from register 0.
func Program(parts ...[]Op) []Op {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]Op, 0, n)
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// scratch is the register of pieces that load one value of at most four bytes and compare it.
const scratch Reg = 15

// IsFamily holds for packets of an address family. Rules that load addresses start with it.
func IsFamily(f Family) []Op {
	return []Op{Load{PacketFamily, scratch}, Compare{Reg: scratch, Value: []byte{byte(f)}}}
}

// Is holds if a field of at most four bytes has the value.
func Is(f Field, value []byte) []Op {
	return []Op{Load{f, scratch}, Compare{Reg: scratch, Value: value}}
}

// IsLocal holds if the address kind of f (SrcType or DstType) is that of this host's own addresses.
func IsLocal(f Field) []Op { return Is(f, NumberValue(TypeLocal)) }

// HasBits holds if a number field has at least one of the bits.
func HasBits(f Field, bits uint32) []Op {
	return []Op{
		Load{f, scratch},
		Bits{From: scratch, To: scratch, Mask: NumberValue(bits), Xor: NumberValue(0)},
		Compare{Reg: scratch, Not: true, Value: NumberValue(0)},
	}
}

// LacksBits holds if a number field has none of the bits.
func LacksBits(f Field, bits uint32) []Op {
	return []Op{
		Load{f, scratch},
		Bits{From: scratch, To: scratch, Mask: NumberValue(bits), Xor: NumberValue(0)},
		Compare{Reg: scratch, Value: NumberValue(0)},
	}
}

// AddMark sets bits of the packet mark.
func AddMark(bits uint32) []Op {
	return []Op{
		Load{Mark, scratch},
		Bits{From: scratch, To: scratch, Mask: NumberValue(^bits), Xor: NumberValue(bits)},
		SetMark{scratch},
	}
}

// ClearMark clears bits of the packet mark.
func ClearMark(bits uint32) []Op {
	return []Op{
		Load{Mark, scratch},
		Bits{From: scratch, To: scratch, Mask: NumberValue(^bits), Xor: NumberValue(0)},
		SetMark{scratch},
	}
}

// LoadKey loads fields one after the other, each into whole registers, starting at reg.
func LoadKey(reg Reg, fields ...Field) []Op {
	ops := make([]Op, 0, len(fields))
	for _, f := range fields {
		ops = append(ops, Load{f, reg})
		reg += Reg((f.Type().Size() + 3) / 4)
	}
	return ops
}

// Do wraps single instructions, to end a Program with.
func Do(ops ...Op) []Op { return ops }

// DoAccept ends a Program by letting the packet pass.
func DoAccept() []Op { return []Op{Decide{Verdict{Kind: Accept}}} }

// DoDrop ends a Program by dropping the packet.
func DoDrop() []Op { return []Op{Decide{Verdict{Kind: Drop}}} }

// DoReturn ends a Program by going back to the chain that jumped here.
func DoReturn() []Op { return []Op{Decide{Verdict{Kind: Return}}} }

// DoJump ends a Program by a jump to a chain that may return.
func DoJump(chain string) []Op { return []Op{Decide{Call(chain)}} }

// DoGoto ends a Program by going to a chain that does not return.
func DoGoto(chain string) []Op { return []Op{Decide{Goto(chain)}} }
