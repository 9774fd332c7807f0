// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resourcequota_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"kogge.dev/kogge/client"
	"kogge.dev/kogge/cluster/control"
	"kogge.dev/kogge/controllers/resourcequota"
	"kogge.dev/kogge/testcluster"
)

// world is a cluster in a bubble that has no controllers but quota's, with the quota "q" of the namespace default.
type world struct {
	*testing.T
	lag     *testcluster.Lag
	secrets client.Resource[*corev1.Secret]
	quotas  client.Resource[*corev1.ResourceQuota]
}

func begin(t *testing.T, list time.Duration, hard corev1.ResourceList) *world {
	t.Helper()
	c := testcluster.New(t, testcluster.Config{Without: control.Components{Controllers: true, Scheduler: true}}).Admin()
	w := &world{
		T: t, lag: &testcluster.Lag{Backend: c.Backend(), Resource: "secrets"},
		secrets: client.Of[*corev1.Secret](c), quotas: client.Of[*corev1.ResourceQuota](c),
	}
	w.lag.Lists(list)
	own := client.New(w.lag, c.Catalog())
	testcluster.RunLoop(t, own, own, resourcequota.New)
	synctest.Wait()
	q := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "q"}, Spec: corev1.ResourceQuotaSpec{Hard: hard},
	}
	if _, err := w.quotas.Create(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) secret(name string) error {
	w.Helper()
	_, err := w.secrets.Create(w.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}})
	return err
}

func (w *world) patch(text string, subresource ...string) {
	w.Helper()
	if _, err := w.quotas.Patch(w.Context(), metav1.NamespaceDefault, "q", types.MergePatchType, []byte(text), subresource...); err != nil {
		w.Fatal(err)
	}
}

// after lets time pass, and holds how many Secrets are counted then.
func (w *world) after(d time.Duration, want int64) {
	w.Helper()
	time.Sleep(d)
	synctest.Wait()
	q, err := w.quotas.Get(w.Context(), metav1.NamespaceDefault, "q")
	if err != nil {
		w.Fatal(err)
	}
	used, counted := q.Status.Used[corev1.ResourceSecrets]
	if !counted || used.Value() != want {
		w.Fatalf("%v of Secrets are used, want %d", q.Status.Used, want)
	}
}

func five(names ...corev1.ResourceName) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, name := range names {
		out[name] = resource.MustParse("5")
	}
	return out
}

// TestFailedCreateIsGivenBack charges a Secret that is not stored in the end.
func TestFailedCreateIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, 0, five(corev1.ResourceSecrets))
		w.after(time.Minute, 0)
		if err := w.secret("a"); err != nil {
			t.Fatal(err)
		}
		if err := w.secret("a"); !apierrors.IsAlreadyExists(err) {
			t.Fatalf("second create: %v, want that it exists", err)
		}
		w.after(time.Second, 2)
		w.after(5*time.Minute, 1)
		if err := w.secret("b"); err != nil { // once more, on top of the new count
			t.Fatal(err)
		}
		if err := w.secret("b"); !apierrors.IsAlreadyExists(err) {
			t.Fatalf("second create: %v, want that it exists", err)
		}
		w.after(6*time.Minute, 2)
	})
}

// TestLimitThatComesLaterCountsWhatWasThere adds a limit to an old quota, right after a Secret that nobody charged to it and that the view
// shows only when the count is done.
func TestLimitThatComesLaterCountsWhatWasThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, 0, five(corev1.ResourceSecrets))
		w.after(time.Minute, 0)
		w.patch(`{"spec":{"hard":{"secrets":null,"configmaps":"5"}}}`)
		time.Sleep(time.Minute)
		w.lag.Events(2 * time.Second)
		if err := w.secret("a"); err != nil {
			t.Fatal(err)
		}
		w.patch(`{"spec":{"hard":{"secrets":"5"}}}`)
		w.after(time.Second, 0) // as far as anybody can know
		w.after(2*time.Second, 1)
	})
}

// TestCountThatMissedAChargedObjectIsMended makes the loop believe a view that does not show a charged Secret for longer than a low count is
// doubted, as when storing it takes long.
func TestCountThatMissedAChargedObjectIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, 0, five(corev1.ResourceSecrets))
		w.after(time.Minute, 0)
		w.lag.Events(5 * time.Second)
		if err := w.secret("a"); err != nil {
			t.Fatal(err)
		}
		w.after(time.Second, 1)
		w.patch(`{"status":{"hard":{"secrets":"9"}}}`, "status") // a reason to count
		w.after(2*time.Second, 0)
		w.after(3*time.Second, 1)
	})
}

// TestNothingIsRefusedBeforeTheFirstCount makes Secrets while the first quota ever to count any waits for their list. What is limited but
// not counted is refused, so the status must not say either before it can say both.
func TestNothingIsRefusedBeforeTheFirstCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := begin(t, 300*time.Millisecond, corev1.ResourceList{corev1.ResourceSecrets: resource.MustParse("100")})
		for i := range 50 {
			if err := w.secret(fmt.Sprintf("s%d", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
		w.after(2*time.Second, 50)
	})
}
