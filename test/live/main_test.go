package live

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"
)

// seed decides what is generated and when processes are killed. Processes being what they are, the same seed does not
// quite give the same run again.
var seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "what random moments and events are derived from")

// measurePauses has pauses measured, which takes a machine that does little else.
var measurePauses = flag.Bool("pauses", false, "measure pauses")

// binaries is a folder for our commands.
var binaries string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "holdfast-live-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	return m.Run()
}
