// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package differential

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kogge.dev/kogge/internal/pki"
	"kogge.dev/kogge/test/peers/access"
)

// Audit is where the servers record requests, and who asks them. Both have the policy of AuditPolicy.
type Audit struct {
	// OurLog and UpstreamLog are files with one event a line.
	OurLog, UpstreamLog string
	// Ours and Upstream are the identities of AuditedUsers by name.
	Ours, Upstream map[string]access.Access
}

// AuditPolicy is the file with the policy that both servers are to have.
func AuditPolicy(root string) string {
	return filepath.Join(root, "test/peers/differential/testdata/audit/policy.yaml")
}

// auditedGroup is whose requests the policy records.
const auditedGroup = "audited"

// AuditedUsers ask the requests whose records are compared: one may do everything, one nothing but what the script lets it do.
var AuditedUsers = []pki.Leaf{
	{User: "auditor", Groups: []string{auditedGroup, "system:masters"}},
	{User: "stranger", Groups: []string{auditedGroup}},
}

// nobody has no credentials.
const nobody = "nobody"

// audited sends the requests of testdata/audit/script.txt and compares what the servers have recorded of each.
func (r *run) audited(ctx context.Context) error {
	const name = "script audit"
	if r.Audit == nil || r.Requested != nil || r.Only != nil && !r.Only.MatchString(name) {
		return nil
	}
	file := filepath.Join(r.Root, "test/peers/differential/testdata/audit/script.txt")
	script, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	steps, err := parseScript(string(script))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	pairs, err := r.Audit.servers()
	if err != nil {
		return err
	}
	before := r.report.Requests
	h := newHook()
	defer h.server.Close()
	var someone *pair
	for _, someone = range pairs {
		h.tell(someone.ours)
		h.tell(someone.upstream)
	}
	for i := range steps {
		s := &steps[i]
		if s.method == "PAUSE" || s.method == "ANSWER" {
			if err := r.beside(ctx, h, s); err != nil {
				return fmt.Errorf("%s: line %d: %w", file, s.line, err)
			}
			continue
		}
		s.header.Set("Audit-ID", auditID(s.line))
		who := pairs[s.as]
		if who == nil {
			return fmt.Errorf("%s: line %d: nobody is called %q", file, s.line, s.as)
		}
		as := *r
		as.ours, as.upstream = who.ours, who.upstream
		if _, _, err := as.both(ctx, name, fmt.Sprintf("%s:%d", name, s.line), &s.call); err != nil {
			return fmt.Errorf("%s: line %d: %w", file, s.line, err)
		}
	}
	last := auditID(steps[len(steps)-1].line)
	ours, err := awaitEvents(ctx, r.Audit.OurLog, last, someone.ours.hear)
	if err != nil {
		return err
	}
	upstream, err := awaitEvents(ctx, r.Audit.UpstreamLog, last, someone.upstream.hear)
	if err != nil {
		return err
	}
	for i := range steps {
		s := &steps[i]
		id := auditID(s.line)
		r.report.Requests++
		mine, theirs := map[string]any{"events": ours[id]}, map[string]any{"events": upstream[id]}
		for _, d := range compare(&s.call, &answer{body: mine}, &answer{body: theirs}) {
			r.report.add(name, fmt.Sprintf("%s:%d, recorded", name, s.line), &s.call, d)
		}
	}
	fmt.Fprintf(r.Progress, "%6d requests  %s\n", r.report.Requests-before, name)
	return nil
}

// beside carries out a step that is no request.
func (r *run) beside(ctx context.Context, h *hook, s *step) error {
	if s.method == "PAUSE" {
		return pause(ctx, s.path)
	}
	return h.answer(s)
}

func auditID(line int) string { return fmt.Sprintf("line-%d", line) }

// pair is one user on both sides.
type pair struct{ ours, upstream *server }

func (a *Audit) servers() (map[string]*pair, error) {
	out := map[string]*pair{}
	for name, mine := range a.Ours {
		theirs := a.Upstream[name]
		for as, identity := range map[string][2]access.Access{
			name:   {mine, theirs},
			nobody: {{Server: mine.Server, CA: mine.CA}, {Server: theirs.Server, CA: theirs.CA}},
		} {
			p := &pair{}
			var err error
			if p.ours, err = newServer("kogge", identity[0]); err != nil {
				return nil, err
			}
			if p.upstream, err = newServer(upstreamName, identity[1]); err != nil {
				return nil, err
			}
			out[as] = p
		}
	}
	return out, nil
}

// awaitEvents reads a log until it ends with the last event of a request, which is written after the answer. It returns the
// events of each request, as hear has them.
func awaitEvents(ctx context.Context, file, last string, hear *strings.Replacer) (map[string][]any, error) {
	const patience, pause = 10 * time.Second, 100 * time.Millisecond
	for deadline := time.Now().Add(patience); ; {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out := map[string][]any{}
		complete := false
		for line := range bytes.Lines([]byte(hear.Replace(string(text)))) {
			decoder := json.NewDecoder(bytes.NewReader(line))
			decoder.UseNumber()
			var event map[string]any
			if err := decoder.Decode(&event); err != nil {
				break // The rest of the line is not written yet.
			}
			id := fmt.Sprint(event["auditID"])
			out[id] = append(out[id], event)
			complete = complete || id == last && event["stage"] == "ResponseComplete"
		}
		if complete {
			return out, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s: the request %s is not recorded", file, last)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}
