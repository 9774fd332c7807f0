// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package dns

import (
	"context"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxUDP is the largest answer that goes into one datagram, however large the client's buffer is: larger ones would be fragmented.
const maxUDP = 1232

// maxAliases bounds chains of ExternalName Services.
const maxAliases = 8

var _ dns.Handler = (*Server)(nil)

// ServeDNS implements dns.Handler.
func (s *Server) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	began := time.Now()
	resp, where := s.respond(context.Background(), req)
	fit(req, resp, w.RemoteAddr())
	// A client that went away is no concern of ours.
	_ = w.WriteMsg(resp)
	s.metrics.answered(where, req, resp, time.Since(began))
}

// respond answers a message and says from where.
func (s *Server) respond(ctx context.Context, req *dns.Msg) (resp *dns.Msg, where string) {
	resp = new(dns.Msg)
	resp.SetReply(req)
	refuse := func(code int) (*dns.Msg, string) {
		resp.Rcode = code
		return resp, "refused"
	}
	if req.Opcode != dns.OpcodeQuery {
		return refuse(dns.RcodeNotImplemented)
	}
	if len(req.Question) != 1 || req.Response {
		return refuse(dns.RcodeFormatError)
	}
	if opt := req.IsEdns0(); opt != nil && opt.Version() != 0 {
		return refuse(dns.RcodeBadVers)
	}
	q := req.Question[0]
	if q.Qclass != dns.ClassINET || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return refuse(dns.RcodeRefused)
	}
	lower := strings.ToLower(q.Name)
	if dns.IsSubDomain(s.zone.name, lower) {
		s.respondZone(ctx, req, resp, lower)
		return resp, "cluster"
	}
	if a, ok := reverseAddr(lower); ok {
		snap := s.snapshot.Load()
		if snap == nil && s.inReverse(a) {
			return refuse(dns.RcodeServerFailure)
		}
		if snap != nil {
			if r := s.zone.pointer(snap, q.Name, a, q.Qtype); r != nil {
				s.finish(resp, r)
				return resp, "reverse"
			}
		}
		if s.inReverse(a) {
			s.finish(resp, &reply{snap: snap})
			return resp, "reverse"
		}
	}
	return s.forward.respond(ctx, req), "forward"
}

// respondZone answers from the cluster's zone, following aliases out of it.
func (s *Server) respondZone(ctx context.Context, req, resp *dns.Msg, lower string) {
	snap := s.snapshot.Load()
	if snap == nil {
		resp.Rcode = dns.RcodeServerFailure
		return
	}
	q := req.Question[0]
	r := s.zone.lookup(snap, q.Name, lower, q.Qtype)
	seen := map[string]bool{lower: true}
	for r.chase != "" && !seen[r.chase] && len(seen) < maxAliases {
		next := r.chase
		seen[next] = true
		r.chase = ""
		if !dns.IsSubDomain(s.zone.name, next) {
			r.answer = append(r.answer, s.forward.chase(ctx, next, q.Qtype)...)
			break
		}
		more := s.zone.lookup(snap, next, next, q.Qtype)
		r.answer = append(r.answer, more.answer...)
		r.chase = more.chase
	}
	s.finish(resp, r)
}

// finish turns a reply into a message: names that don't exist, and types that a name lacks, come with the zone's start of authority.
func (s *Server) finish(resp *dns.Msg, r *reply) {
	resp.Authoritative = true
	resp.RecursionAvailable = true
	resp.Answer, resp.Extra = r.answer, r.extra
	if len(r.answer) > 0 {
		return
	}
	if !r.found {
		resp.Rcode = dns.RcodeNameError
	}
	soa := s.zone.soa(r.snap)
	soa.Hdr.Ttl = negativeTTL
	resp.Ns = []dns.RR{soa}
}

// fit adds the EDNS record that answers the client's and cuts the message to what the client can take.
func fit(req, resp *dns.Msg, client net.Addr) {
	size := dns.MaxMsgSize
	opt := req.IsEdns0()
	if opt != nil {
		resp.SetEdns0(maxUDP, opt.Do())
	}
	if _, udp := client.(*net.UDPAddr); udp {
		size = dns.MinMsgSize
		if opt != nil {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
		}
	}
	resp.Compress = true
	resp.Truncate(size)
}
