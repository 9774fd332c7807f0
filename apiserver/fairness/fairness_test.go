// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/apiserver/request"
)

type user struct {
	name   string
	groups []string
}

var (
	alice = user{"alice", []string{request.GroupAuthenticated}}
	bob   = user{"bob", []string{request.GroupAuthenticated}}
	admin = user{"admin", []string{request.GroupMasters, request.GroupAuthenticated}}
)

// ask sends a request through a handler; a zero timeout gives it no deadline.
func ask(h http.Handler, u user, info request.Info, timeout time.Duration) *httptest.ResponseRecorder {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	s := &request.State{Info: info, User: request.User{Name: u.name, Groups: u.groups}}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil).WithContext(request.With(ctx, s)))
	return w
}

var list = request.Info{IsResource: true, Verb: "list", Namespace: "default"}

// levelAndSchema returns a priority level with all seats but the catch-all's, and a schema that sends authenticated users to it.
func levelAndSchema(limit flowcontrolv1.LimitResponse) ([]*flowcontrolv1.PriorityLevelConfiguration, []*flowcontrolv1.FlowSchema) {
	level := &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "tight", UID: "level-uid"},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type:    flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{NominalConcurrencyShares: ptr.To[int32](5), LimitResponse: limit},
		},
	}
	flows := &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: "tight", UID: "schema-uid"},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "tight"}, MatchingPrecedence: 500,
			DistinguisherMethod: &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
			Rules:               everyone(),
		},
	}
	return []*flowcontrolv1.PriorityLevelConfiguration{level}, []*flowcontrolv1.FlowSchema{flows}
}

// everyone are rules that match what authenticated users do to resources.
func everyone() []flowcontrolv1.PolicyRulesWithSubjects {
	all := []string{"*"}
	return []flowcontrolv1.PolicyRulesWithSubjects{{
		Subjects:         []flowcontrolv1.Subject{{Kind: "Group", Group: &flowcontrolv1.GroupSubject{Name: request.GroupAuthenticated}}},
		ResourceRules:    []flowcontrolv1.ResourcePolicyRule{{Verbs: all, APIGroups: all, Resources: all, Namespaces: all, ClusterScope: true}},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: all, NonResourceURLs: []string{"/healthz/*"}}},
	}}
}

// holding returns a limiter with two seats at the level and a handler that holds requests of the verb "list" until release is closed.
func holding(limit flowcontrolv1.LimitResponse) (h http.Handler, release chan struct{}) {
	l := New(Config{Seats: 4})
	l.configure(levelAndSchema(limit))
	release = make(chan struct{})
	return l.Filter(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if request.From(r.Context()).Info.Verb == "list" {
			<-release
		}
		w.WriteHeader(http.StatusOK)
	})), release
}

func TestRejectingLevelRefusesTheOneTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, release := holding(flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject})
		for range 2 {
			go ask(h, alice, list, 0)
		}
		synctest.Wait()
		w := ask(h, bob, list, 0)
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "1" {
			t.Errorf("third request: code %d, Retry-After %q; want 429 and 1", w.Code, w.Header().Get("Retry-After"))
		}
		if s, l := w.Header().Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID), w.Header().Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID); s != "schema-uid" || l != "level-uid" {
			t.Errorf("headers name schema %q and level %q", s, l)
		}
		for _, c := range []struct {
			name string
			user user
			info request.Info
		}{
			{"an administrator", admin, request.Info{IsResource: true, Verb: "get"}},
			{"logs", alice, request.Info{IsResource: true, Verb: "get", Subresource: "log"}},
			{"another level", alice, request.Info{Verb: "get", Path: "/version"}},
		} {
			if w := ask(h, c.user, c.info, 0); w.Code != http.StatusOK {
				t.Errorf("%s beside a full level: code %d, want 200", c.name, w.Code)
			}
		}
		close(release)
		synctest.Wait()
		if w := ask(h, bob, list, 0); w.Code != http.StatusOK {
			t.Errorf("request after release: code %d, want 200", w.Code)
		}
	})
}

func TestQueuedRequestWaitsForItsSeatAndNoLongerThanItsTime(t *testing.T) {
	queuing := flowcontrolv1.LimitResponse{
		Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 8, HandSize: 1, QueueLengthLimit: 1},
	}
	synctest.Test(t, func(t *testing.T) {
		h, release := holding(queuing)
		for range 2 {
			go ask(h, alice, list, 0)
		}
		synctest.Wait()
		began := time.Now()
		if w := ask(h, bob, list, 20*time.Second); w.Code != http.StatusTooManyRequests || time.Since(began) != 5*time.Second {
			t.Errorf("code %d after %v, want 429 after a quarter of the time", w.Code, time.Since(began))
		}
		code := make(chan int, 1)
		go func() { code <- ask(h, bob, list, 0).Code }()
		synctest.Wait()
		if w := ask(h, bob, list, 0); w.Code != http.StatusTooManyRequests {
			t.Errorf("request to a full queue: code %d, want 429", w.Code)
		}
		close(release)
		if got := <-code; got != http.StatusOK {
			t.Errorf("request that waited: code %d, want 200", got)
		}
	})
}

func TestWatchGivesItsSeatBackWhenItStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Seats: 4})
		l.configure(levelAndSchema(flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}))
		end := make(chan struct{})
		h := l.Filter(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request.From(r.Context()).Streams()
			<-end
		}))
		codes := make(chan int, 10)
		for range cap(codes) {
			go func() { codes <- ask(h, alice, request.Info{IsResource: true, Verb: "watch"}, 0).Code }()
			synctest.Wait()
		}
		close(end)
		for range cap(codes) {
			if got := <-codes; got != http.StatusOK {
				t.Errorf("watch beside others: code %d, want 200", got)
			}
		}
	})
}

func TestListsOfMuchAreWide(t *testing.T) {
	l := New(Config{})
	l.cfg.Size = func(gvr schema.GroupVersionResource) (int, int64) {
		objects := map[string]int{"pods": 450, "events": 100_000}[gvr.Resource]
		return objects, int64(objects) * 1_000
	}
	for _, c := range []struct {
		resource, verb, name, query string
		want                        int
	}{
		{"pods", "list", "", "", 5},
		{"pods", "list", "", "limit=150", 2},
		{"pods", "list", "", "limit=150&labelSelector=a", 2},
		{"pods", "list", "", "limit=500", 5},
		{"events", "list", "", "", 10},
		{"nodes", "list", "", "", 1},
		{"events", "get", "e", "", 1},
		{"events", "list", "e", "", 1},
		{"pods", "watch", "", "", 5},
		{"pods", "watch", "", "resourceVersion=7", 1},
		{"pods", "watch", "", "resourceVersion=7&sendInitialEvents=true", 5},
	} {
		info := request.Info{IsResource: true, Verb: c.verb, Name: c.name, GroupVersionResource: schema.GroupVersionResource{Resource: c.resource}}
		if got := l.workOf(httptest.NewRequest(http.MethodGet, "/?"+c.query, nil), &info, 10).seats(); got != c.want {
			t.Errorf("%s %s %s %s takes %d seats, want %d", c.verb, c.resource, c.name, c.query, got, c.want)
		}
	}
}

func TestWritesThatManyHearOfCostMore(t *testing.T) {
	heard := 0
	l := New(Config{Watchers: func(schema.GroupVersionResource, string, string) int { return heard }})
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	for _, c := range []struct {
		watchers int
		want     work
	}{
		{9, work{initial: 1}},
		{10, work{1, 1, 5 * time.Millisecond}},
		{45, work{1, 5, 5 * time.Millisecond}},
		{1000, work{1, 10, 50 * time.Millisecond}},
	} {
		heard = c.watchers
		if got := l.workOf(r, &request.Info{IsResource: true, Verb: "patch"}, 10); got != c.want {
			t.Errorf("a write that %d watchers hear of is %+v, want %+v", c.watchers, got, c.want)
		}
	}
	token := request.Info{IsResource: true, Verb: "create", Subresource: "token", GroupVersionResource: schema.GroupVersionResource{Resource: "serviceaccounts"}}
	if got := l.workOf(r, &token, 10); got != (work{initial: 1}) {
		t.Errorf("a token, of which nobody hears, is %+v", got)
	}
}

func TestAWriteKeepsItsSeatsWhileWatchersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Seats: 4, Watchers: func(schema.GroupVersionResource, string, string) int { return 20 }})
		l.configure(levelAndSchema(flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject}))
		h := l.Filter(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		write := request.Info{IsResource: true, Verb: "create"}
		for _, c := range []struct{ want int }{{http.StatusOK}, {http.StatusTooManyRequests}} {
			if w := ask(h, alice, write, 0); w.Code != c.want {
				t.Errorf("a write of two seats at once: code %d, want %d", w.Code, c.want)
			}
		}
		time.Sleep(telling)
		synctest.Wait()
		if w := ask(h, alice, write, 0); w.Code != http.StatusOK {
			t.Errorf("a write after the watchers were told: code %d", w.Code)
		}
		time.Sleep(telling)
	})
}

func TestAQueueingLevelBoundsOneRequest(t *testing.T) {
	queuing := func(hand int32) flowcontrolv1.LimitResponse {
		return flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 64, HandSize: hand, QueueLengthLimit: 5}}
	}
	for _, c := range []struct {
		seats, want int
		hand        int32
	}{{600, 10, 8}, {40, 3, 2}, {40, 2, 8}, {4, 1, 8}} {
		levels, schemas := levelAndSchema(queuing(c.hand))
		if got := makePlan(levels, schemas, c.seats).levels["tight"].widest; got != c.want {
			t.Errorf("%d seats, hands of %d: a request takes at most %d, want %d", c.seats, c.hand, got, c.want)
		}
	}
}

func TestDumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Seats: 4})
		l.configure(levelAndSchema(flowcontrolv1.LimitResponse{
			Type: flowcontrolv1.LimitResponseTypeQueue, Queuing: &flowcontrolv1.QueuingConfiguration{Queues: 1, HandSize: 1, QueueLengthLimit: 1},
		}))
		release := make(chan struct{})
		h := l.Filter(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		pods := request.Info{
			IsResource: true, Verb: "list", Namespace: "n", Path: "/api/v1/namespaces/n/pods", GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "pods"},
		}
		for range 4 { // two execute, one waits, one finds the queue full
			go ask(h, alice, pods, 0)
			synctest.Wait()
		}
		dump := func(path string) string {
			w := httptest.NewRecorder()
			name, _, _ := strings.Cut(path, "?")
			l.Dumps()["/debug/api_priority_and_fairness/"+name].ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/"+path, nil))
			return w.Body.String()
		}
		for path, want := range map[string][]string{
			"dump_priority_levels": {
				"PriorityLevelName, ActiveQueues, IsIdle, IsQuiescing, WaitingRequests, ExecutingRequests, DispatchedRequests, RejectedRequests, TimedoutRequests, CancelledRequests",
				"tight, 1, false, false, 1, 2, 2, 1, 0, 0", "exempt, 0, true, false, 0, 0, 0, 0, 0, 0",
			},
			"dump_queues": {
				"PriorityLevelName, Index, PendingRequests, ExecutingRequests, SeatsInUse, NextDispatchR, InitialSeatsSum, MaxSeatsSum, TotalWorkSum",
				"tight, 0, 1, 2, 2, 0.00600000ss, 1, 1, 0.00300000ss",
			},
			"dump_requests": {
				"PriorityLevelName, FlowSchemaName, QueueIndex, RequestIndexInQueue, FlowDistingsher, ArriveTime, InitialSeats, FinalSeats, AdditionalLatency, StartTime",
				"tight, tight, 0, -1, alice, 2000-01-01T00:00:00Z, 1, 0, 0s, 2000-01-01T00:00:00Z",
				"tight, tight, 0, 0, alice, 2000-01-01T00:00:00Z, 1, 0, 0s, 0001-01-01T00:00:00Z",
			},
			"dump_requests?includeRequestDetails=1": {
				"StartTime, UserName, Verb, APIPath, Namespace, Name, APIVersion, Resource, SubResource",
				"0001-01-01T00:00:00Z, alice, list, /api/v1/namespaces/n/pods, n, , v1, pods,",
			},
		} {
			got := dump(path)
			plain := regexp.MustCompile(` +`).ReplaceAllString(got, " ")
			for _, line := range want {
				if !strings.Contains(plain, line) {
					t.Errorf("%s has no %q:\n%s", path, line, got)
				}
			}
		}
		close(release)
		synctest.Wait()
		if got := dump("dump_requests"); strings.Count(got, "\n") != 1 {
			t.Errorf("requests are left: %s", got)
		}
	})
}

func TestBusyLevelBorrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Seats: 100})
		before := l.levels["workload-low"].core.Seats()
		release := make(chan struct{})
		h := l.Filter(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
		for range 60 {
			go ask(h, user{"system:serviceaccount:a:b", []string{"system:serviceaccounts", request.GroupAuthenticated}}, list, 0)
		}
		synctest.Wait()
		time.Sleep(adjustEvery)
		go ask(h, alice, list, 0)
		synctest.Wait()
		if after := l.levels["workload-low"].core.Seats(); after < 55 || before >= 55 {
			t.Errorf("seats of a level that 60 requests want: %d before, %d after it could borrow", before, after)
		}
		close(release)
	})
}

func TestClassification(t *testing.T) {
	l := New(Config{})
	node := user{"system:node:one", []string{request.GroupNodes, request.GroupAuthenticated}}
	account := user{"system:serviceaccount:kube-system:x", []string{request.GroupServiceAccounts, request.GroupAuthenticated}}
	for _, c := range []struct {
		user user
		info request.Info
		want string
	}{
		{admin, list, "exempt"},
		{alice, list, "global-default"},
		{account, list, "kube-system-service-accounts"},
		{user{"system:serviceaccount:default:x", []string{request.GroupServiceAccounts, request.GroupAuthenticated}}, list, "service-accounts"},
		{node, request.Info{IsResource: true, Verb: "update", GroupVersionResource: schema.GroupVersionResource{Resource: "nodes"}, Subresource: "status", Name: "one"}, "system-node-high"},
		{node, list, "system-nodes"},
		{alice, request.Info{Verb: "get", Path: "/readyz"}, "probes"},
		{user{request.Anonymous, []string{request.GroupUnauthenticated}}, list, "global-default"},
	} {
		got := classify(l.schemas, &request.State{User: request.User{Name: c.user.name, Groups: c.user.groups}, Info: c.info})
		if got == nil || got.Name != c.want {
			t.Errorf("%s %+v: schema %v, want %s", c.user.name, c.info, got, c.want)
		}
	}
}
