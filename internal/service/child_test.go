package service_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/city-chain/holdfast/internal/service"
)

// childEnv, when set, makes the test binary run as a service.
const childEnv = "SERVICE_TEST_CHILD"

// runChild is such a service: it says what happens to it on stdout. In mode "drain" it stops when asked to, in mode "hang"
// never, and in mode "again" after it was asked twice and its input has ended.
func runChild(mode string) int {
	return service.Main(func(ctx context.Context, _ []string, stdout, _ io.Writer) int {
		seen := make(chan os.Signal, 2)
		signal.Notify(seen, syscall.SIGTERM)
		fmt.Fprintln(stdout, "running")
		<-ctx.Done()
		fmt.Fprintln(stdout, "draining:", context.Cause(ctx))
		switch mode {
		case "hang":
			select {}
		case "again":
			<-seen
			<-seen
			fmt.Fprintln(stdout, "again")
			_, _ = io.Copy(io.Discard, os.Stdin)
		}
		fmt.Fprintln(stdout, "drained")
		return service.ExitOK
	})
}
