//go:build unfenced

package aggregate

const fenced = false
