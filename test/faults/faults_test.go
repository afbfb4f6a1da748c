package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/test/faults/rig"
	"github.com/city-chain/holdfast/test/tree"
)

// makeFaults has the tests that run everything run: they take minutes, and more processors than tests beside them leave.
var makeFaults = flag.Bool("faults", false, "make faults, in short")

func needsFaults(t *testing.T) {
	t.Helper()
	if !*makeFaults {
		t.Skip("NOT CHECKED, as it takes minutes: that nothing is lost while faults are made. To check: go test -count=1 -v ./test/faults -faults")
	}
}

// TestFaults is the fault test in short: a few faults of each sort, on one server and on three.
func TestFaults(t *testing.T) {
	needsFaults(t)
	for name, args := range map[string][]string{
		"one server": {"--servers=1", "--events=80000", "--faults=8", "--duration=16s"},
		"three servers": {
			"--servers=3", "--events=60000", "--faults=5", "--duration=15s",
			"--kinds=kill-worker,stop-worker,kill-leader-of-HOLDS_STATE,kill-leader-of-WORKERS,cut-server",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := runCommand(t, args...)
			made := 0
			for _, n := range r.Faults {
				made += n
			}
			for _, not := range r.NotMade {
				if strings.Contains(not, "tried") { // what cannot be made here at all is no failure
					t.Errorf("not made: %s", not)
				}
			}
			if want := "--faults=" + strconv.Itoa(made); !slices.Contains(args, want) {
				t.Errorf("%d faults made: %v", made, r.Faults)
			}
			if r.Commit == "" || r.StoodStillCalm > r.StoodStill {
				t.Errorf("commit %q; a partition stood still for %v s, and %v with all servers", r.Commit, r.StoodStill, r.StoodStillCalm)
			}
			if r.Wrong != 0 || r.EventsDuringFaults == 0 || r.EventsDuringFaults > r.Events || r.Events < 60_000 || r.Stored < uint64(r.Events) || r.Rejections == 0 || r.Imports == 0 {
				t.Errorf("the run says little: %+v", r)
			}
		})
	}
}

// Without fencing the checker finds damage.
func TestUnfenced(t *testing.T) {
	needsFaults(t)
	if !rig.CanStop {
		t.Skip("this system cannot stop processes for a while, and without that nothing stale is stored")
	}
	if r := runCommand(t, "--unfenced", "--events=250000", "--faults=6", "--duration=8s"); r.Damaged == 0 {
		t.Errorf("no damage: %+v", r)
	}
}

// runCommand runs the command, expects it to be content, and returns the result.
func runCommand(t *testing.T, args ...string) (r Result) {
	t.Helper()
	tree.Notice(t, moduleRoot())
	file := filepath.Join(t.TempDir(), "result.json")
	var stdout, stderr bytes.Buffer
	code := command(t.Context(), append(args, "--json="+file), &stdout, &stderr)
	t.Logf("%s\n%s", &stderr, &stdout)
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// The same seed gives the same schedule, and every kind is in it once at least.
func TestPlan(t *testing.T) {
	o := Options{Seed: 7, Faults: 40, Duration: time.Minute}
	names := func(plan []fault) (list []string) {
		for _, f := range plan {
			list = append(list, f.name+" "+f.after.String()+" "+f.hold.String())
			if f.hold < f.kind.hold.from || f.hold > f.kind.hold.to {
				t.Errorf("%s lasts %v", f.name, f.hold)
			}
		}
		return list
	}
	first := o.plan(kinds)
	if diff := cmp.Diff(names(first), names(o.plan(kinds))); diff != "" {
		t.Errorf("the same seed (-first +second):\n%s", diff)
	}
	made := map[string]bool{}
	for _, f := range first {
		made[f.name] = true
	}
	if want := slices.Sorted(slices.Values(kindNames())); !slices.Equal(slices.Sorted(maps.Keys(made)), want) {
		t.Errorf("kinds in the schedule: %v", made)
	}
	o.Seed++
	if cmp.Equal(names(first), names(o.plan(kinds))) {
		t.Error("another seed gives the same schedule")
	}
}

// Arguments that cannot be followed are said to be so.
func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"--servers=2"}, {"--kinds=earthquake"}, {"more"}, {"--workers=0"}, {"--events=0"}} {
		var stdout, stderr bytes.Buffer
		if code := command(t.Context(), args, &stdout, &stderr); code == 0 || stderr.Len() == 0 {
			t.Errorf("%v: exit code %d, %q", args, code, &stderr)
		}
	}
}

// The commit is the program's, or that of the folder; where there is none of either, that is said.
func TestCommitOf(t *testing.T) {
	if got := commitOf("no program", t.TempDir()); got != "unknown" {
		t.Errorf("without anything: %q", got)
	}
	folder := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		output, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", folder, "-c", "user.name=n", "-c", "user.email=e@example.com"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, output)
		}
		return strings.TrimSpace(string(output))
	}
	file := filepath.Join(folder, "file")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := exec.LookPath("git"); err != nil {
		t.Skipf("NOT CHECKED: %v", err)
	}
	git("init", "-q")
	write("one")
	git("add", "file")
	git("commit", "-qm", "one")
	head := git("rev-parse", "HEAD")
	if got := commitOf("no program", folder); got != head {
		t.Errorf("of a clean folder: %q, not %q", got, head)
	}
	write("two")
	if got := commitOf("no program", folder); got != head+"-dirty" {
		t.Errorf("of a changed folder: %q, not %q", got, head+"-dirty")
	}
}

// A time is calm if no server was broken from then on, nor had been shortly before.
func TestCalm(t *testing.T) {
	var c calm
	at := func(seconds int) time.Time { return time.Unix(1_700_000_000+int64(seconds), 0) }
	is := func(from int, want bool) {
		t.Helper()
		if got := c.from(at(from)); got != want {
			t.Errorf("calm since %d s: %t", from, got)
		}
	}
	is(0, true)
	first, second := c.disturb(), c.disturb()
	is(0, false)
	first(at(20))
	is(19, false)
	second(at(30))
	is(29, false) // the fault was under way
	is(39, false) // it was not over for long
	is(40, true)
}

// What breaks NATS is known from what breaks those who use it.
func TestOfServers(t *testing.T) {
	var not []string
	for _, k := range kinds {
		if !k.ofServers() {
			not = append(not, k.name)
		}
	}
	if diff := cmp.Diff([]string{"kill-worker", "stop-worker", "pause-worker", "rolling-restart", "scale", "restart-exporter"}, not); diff != "" {
		t.Errorf("faults that leave the servers alone (-want +got):\n%s", diff)
	}
}

// One worker is soon joined by others, and each kind is still made.
func TestNobodyIsAloneForLong(t *testing.T) {
	for seed := range uint64(20) {
		o := Options{Seed: seed, Faults: 200, Servers: 3, Duration: time.Minute}
		seen, alone, scaled := map[string]bool{}, 0, 0
		for i, f := range o.plan(kinds) {
			seen[f.name] = true
			if f.name == scaling {
				alone = 0
				scaled++
			} else if scaled > 0 && sizes[(scaled-1)%len(sizes)] == 1 {
				alone++
			}
			if alone > mostAlone && i >= len(kinds) {
				t.Fatalf("seed %d: fault %d is the %dth in a row with one worker", seed, i, alone)
			}
		}
		if len(seen) != len(kinds) {
			t.Errorf("seed %d: only %d of %d kinds are made", seed, len(seen), len(kinds))
		}
	}
}

// A result is good without disagreements, or, unfenced, with some; and it says so.
func TestResult(t *testing.T) {
	for _, test := range []struct {
		unfenced bool
		wrong    int
		late     int // disagreements that are no damage
		ok       bool
		says     string
	}{
		{false, 0, 0, true, "disagreements                  0"},
		{false, 0, 0, true, "commit 0123abc\n"},
		{false, 0, 0, true, "longest standstill          14.0 s"},
		{false, 0, 0, true, "  with all servers           3.5 s"},
		{false, 3, 0, false, "and 2 more"},
		{true, 3, 0, true, "the damage was found"},
		{true, 0, 0, false, "too weak"},
		{true, 0, 4, false, "too weak"},
	} {
		r := Result{Unfenced: test.unfenced, Wrong: test.wrong + test.late, Damaged: test.wrong, Faults: map[string]int{"scale": 2}, Commit: "0123abc", StoodStill: 14, StoodStillCalm: 3.5}
		if test.wrong > 0 {
			r.Disagreements = []string{"one digit"}
		}
		var b strings.Builder
		r.Print(&b)
		if r.OK() != test.ok || !strings.Contains(b.String(), test.says) {
			t.Errorf("%+v: ok %t, and it says:\n%s", test, r.OK(), &b)
		}
	}
}
