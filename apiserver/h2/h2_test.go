// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package h2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"kogge.dev/kogge/apiserver/h2"
)

// serve starts a server of HTTP/2, ours or that of net/http, and returns its address and a client.
func serve(t testing.TB, ours bool, handler http.Handler) (string, *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 100}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	if ours {
		h2.Attach(s.Config, slog.New(slog.DiscardHandler))
		s.Listener = h2.Listen(s.Listener)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, s.Client()
}

// answers to requests, in the ways that handlers have to make them.
var answers = map[string]http.HandlerFunc{
	"nothing": func(http.ResponseWriter, *http.Request) {},
	"small":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") },
	"html":    func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html><body>") },
	"large": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("0123456789"), 500_000))
	},
	"large string": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("0123456789", 5_000))
	},
	"many pieces":        func(w http.ResponseWriter, _ *http.Request) { pieces(w, 10_000) },
	"declared":           func(w http.ResponseWriter, _ *http.Request) { declare(w, "5"); _, _ = io.WriteString(w, "hello") },
	"less than declared": func(w http.ResponseWriter, _ *http.Request) { declare(w, "5"); w.WriteHeader(200) },
	"not found":          http.NotFound,
	"no content":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); noBody(w) },
	"not modified":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304); noBody(w) },
	"unusual status":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) },
	"twice":              func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); w.WriteHeader(500) },
	"late header": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(201)
		w.Header().Set("X-Late", "1")
		_, _ = io.WriteString(w, "x")
	},
	"flushed": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-A", "b")
		flush(w)
		_, _ = io.WriteString(w, "later")
	},
	"typed": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "a/b")
		_, _ = io.WriteString(w, "x")
	},
	"untyped": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, "x")
	},
	"encoded": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "x")
		_, _ = io.WriteString(w, "x")
	},
	"dated": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", "yesterday") },
	"many values": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X-Many"] = []string{"a", "b", "", "c"}
		w.Header()["Set-Cookie"] = []string{"a=b", "c=d"}
	},
	"bad fields": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["X bad"], w.Header()["X-Bad"], w.Header()["X-Good"] = []string{"a"}, []string{"a\nb"}, []string{"a"}
	},
	"long header": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Long", strings.Repeat("abc", 20_000)) },
	"trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-None")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "1")
		w.Header().Set(http.TrailerPrefix+"X-More", "2")
	},
	"trailers without a body": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		flush(w)
		w.Header().Set("X-Sum", "1")
	},
	"early hints": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "x")
	},
	"echo":         func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) },
	"ignored body": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202) },
	"closed body": func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 10))
		_ = r.Body.Close()
		_, err := r.Body.Read(make([]byte, 1))
		fmt.Fprint(w, err != nil)
	},
	"request": describe,
}

func pieces(w io.Writer, n int) {
	for i := range n {
		fmt.Fprintf(w, "piece %d\n", i)
	}
}

func declare(w http.ResponseWriter, n string) { w.Header().Set("Content-Length", n) }

func noBody(w io.Writer) {
	if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
		panic(err)
	}
}

func flush(w http.ResponseWriter) {
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(err)
	}
}

// describe answers with what a handler sees of a request.
func describe(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintln(w, r.Method, r.URL, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor, r.Host != "", r.ContentLength, r.TLS.NegotiatedProtocol, r.RemoteAddr != "")
	fmt.Fprintln(w, len(body), err, r.Context().Value(http.ServerContextKey) != nil, r.Context().Value(http.LocalAddrContextKey) != nil)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintln(w, name, r.Header[name])
	}
}

// seen is what a client sees of an answer.
type seen struct {
	Status   int
	Header   http.Header
	Length   int64
	Body     string
	Trailer  http.Header
	Failed   bool
	Informed []string
}

func ask(t *testing.T, client *http.Client, method, url string, body io.Reader, header http.Header) seen {
	t.Helper()
	var informed []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		informed = append(informed, fmt.Sprint(code, h))
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	res, err := client.Do(req)
	if err != nil {
		return seen{Failed: true, Informed: informed}
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		t.Errorf("%s %s was answered over %s", method, url, res.Proto)
	}
	data, err := io.ReadAll(res.Body)
	if res.Header.Get("Date") != "yesterday" {
		if _, err := time.Parse(http.TimeFormat, res.Header.Get("Date")); err != nil {
			t.Errorf("%s %s: %v", method, url, err)
		}
		res.Header.Del("Date")
	}
	return seen{Status: res.StatusCode, Header: res.Header, Length: res.ContentLength, Body: string(data), Trailer: res.Trailer, Failed: err != nil, Informed: informed}
}

// TestAnswersAreThoseOfNetHTTP has the same handlers answer the same requests on net/http's server and on ours.
func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	mux := http.NewServeMux()
	for name, handler := range answers {
		mux.HandleFunc("/"+strings.ReplaceAll(name, " ", "-"), handler)
	}
	theirs, theirClient := serve(t, false, mux)
	ours, client := serve(t, true, mux)
	requests := map[string]func() (method string, body io.Reader, header http.Header){
		"GET":  func() (string, io.Reader, http.Header) { return "GET", nil, nil },
		"HEAD": func() (string, io.Reader, http.Header) { return "HEAD", nil, nil },
		"DELETE": func() (string, io.Reader, http.Header) {
			return "DELETE", strings.NewReader(""), http.Header{"X-Two": {"a", "b"}, "Cookie": {"a=b; c=d"}}
		},
		"POST of a known length": func() (string, io.Reader, http.Header) {
			return "POST", strings.NewReader(strings.Repeat("y", 3_000_000)), http.Header{"Te": {"trailers"}}
		},
		"PUT of an unknown length": func() (string, io.Reader, http.Header) {
			return "PUT", io.MultiReader(strings.NewReader(strings.Repeat("z", 100_000)), strings.NewReader("end")), http.Header{"Expect": {"100-continue"}}
		},
	}
	for name := range answers {
		for form, request := range requests {
			path := "/" + strings.ReplaceAll(name, " ", "-")
			t.Run(name+" to "+form, func(t *testing.T) {
				method, body, header := request()
				want := ask(t, theirClient, method, theirs+path+"?a=b", body, header)
				method, body, header = request()
				got := ask(t, client, method, ours+path+"?a=b", body, header)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("net/http -, ours +:\n%.3000s", diff)
				}
			})
		}
	}
}
