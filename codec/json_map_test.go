// SPDX-FileCopyrightText: The kogge authors
// SPDX-License-Identifier: Apache-2.0

package codec_test

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Types that write themselves where they have an address; some in another way where they have none.
type (
	pointerJSON struct{ N int32 }
	pointerText struct{ N int32 }
	valueText   struct{ N int32 }
	bothWays    struct{ N int32 }
	failing     struct{ N int32 }
)

func (*pointerJSON) MarshalJSON() ([]byte, error) { return []byte(`"by pointer"`), nil }
func (*pointerText) MarshalText() ([]byte, error) { return []byte("<text by pointer>"), nil }
func (valueText) MarshalText() ([]byte, error)    { return []byte("<text>"), nil }
func (bothWays) MarshalText() ([]byte, error)     { return []byte("<text>"), nil }
func (*bothWays) MarshalJSON() ([]byte, error)    { return []byte(`"by pointer"`), nil }
func (failing) MarshalJSON() ([]byte, error)      { return nil, errors.New("failed") }

// held has what minds its address, directly or not.
type held struct {
	JSON   pointerJSON     `json:"json"`
	Text   [2]pointerText  `json:"text"`
	Own    valueText       `json:"own"`
	Both   bothWays        `json:"both"`
	Behind *pointerJSON    `json:"behind"`
	List   []pointerText   `json:"list"`
	Empty  map[string]held `json:"empty,omitempty"`
}

// reached has what has an address wherever it is.
type reached struct {
	Behind *held            `json:"behind"`
	List   []held           `json:"list"`
	Map    map[string]*held `json:"map"`
	Own    valueText        `json:"own"`
}

// tree contains itself in three ways.
type tree struct {
	Name     string            `json:"name"`
	Children map[string]tree   `json:"children,omitempty"`
	Lists    map[string][]tree `json:"lists"`
	Others   map[string]*tree  `json:"others,omitempty"`
}

type (
	name    string
	textKey string
)

func (textKey) MarshalText() ([]byte, error) { return []byte("key"), nil }

func TestJSONOfMaps(t *testing.T) {
	full := held{Behind: &pointerJSON{1}, List: []pointerText{{1}}, Empty: map[string]held{"k": {}}}
	all := reached{Behind: &full, List: []held{full}, Map: map[string]*held{"b": &full, "a": nil}}
	grown := tree{Name: "<", Children: map[string]tree{"b": {Name: "b"}, "a": {Lists: map[string][]tree{}}, "<\u2028\xff\"": {}, "": {}}}
	for range 4 {
		grown = tree{
			Children: map[string]tree{"x": grown, "w": {}, "y": grown}, Lists: map[string][]tree{"l": {grown, {}}, "k": nil, "j": {}},
			Others: map[string]*tree{"o": new(grown), "n": nil},
		}
	}
	many := map[string]inner{}
	for i := range 3000 {
		many[strings.Repeat("k", i%50)+string(rune(i))] = inner{Name: "n", Other: &inner{}}
	}
	for _, obj := range []any{
		&map[string]pointerJSON{"a": {}}, &map[string]pointerText{"a": {}}, &map[string]valueText{"a": {}}, &map[string]bothWays{"a": {}},
		&map[string]*pointerJSON{"b": {}, "a": nil}, &map[string]*pointerText{"b": {}, "a": nil}, &map[string][]pointerJSON{"a": {{}}, "b": nil},
		&map[string][1]pointerJSON{"a": {}}, &map[string]struct{ pointerJSON }{"a": {}}, &map[string]held{"a": full, "b": {}}, &map[string]reached{"a": all, "b": {}},
		&map[string]struct {
			In struct{ Deep [1]struct{ At bothWays } }
		}{"a": {}}, &map[string]map[string]held{"a": {"b": full}, "c": {}, "d": nil},
		&full, &all, &grown, &tree{}, &many, &map[string]tree{}, new(map[string]tree), &map[string]tree{"": {}},
		&map[name]inner{"b": {}, "a<": {}}, &map[textKey]inner{"b": {}}, &map[name]name{"b": "<", "a": ""}, &map[int]inner{2: {}, 10: {}},
		&map[string]struct{}{"b": {}, "a": {}}, &map[string]any{"b": 1, "a": []any{inner{}}}, &map[string]error{"a": nil}, &map[string]bool{"b": true, "a": false},
		&map[string]int32{"b": -1, "a": 0}, &map[string]float64{"b": 1e21, "a": 0}, &map[string][2]int64{"a": {1}}, &map[string]map[string]string{"b": {"c": "d"}, "a": nil},
		&map[string]impossible{"a": {}}, &map[string]impossible{}, &map[string]chan int{"a": nil}, &map[string]failing{"a": {}}, &map[string]tree{"a": {Children: grown.Children}},
		&map[string]quoted{"a": {1}}, &map[string]lent{"b": {}, "a": {&inner{}}}, &map[string]twice{"a": {}},
		&map[string]metav1.Time{"a": {}}, &map[string]intstr.IntOrString{"a": intstr.FromString("<")}, &map[string]shapes{"a": {}},
		&map[string]*resource.Quantity{"a": new(resource.MustParse("1Gi")), "b": nil}, &map[string]corev1.Pod{"a": *pod()},
		&resourcev1.Device{Attributes: map[resourcev1.QualifiedName]resourcev1.DeviceAttribute{"b": {StringValue: new("<")}, "a/b": {IntValue: new(int64(1))}}},
	} {
		for range 2 { // What the first has used is used again.
			sameJSON(t, obj)
		}
	}
}
