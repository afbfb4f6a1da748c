package service

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestBuildOf(t *testing.T) {
	settings := func(kv ...string) (all []debug.BuildSetting) {
		for i := 0; i < len(kv); i += 2 {
			all = append(all, debug.BuildSetting{Key: kv[i], Value: kv[i+1]})
		}
		return all
	}
	tests := map[string]struct {
		info debug.BuildInfo
		want Build
	}{
		"nothing recorded": {debug.BuildInfo{}, Build{"(devel)", runtime.Version(), "unknown"}},
		"released":         {debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}}, Build{"v1.2.3", "go1.26.0", "unknown"}},
		"from a checkout": {
			debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}, Settings: settings("vcs.revision", "abc", "vcs.modified", "false")},
			Build{"v1.2.3", "go1.26.0", "abc"},
		},
		"with changes": {
			debug.BuildInfo{GoVersion: "go1.26.0", Settings: settings("vcs.modified", "true", "vcs.revision", "abc")},
			Build{"(devel)", "go1.26.0", "abc-dirty"},
		},
		"changes to nothing": {
			debug.BuildInfo{GoVersion: "go1.26.0", Settings: settings("vcs.modified", "true")},
			Build{"(devel)", "go1.26.0", "unknown"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, BuildOf(&test.info)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got := ReadBuild(); got.GoVersion != runtime.Version() {
		t.Errorf("ReadBuild: %+v", got)
	}
}

func TestBuildInfoMetric(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	build := Build{Version: "v1.2.3", GoVersion: "go1.26.0", Revision: "abc"}
	if err := build.Register(registry); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP holdfast_build_info What the running binary was built from; the value is always 1.
# TYPE holdfast_build_info gauge
holdfast_build_info{goversion="go1.26.0",revision="abc",version="v1.2.3"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	if err := build.Register(registry); err == nil {
		t.Error("registered twice without an error")
	}
}
