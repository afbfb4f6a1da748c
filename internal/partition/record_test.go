package partition

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	exampleMember = memberRecord{Worker: Worker{ID: "ABC", Host: "a", PID: 7, Version: "v1.0.0", Started: time.Unix(1767225600, 0).UTC()}}
	exampleLease  = Tenancy{Owner: "ABC", Since: time.Unix(1767225600, 0).UTC(), Status: Status{Holds: LogStatus{Folded: 9, Stored: 8, Pending: new(uint64(1))}, PoH: LogStatus{Pending: new(uint64)}}}
)

const (
	exampleMemberValue = `{"id":"ABC","host":"a","pid":7,"version":"v1.0.0","started":"2026-01-01T00:00:00Z","leaving":false}`
	exampleLeaseValue  = `{"owner":"ABC","since":"2026-01-01T00:00:00Z","HOLDS":{"folded":9,"stored":8,"pending":1},"POH":{"folded":0,"stored":0,"pending":0}}`
)

// TestRecords writes and reads what is documented, and nothing else.
func TestRecords(t *testing.T) {
	if diff := cmp.Diff(exampleMemberValue, string(exampleMember.encode())); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(exampleLeaseValue, string(exampleLease.encode())); diff != "" {
		t.Error(diff)
	}
	member, err := decodeMember("m.ABC", []byte(exampleMemberValue))
	if diff := cmp.Diff(exampleMember, member); diff != "" || err != nil {
		t.Error(err, diff)
	}
	partition, lease, err := decodeLease("p.5", []byte(exampleLeaseValue))
	if diff := cmp.Diff(exampleLease, lease); diff != "" || err != nil || partition != 5 {
		t.Error(err, partition, diff)
	}
	for _, wrong := range []string{
		"", "null", "{}", "[]", exampleMemberValue + " ", exampleMemberValue + exampleMemberValue,
		strings.Replace(exampleMemberValue, `"pid":7`, `"pid":7,"more":1`, 1),
		strings.Replace(exampleMemberValue, `"pid":7,`, ``, 1),
		strings.Replace(exampleMemberValue, `"ABC"`, `"A.C"`, 1),
	} {
		if _, err := decodeMember("m.ABC", []byte(wrong)); err == nil {
			t.Errorf("member %s: accepted", wrong)
		}
	}
	if _, err := decodeMember("m.XYZ", []byte(exampleMemberValue)); err == nil {
		t.Error("another's key: accepted")
	}
	const stopped = `{"owner":"ABC","since":"2026-01-01T00:00:00Z","HOLDS":{"folded":9,"stored":8,"pending":null,"state":"stopped","reason":"it is \u003cgone\u003e"},"POH":{"folded":0,"stored":0,"pending":0}}`
	want := exampleLease
	want.Holds.Pending, want.Holds.State, want.Holds.Reason = nil, Stopped, "it is <gone>"
	_, lease, err = decodeLease("p.5", []byte(stopped))
	if diff := cmp.Diff(want, lease); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for _, key := range []string{"p.", "p.x", "p.-1", "p.05", "p.99999999999999999999", "m.5"} {
		if _, _, err := decodeLease(key, []byte(exampleLeaseValue)); err == nil {
			t.Errorf("key %s: accepted", key)
		}
	}
	if _, _, err := decodeLease("p.5", []byte(strings.Replace(exampleLeaseValue, "ABC", "", 1))); err == nil {
		t.Error("a lease without an owner: accepted")
	}
	for _, said := range []LogStatus{
		{State: "serving"}, {State: "Stopped"}, {Reason: "why"}, {State: Loading, Reason: "why"}, {State: Failing, Reason: strings.Repeat("a", maxReason+4)},
	} {
		for _, r := range []Tenancy{{Owner: "ABC", Status: Status{Holds: said}}, {Owner: "ABC", Status: Status{PoH: said}}} {
			if _, _, err := decodeLease("p.5", r.encode()); err == nil {
				t.Errorf("%.200s: accepted", r.encode())
			}
		}
	}
}

// A reason of any text is short, and is read as it was written.
func TestShorten(t *testing.T) {
	for _, text := range []string{"", "short", strings.Repeat("é", 1000), "a" + strings.Repeat("é", 1000), "\xff\xfe not UTF-8"} {
		r := exampleLease
		r.Holds.State, r.Holds.Reason = Failing, Shorten(text)
		if _, again, err := decodeLease("p.5", r.encode()); err != nil || !cmp.Equal(again, r) || len(r.Holds.Reason) > maxReason+len(cutOff) {
			t.Errorf("%.20q: %d bytes: %v", text, len(r.Holds.Reason), err)
		}
	}
}

// FuzzRecords reads whatever others may have written: it is refused, or is what would be written.
func FuzzRecords(f *testing.F) {
	f.Add("m.ABC", []byte(exampleMemberValue))
	f.Add("p.5", []byte(exampleLeaseValue))
	f.Add("p.5", []byte(`{"owner":"ABC"}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		if r, err := decodeMember(key, value); err == nil && (string(r.encode()) != string(value) || memberKey(r.ID) != key) {
			t.Errorf("member %s %s is taken for %s", key, value, r.encode())
		}
		if p, r, err := decodeLease(key, value); err == nil && (string(r.encode()) != string(value) || leaseKey(p) != key) {
			t.Errorf("lease %s %s is taken for %s", key, value, r.encode())
		}
	})
}
