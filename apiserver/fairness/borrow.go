// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package fairness

import (
	"math"
	"time"

	"kogge.dev/kogge/apiserver/fairness/queues"
)

// memory is how much of the smoothed demand is left after one period: demand that falls is forgotten in about five minutes (KEP-1040).
const memory = 0.977

// adjustLocked lets levels lend and borrow seats by what was lately asked of them. Requests bring it about: a server that nobody asks
// does nothing.
func (l *Limiter) adjustLocked(now time.Time) {
	age := now.Sub(l.adjusted)
	if age < adjustEvery {
		return
	}
	l.adjusted = now
	kept := math.Pow(memory, float64(age)/float64(adjustEvery))
	var levels []*level
	var claims []queues.Claim
	for _, lv := range l.levels {
		d := lv.core.Demand(now)
		lv.smooth = max(d.Envelope(), kept*lv.smooth+(1-kept)*d.Envelope())
		levels = append(levels, lv)
		claims = append(claims, queues.Claim{
			Min: lv.plan.min, Nominal: lv.plan.nominal, Max: lv.plan.max, Exempt: lv.plan.exempt, Peak: d.Peak, Smooth: lv.smooth,
		})
	}
	for i, seats := range queues.Divide(l.cfg.Seats, claims) {
		l.wakeLocked(levels[i].core.Configure(now, levels[i].plan.shape, seats))
	}
}
