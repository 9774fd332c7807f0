// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"kogge.dev/kogge/test/peers/access"
)

// call is one request.
type call struct {
	method string
	// path with its query.
	path string
	body []byte
	// contentType of the body; default JSON. accept; default JSON.
	contentType, accept string
	// as names who asks in a script of the audit; others are asked by the administrator.
	as string
	// header holds more headers.
	header http.Header
}

func (c *call) String() string { return c.method + " " + c.path }

// manifest is the body as a reader wants to see it.
func (c *call) manifest() string {
	if len(c.body) == 0 {
		return ""
	}
	text, err := yaml.JSONToYAML(c.body)
	if err != nil {
		return string(c.body)
	}
	return string(text)
}

// answer is what a server said.
type answer struct {
	code int
	// warnings are the values of the Warning headers.
	warnings    []string
	contentType string
	// headers are those of comparedHeaders.
	headers map[string]string
	// body as JSON tree, or as text where it is none.
	body any
}

// comparedHeaders are compared besides warnings and the content type: as they are, or (true) only whether they are there.
var comparedHeaders = map[string]bool{
	"Allow": false, "Cache-Control": false, "Content-Encoding": false, "Location": false, "Retry-After": false, "Vary": false, "X-Content-Type-Options": false,
	"Audit-Id": true, "ETag": true, "X-Kubernetes-Pf-Flowschema-Uid": true, "X-Kubernetes-Pf-Prioritylevel-Uid": true,
}

// compared takes what is compared of the headers of an answer.
func compared(header http.Header) map[string]string {
	out := map[string]string{}
	for name, presence := range comparedHeaders {
		values := slices.Sorted(slices.Values(header.Values(name)))
		switch {
		case len(values) == 0:
		case presence:
			out[name] = "(present)"
		default:
			out[name] = strings.Join(values, ", ")
		}
	}
	return out
}

func (a *answer) refused() bool { return a.code >= 400 }

// server is one of the two sides.
type server struct {
	name   string
	url    string
	client *http.Client
	// say turns what upstream chose (names, addresses, ports, uids) into what this side chose for the same object, hear turns it back;
	// nil changes nothing.
	say, hear *strings.Replacer
}

func newServer(name string, a access.Access) (*server, error) {
	client, err := a.Client()
	if err != nil {
		return nil, err
	}
	return &server{name: name, url: a.Server, client: client}, nil
}

// agent is the User-Agent of every request; managedFields are named after it.
const agent = "differential/1.0"

func (s *server) open(ctx context.Context, c *call) (*http.Response, error) {
	body := c.body
	if s.say != nil {
		body = []byte(s.say.Replace(string(body)))
	}
	req, err := http.NewRequestWithContext(ctx, c.method, s.url+c.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", agent)
	req.Header.Set("Accept", "application/json")
	if c.accept != "" {
		req.Header.Set("Accept", c.accept)
	}
	if len(c.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.contentType != "" {
		req.Header.Set("Content-Type", c.contentType)
	}
	maps.Copy(req.Header, c.header)
	return s.client.Do(req)
}

// ask sends a request and reads the whole answer.
func (s *server) ask(ctx context.Context, c *call) (*answer, error) {
	const limit = 60 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res, err := s.open(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	defer res.Body.Close()
	body := io.Reader(res.Body)
	if res.Header.Get("Content-Encoding") == "gzip" && c.method != http.MethodHead { // The script asked for it, not the transport.
		if body, err = gzip.NewReader(res.Body); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", s.name, c, err)
		}
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: read answer: %w", s.name, c, err)
	}
	if s.hear != nil {
		text = []byte(s.hear.Replace(string(text)))
	}
	a := &answer{
		code: res.StatusCode, warnings: slices.Clone(res.Header.Values("Warning")), contentType: res.Header.Get("Content-Type"), headers: compared(res.Header),
	}
	a.body = tree(text, a.contentType)
	return a, nil
}

// tree decodes JSON, of a watch into the list of its events, and YAML, and leaves everything else as text.
func tree(body []byte, contentType string) any {
	switch {
	case strings.Contains(contentType, "yaml"):
		converted, err := yaml.YAMLToJSON(body)
		if err != nil {
			return string(body)
		}
		body = converted
	case !strings.Contains(contentType, "json") && !bytes.HasPrefix(body, []byte("{")): // some documents are called text
		return string(body)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var all []any
	for {
		var out any
		switch err := decoder.Decode(&out); {
		case errors.Is(err, io.EOF) && len(all) == 1:
			return all[0]
		case errors.Is(err, io.EOF) && len(all) > 1:
			return all
		case err != nil:
			return string(body)
		}
		all = append(all, out)
	}
}
