// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"kogge.dev/kogge/nft"
)

// register numbers a four-byte register for the kernel.
func register(r nft.Reg) uint32 { return unix.NFT_REG32_00 + uint32(r) }

// encode translates one instruction; most are one expression of the kernel's.
func encode(op nft.Op) ([]expr.Any, error) {
	switch o := op.(type) {
	case nft.Load:
		e, err := load(o)
		return []expr.Any{e}, err
	case nft.Const:
		return one(&expr.Immediate{Register: register(o.Reg), Data: o.Value})
	case nft.Bits:
		return one(&expr.Bitwise{
			SourceRegister: register(o.From), DestRegister: register(o.To), Len: uint32(len(o.Mask)), Mask: o.Mask, Xor: o.Xor,
		})
	case nft.Compare:
		kind := expr.CmpOpEq
		if o.Not {
			kind = expr.CmpOpNeq
		}
		return one(&expr.Cmp{Op: kind, Register: register(o.Reg), Data: o.Value})
	case nft.Member:
		return one(&expr.Lookup{SetName: o.Set, SourceRegister: register(o.Key), Invert: o.Not})
	case nft.Get:
		return one(&expr.Lookup{SetName: o.Map, SourceRegister: register(o.Key), DestRegister: register(o.Into), IsDestRegSet: true})
	case nft.Dispatch:
		return one(&expr.Lookup{SetName: o.Map, SourceRegister: register(o.Key), DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true})
	case nft.Decide:
		v := verdict(o.Verdict)
		return one(&v)
	case nft.Random:
		return one(&expr.Numgen{Register: register(o.Reg), Modulus: o.Mod, Type: unix.NFT_NG_RANDOM})
	default:
		return effect(op)
	}
}

func one(e expr.Any) ([]expr.Any, error) { return []expr.Any{e}, nil }

// effect translates instructions that change something.
func effect(op nft.Op) ([]expr.Any, error) {
	switch o := op.(type) {
	case nft.Update:
		e := &expr.Dynset{SetName: o.Set, SrcRegKey: register(o.Key), SrcRegData: register(o.Data), Timeout: o.Timeout}
		e.Operation = unix.NFT_DYNSET_OP_UPDATE
		if o.Kind == nft.Forget {
			e.Operation = dynsetDelete
		}
		return one(e)
	case nft.DestNAT:
		return one(&expr.NAT{
			Type: expr.NATTypeDestNAT, Family: uint32(o.Family), RegAddrMin: register(o.Addr), RegProtoMin: register(o.Port), Specified: true,
		})
	case nft.SourceNAT:
		return one(&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(o.Family), RegAddrMin: register(o.Addr)})
	case nft.Masquerade:
		return one(&expr.Masq{FullyRandom: true})
	case nft.SetMark:
		return one(&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register(o.Reg)})
	case nft.Reject:
		switch o.Kind {
		case nft.TCPReset:
			return one(&expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
		case nft.AdminProhibited:
			return one(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
		case nft.PortUnreachable:
			return one(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
		}
	}
	return nil, fmt.Errorf("instruction %T is unknown", op)
}

// dynsetDelete is NFT_DYNSET_OP_DELETE, which x/sys does not name.
const dynsetDelete = 2

func load(o nft.Load) (expr.Any, error) {
	reg := register(o.Reg)
	network := func(offset, length uint32) (expr.Any, error) {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}, nil
	}
	transport := func(offset uint32) (expr.Any, error) {
		return &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2}, nil
	}
	meta := func(key expr.MetaKey) (expr.Any, error) { return &expr.Meta{Key: key, Register: reg}, nil }
	switch o.Field {
	case nft.Src4:
		return network(12, 4)
	case nft.Dst4:
		return network(16, 4)
	case nft.Src6:
		return network(8, 16)
	case nft.Dst6:
		return network(24, 16)
	case nft.SrcPort:
		return transport(0)
	case nft.DstPort:
		return transport(2)
	case nft.L4Proto:
		return meta(expr.MetaKeyL4PROTO)
	case nft.Mark:
		return meta(expr.MetaKeyMARK)
	case nft.PacketFamily:
		return meta(expr.MetaKeyNFPROTO)
	case nft.InIf:
		return meta(expr.MetaKeyIIFNAME)
	case nft.OutIf:
		return meta(expr.MetaKeyOIFNAME)
	case nft.CTState:
		return &expr.Ct{Key: expr.CtKeySTATE, Register: reg}, nil
	case nft.CTStatus:
		return &expr.Ct{Key: expr.CtKeySTATUS, Register: reg}, nil
	case nft.SrcType:
		return &expr.Fib{Register: reg, ResultADDRTYPE: true, FlagSADDR: true}, nil
	case nft.DstType:
		return &expr.Fib{Register: reg, ResultADDRTYPE: true, FlagDADDR: true}, nil
	}
	return nil, fmt.Errorf("field %s is unknown", o.Field)
}
