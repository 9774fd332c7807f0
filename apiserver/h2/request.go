// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

// request makes one of what a client began a stream with. An error is the stream's: the request is malformed (RFC 9113, 8.1.1).
func (c *conn) request(f *http2.MetaHeadersFrame) (*stream, *http.Request, error) {
	st := &stream{conn: c, id: f.StreamID}
	malformed := http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	ctx, cancel := context.WithCancel(c.ctx)
	st.cancel = cancel
	req, ok := c.requestOf(f)
	if !ok {
		cancel()
		return nil, nil, malformed
	}
	if !f.StreamEnded() {
		st.body = body{stream: st, declared: req.ContentLength, credit: streamWindow, asked: true}
		if httpguts.HeaderValuesContainsToken(req.Header["Expect"], "100-continue") {
			st.body.asked = false
			req.Header.Del("Expect")
		}
		req.Body = &st.body
	} else {
		st.body = body{stream: st, ended: true, err: io.EOF, asked: true}
		req.Body = http.NoBody
		if req.ContentLength > 0 {
			cancel()
			return nil, nil, malformed
		}
		req.ContentLength = 0
	}
	return st, req.WithContext(ctx), nil
}

// requestOf reads the fields, and reports whether they make a request.
func (c *conn) requestOf(f *http2.MetaHeadersFrame) (*http.Request, bool) {
	method, path, scheme := f.PseudoValue("method"), f.PseudoValue("path"), f.PseudoValue("scheme")
	if f.Truncated { // Fields are missing, and it is only told so.
		return &http.Request{Method: method, URL: &url.URL{Path: "/"}, Header: http.Header{}, ContentLength: -1, RemoteAddr: c.remote}, true
	}
	if method == "" || method == http.MethodConnect || path == "" || (scheme != "https" && scheme != "http") || f.PseudoValue("protocol") != "" ||
		!httpguts.ValidHostHeader(f.PseudoValue("authority")) {
		return nil, false
	}
	target, err := targetOf(method, path)
	if err != nil {
		return nil, false
	}
	req := &http.Request{
		Method: method, URL: target, RequestURI: path, Proto: "HTTP/2.0", ProtoMajor: 2, Host: f.PseudoValue("authority"),
		RemoteAddr: c.remote, TLS: c.state, ContentLength: -1,
	}
	var ok bool
	if req.Header, ok = headerOf(f); !ok {
		return nil, false
	}
	if req.Host == "" {
		req.Host = req.Header.Get("Host")
	}
	req.Header.Del("Host")
	if lengths := req.Header["Content-Length"]; len(lengths) > 0 {
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil || len(lengths) > 1 {
			return nil, false
		}
		req.ContentLength = int64(n)
	}
	return req, true
}

func targetOf(method, path string) (*url.URL, error) {
	if path == "*" && method == http.MethodOptions {
		return &url.URL{Path: path}, nil
	}
	return url.ParseRequestURI(path)
}

// headerOf collects the fields that are no pseudo fields. False means that some may not be in a request.
func headerOf(f *http2.MetaHeadersFrame) (http.Header, bool) {
	fields := f.RegularFields()
	header := make(http.Header, len(fields))
	values := make([]string, len(fields)) // One for all fields that come once.
	for i := range fields {
		field := &fields[i]
		switch field.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade": // RFC 9113, 8.2.2
			return nil, false
		case "te":
			if field.Value != "trailers" {
				return nil, false
			}
		}
		name := http.CanonicalHeaderKey(field.Name)
		if before := header[name]; len(before) > 0 {
			if name == "Cookie" { // RFC 9113, 8.2.3
				before[0] += "; " + field.Value
			} else {
				header[name] = append(before, field.Value)
			}
			continue
		}
		values[i] = field.Value
		header[name] = values[i : i+1 : i+1]
	}
	return header, true
}

// trailersLocked ends a body. Nobody asks for what they say.
func (st *stream) trailersLocked(f *http2.MetaHeadersFrame) error {
	switch {
	case st.body.ended:
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeStreamClosed}
	case !f.StreamEnded() || len(f.PseudoFields()) > 0:
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	}
	return st.body.addLocked(nil, 0, true)
}

// tooLarge answers requests whose header list is above the bound.
var tooLarge = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_ = r.Body.Close()
	http.Error(w, "the request's header fields are too large", http.StatusRequestHeaderFieldsTooLarge)
})
