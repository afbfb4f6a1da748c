// Package page tests the exporter's page in a real browser: Debian's Chromium, driven over its debugging protocol, against
// real services and a NATS server in this process.
package page

import (
	"flag"
	"testing"
)

// inBrowser has the tests that need a browser run.
var inBrowser = flag.Bool("browser", false, "test the page in Chromium")

// screenshots is where TestScreenshots writes to.
var screenshots = flag.String("screenshots", "", "folder to write screenshots of the page to")

func needsBrowser(t *testing.T) {
	t.Helper()
	if !*inBrowser {
		t.Skip("NOT CHECKED, as it needs Chromium: the page in a browser. To check: go test -count=1 -v ./test/page -browser")
	}
}
