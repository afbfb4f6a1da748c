package service_test

import (
	"context"
	"fmt"
	"io"

	"github.com/city-chain/holdfast/internal/service"
)

// childEnv, when set, makes the test binary run as a service.
const childEnv = "SERVICE_TEST_CHILD"

// runChild is such a service: it says what happens to it on stdout. In mode "drain" it stops when asked to, in mode "hang" never.
func runChild(mode string) int {
	return service.Main(func(ctx context.Context, _ []string, stdout, _ io.Writer) int {
		fmt.Fprintln(stdout, "running")
		<-ctx.Done()
		fmt.Fprintln(stdout, "draining:", context.Cause(ctx))
		if mode == "hang" {
			select {}
		}
		fmt.Fprintln(stdout, "drained")
		return service.ExitOK
	})
}
