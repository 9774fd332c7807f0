// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"
)

// What scripts call the address of the hook, under which each side has a folder of its own, and the certificate to know it by.
const hookURL, hookCA = "${hook}", "${ca}"

// hook is a webhook that both servers call, for admission, conversion or whatever else. It answers as the script says, and remembers what it was asked.
type hook struct {
	server *httptest.Server

	mu      sync.Mutex
	replies map[string]reply
	asked   map[string][]any // by side
}

// reply is what a hook of a name answers.
type reply struct {
	// code of the answer; 200 if zero.
	code int
	// delay of the answer.
	delay time.Duration
	// body as JSON, which is completed: see question.answered; or any text.
	body []byte
}

func newHook() *hook {
	h := &hook{replies: map[string]reply{}, asked: map[string][]any{}}
	h.server = httptest.NewTLSServer(h)
	return h
}

// tell makes a side put its own addresses into what it says, and take them out of what it hears.
func (h *hook) tell(s *server) {
	own := h.server.URL + "/" + s.name
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.server.Certificate().Raw}))
	s.say, s.hear = strings.NewReplacer(hookURL, own, hookCA, ca), strings.NewReplacer(own, hookURL, ca, hookCA)
}

// answer sets what the hook of a name answers from now on: "ANSWER NAME [code=CODE] [delay=DURATION]", and the body.
func (h *hook) answer(s *step) error {
	r := reply{code: http.StatusOK, body: s.body}
	var err error
	for name, values := range s.header {
		switch name {
		case "Code":
			r.code, err = strconv.Atoi(values[0])
		case "Delay":
			r.delay, err = time.ParseDuration(values[0])
		}
		if err != nil {
			return err
		}
	}
	if text, err := yaml.YAMLToJSON(r.body); err == nil {
		r.body = text
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.replies[s.path] = r
	return nil
}

func (h *hook) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	side, name, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	text, _ := io.ReadAll(req.Body)
	var asked question
	_ = json.Unmarshal(text, &asked)
	h.mu.Lock()
	h.asked[side] = append(h.asked[side], map[string]any{"hook": name, "query": req.URL.RawQuery, "review": tree(text, "application/json")})
	r, found := h.replies[name]
	h.mu.Unlock()
	if !found {
		http.Error(w, "no such hook", http.StatusNotFound)
		return
	}
	select {
	case <-req.Context().Done():
		return
	case <-time.After(r.delay):
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(r.code)
	_, _ = w.Write(asked.answered(r.body))
}

// question is what a review asks for: it has a uid, and those that convert have objects.
type question struct {
	Request struct {
		UID     string `json:"uid"`
		Objects []struct {
			Metadata struct {
				UID string `json:"uid"`
			} `json:"metadata"`
		} `json:"objects"`
	} `json:"request"`
}

// answered fills into an answer which question and which objects it is about, where it does not say so.
func (q *question) answered(body []byte) []byte {
	var answer map[string]any
	if json.Unmarshal(body, &answer) != nil {
		return body
	}
	response, ok := answer["response"].(map[string]any)
	if !ok {
		return body
	}
	if _, said := response["uid"]; !said {
		response["uid"] = q.Request.UID
	}
	objects, _ := response["convertedObjects"].([]any)
	for i, object := range objects[:min(len(objects), len(q.Request.Objects))] {
		object, _ := object.(map[string]any)
		if meta, ok := object["metadata"].(map[string]any); ok && meta["uid"] == nil {
			meta["uid"] = q.Request.Objects[i].Metadata.UID
		}
	}
	return encode(answer)
}

// taken returns what a side has asked since the last time, by the names of hooks: those that validate are asked all at once.
func (h *hook) taken(side string) []any {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.asked[side]
	delete(h.asked, side)
	slices.SortStableFunc(out, func(a, b any) int {
		return strings.Compare(fmt.Sprint(a.(map[string]any)["hook"]), fmt.Sprint(b.(map[string]any)["hook"]))
	})
	return out
}

// reviews compares what both sides have asked the hook.
func (r *run) reviews(subject, title string, h *hook) {
	c := &call{method: "REVIEWS"}
	ours, upstream := h.taken(r.ours.name), h.taken(r.upstream.name)
	r.report.Requests++
	for _, d := range compare(c, &answer{body: ours}, &answer{body: upstream}) {
		r.report.add(subject, title, c, d)
	}
}
