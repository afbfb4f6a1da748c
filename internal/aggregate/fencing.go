//go:build !unfenced

package aggregate

// fenced says that a worker stores only under its lease and a commit expects the revision that it knows. Without it (build
// tag unfenced) workers overwrite one another: the fault test shows by that that it would notice.
const fenced = true
