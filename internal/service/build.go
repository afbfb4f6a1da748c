package service

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Build says what this binary was made from.
type Build struct {
	Version   string // of the module: "v1.2.3", a pseudo-version, or "(devel)" where the toolchain recorded none
	GoVersion string // "go1.26.0"
	Revision  string // the commit, with "-dirty" appended if files had been changed; "unknown" if none was recorded
}

// ReadBuild returns what the Go toolchain recorded in the running binary.
func ReadBuild() Build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return BuildOf(info)
}

// BuildOf returns what the Go toolchain recorded in a binary, be it another than the running one.
func BuildOf(info *debug.BuildInfo) Build {
	build := Build{Version: info.Main.Version, GoVersion: info.GoVersion, Revision: "unknown"}
	if build.Version == "" {
		build.Version = "(devel)"
	}
	if build.GoVersion == "" {
		build.GoVersion = runtime.Version()
	}
	dirty := ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			build.Revision = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			dirty = "-dirty"
		}
	}
	if build.Revision != "unknown" {
		build.Revision += dirty
	}
	return build
}

// String is what --version prints after the command's name.
func (b Build) String() string {
	return fmt.Sprintf("%s (%s, revision %s)", b.Version, b.GoVersion, b.Revision)
}

// Register adds the metric holdfast_build_info, whose value is always 1, to reg. It fails if reg has it already.
func (b Build) Register(reg prometheus.Registerer) error {
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "holdfast_build_info",
		Help: "What the running binary was built from; the value is always 1.",
		ConstLabels: prometheus.Labels{
			"version":   b.Version,
			"goversion": b.GoVersion,
			"revision":  b.Revision,
		},
	})
	gauge.Set(1)
	if err := reg.Register(gauge); err != nil {
		return fmt.Errorf("register build info: %w", err)
	}
	return nil
}
