// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"fmt"
	"strconv"
	"time"

	resourcev1alpha3 "k8s.io/api/resource/v1alpha3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"kogge.dev/kogge/kinds"
	"kogge.dev/kogge/kinds/table"
)

// poolStatusRequest is served on request only. Nobody answers it: in v1.36 that takes a feature gate besides.
func poolStatusRequest() *kinds.Kind {
	gvk := resourcev1alpha3.SchemeGroupVersion.WithKind("ResourcePoolStatusRequest")
	return kinds.Define(kinds.Kind{
		Resource:              "resourcepoolstatusrequests",
		Singular:              "resourcepoolstatusrequest",
		AnswersDeleted:        true,
		NoGeneration:          true,
		ConditionalUpdateOnly: true,
		Reset:                 map[string][]string{"status": {"metadata", "spec"}},
		Storage:               kinds.Storage{Prefix: "resourcepoolstatusrequests"},
		OnRequest: []kinds.Served{
			kinds.Plain[resourcev1alpha3.ResourcePoolStatusRequest, resourcev1alpha3.ResourcePoolStatusRequestList](gvk),
		},
		Subresources: []kinds.Subresource{
			kinds.Status(func(_ kinds.Request, new, old *resourcev1alpha3.ResourcePoolStatusRequest) {
				new.Spec = old.Spec
				metav1.ResetObjectMetaForStatus(&new.ObjectMeta, &old.ObjectMeta)
			}, validatePoolStatusUpdate),
		},
	}, gvk,
		func() *resourcev1alpha3.ResourcePoolStatusRequest {
			return &resourcev1alpha3.ResourcePoolStatusRequest{}
		},
		func() runtime.Object { return &resourcev1alpha3.ResourcePoolStatusRequestList{} },
		kinds.Strategy[*resourcev1alpha3.ResourcePoolStatusRequest]{
			Default: func(r *resourcev1alpha3.ResourcePoolStatusRequest) {
				if r.Spec.Limit == nil {
					r.Spec.Limit = new(resourcev1alpha3.ResourcePoolStatusRequestLimitDefault)
				}
			},
			PrepareCreate:  func(_ kinds.Request, r *resourcev1alpha3.ResourcePoolStatusRequest) { r.Status = nil },
			PrepareUpdate:  func(_ kinds.Request, new, old *resourcev1alpha3.ResourcePoolStatusRequest) { new.Status = old.Status },
			Validate:       validatePoolRequest,
			ValidateUpdate: validatePoolRequestUpdate,
			Columns: []metav1.TableColumnDefinition{
				table.Name(), table.Text("Driver", ""), table.Text("Total", ""), table.Text("Available", ""), table.Text("Allocated", ""),
				table.Text("Unavailable", ""), table.Text("Errors", ""), table.Number("Pools", ""), table.Text("Status", ""), table.Text("Completed", ""),
			},
			Row: poolRequestRow,
		})
}

func poolRequestRow(r *resourcev1alpha3.ResourcePoolStatusRequest, now time.Time) []any {
	phase, completed := "Pending", table.None
	total, available, allocated, unavailable, failures := "-", "-", "-", "-", "-"
	var pools int32
	if s := r.Status; s != nil {
		pools = ptr.Deref(s.PoolCount, 0)
		for _, c := range s.Conditions {
			if c.Status != metav1.ConditionTrue {
				continue
			}
			if c.Type == resourcev1alpha3.ResourcePoolStatusRequestConditionComplete {
				phase, completed = "Complete", table.Since(c.LastTransitionTime, now)
				break
			}
			if c.Type == resourcev1alpha3.ResourcePoolStatusRequestConditionFailed {
				phase = "Failed"
				break
			}
		}
		if n := len(s.Pools); phase == "Complete" && int(pools) > n {
			phase = fmt.Sprintf("Complete (%d/%d pools)", n, pools)
		}
		if phase != "Failed" {
			sum := func(of func(*resourcev1alpha3.PoolStatus) *int32) string {
				var out int32
				for i := range s.Pools {
					out += ptr.Deref(of(&s.Pools[i]), 0)
				}
				return strconv.Itoa(int(out))
			}
			total = sum(func(p *resourcev1alpha3.PoolStatus) *int32 { return p.TotalDevices })
			available = sum(func(p *resourcev1alpha3.PoolStatus) *int32 { return p.AvailableDevices })
			allocated = sum(func(p *resourcev1alpha3.PoolStatus) *int32 { return p.AllocatedDevices })
			unavailable = sum(func(p *resourcev1alpha3.PoolStatus) *int32 { return p.UnavailableDevices })
			failures = sum(func(p *resourcev1alpha3.PoolStatus) *int32 {
				if p.ValidationError == nil {
					return nil
				}
				return new(int32(1))
			})
		}
	}
	return []any{r.Name, r.Spec.Driver, total, available, allocated, unavailable, failures, int64(pools), phase, completed}
}
