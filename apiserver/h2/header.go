// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// fields are those of an answer's header, as they were when its status was chosen: a handler may change the map later.
type fields struct {
	list []hpack.HeaderField
	// typed, encoded and dated say what is among them; length is what they declare, or -1.
	typed, encoded, dated bool
	length                int64
}

// take collects the fields of a header that may be sent.
func (f *fields) take(h http.Header) {
	f.length = -1
	f.list = make([]hpack.HeaderField, 0, len(h)+3)
	for name, values := range h {
		switch name {
		case "Connection", "Proxy-Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade": // RFC 9113, 8.2.2
			continue
		case "Content-Length":
			n, err := strconv.ParseInt(h.Get(name), 10, 64)
			if err != nil || n < 0 {
				continue
			}
			f.length = n
			values = values[:1]
		case "Content-Type":
			f.typed = true
		case "Content-Encoding":
			f.encoded = len(values) > 0 && values[0] != ""
		case "Date":
			f.dated = true
		}
		if strings.HasPrefix(name, http.TrailerPrefix) {
			continue
		}
		name, ok := lower(name)
		if !ok {
			continue
		}
		for _, v := range values {
			if httpguts.ValidHeaderFieldValue(v) {
				f.add(name, v)
			}
		}
	}
}

// add a field. The table of the compression has no use for values that no other answer has.
func (f *fields) add(name, value string) {
	once := name == "audit-id" || name == "content-length"
	f.list = append(f.list, hpack.HeaderField{Name: name, Value: value, Sensitive: once})
}

// lower is a field's name as HTTP/2 has it, and whether it is one.
func lower(name string) (string, bool) {
	if known, ok := common[name]; ok {
		return known, true
	}
	return strings.ToLower(name), httpguts.ValidHeaderFieldName(name)
}

// common are the names of most answers.
var common = func() map[string]string {
	names := map[string]string{}
	for _, n := range []string{
		"Audit-Id", "Cache-Control", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Etag", "Expires", "Last-Modified", "Location", "Retry-After",
		"Vary", "Warning", "Www-Authenticate", "X-Content-Type-Options", "X-Kubernetes-Pf-Flowschema-Uid", "X-Kubernetes-Pf-Prioritylevel-Uid",
	} {
		names[n] = strings.ToLower(n)
	}
	return names
}()

// beginLocked frames an answer's header.
func (c *conn) beginLocked(st *stream, status int, f *fields, end bool) {
	c.packed.Reset()
	c.packLocked(":status", statusText(status))
	for i := range f.list {
		_ = c.packer.WriteField(f.list[i]) // Writing into a buffer does not fail.
	}
	if !f.dated {
		c.packLocked("date", c.server.date.now())
	}
	c.blockLocked(st, end)
}

// informLocked frames an answer before the answer.
func (c *conn) informLocked(st *stream, status int, h http.Header) {
	c.packed.Reset()
	c.packLocked(":status", statusText(status))
	if status != http.StatusContinue {
		var f fields
		f.take(h)
		for i := range f.list {
			_ = c.packer.WriteField(f.list[i]) // Writing into a buffer does not fail.
		}
	}
	c.blockLocked(st, false)
}

// sendTrailersLocked frames what comes behind the body.
func (c *conn) sendTrailersLocked(st *stream, list []hpack.HeaderField) {
	c.packed.Reset()
	for i := range list {
		_ = c.packer.WriteField(list[i]) // Writing into a buffer does not fail.
	}
	c.blockLocked(st, true)
}

func (c *conn) packLocked(name, value string) {
	_ = c.packer.WriteField(hpack.HeaderField{Name: name, Value: value}) // Writing into a buffer does not fail.
}

// blockLocked frames what was packed. Its frames follow each other (RFC 9113, 6.10).
func (c *conn) blockLocked(st *stream, end bool) {
	block := c.packed.Bytes()
	n := min(len(block), c.maxFrame)
	_ = c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block)})
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(len(block), c.maxFrame)
		_ = c.framer.WriteContinuation(st.id, n == len(block), block[:n]) // Writing into a buffer does not fail.
	}
}

// trailersOf are the fields that a handler announced, or marked, to come behind the body (http.ResponseWriter says how).
func trailersOf(h http.Header) (out []hpack.HeaderField) {
	add := func(name string, values []string) {
		if name, ok := lower(name); ok {
			for _, v := range values {
				if httpguts.ValidHeaderFieldValue(v) && httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(name)) {
					out = append(out, hpack.HeaderField{Name: name, Value: v})
				}
			}
		}
	}
	for _, announced := range h["Trailer"] {
		for name := range strings.SplitSeq(announced, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			add(name, h[name])
		}
	}
	for name, values := range h {
		if marked, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(marked, values)
		}
	}
	slices.SortStableFunc(out, func(a, b hpack.HeaderField) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func statusText(status int) string {
	switch status {
	case http.StatusOK:
		return "200"
	case http.StatusCreated:
		return "201"
	default:
		return strconv.Itoa(status)
	}
}

// date is the time as answers have it, made once a second.
type date struct{ last atomic.Pointer[dated] }

type dated struct {
	second int64
	text   string
}

func (d *date) now() string {
	now := time.Now()
	if last := d.last.Load(); last != nil && last.second == now.Unix() {
		return last.text
	}
	next := &dated{second: now.Unix(), text: now.UTC().Format(http.TimeFormat)}
	d.last.Store(next)
	return next.text
}
