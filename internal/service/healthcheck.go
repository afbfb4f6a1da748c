package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// healthCheckTimeout bounds the question of a health check; whoever asks by it has a limit of its own, often 30 s.
const healthCheckTimeout = 5 * time.Second

// HealthCheckFlag makes a command ask in place of serve, to be embedded in the flags of a command that serves /readyz.
type HealthCheckFlag struct {
	// HealthCheck says to return what [CheckHealth] returns. It is not read from the environment, which a container's health
	// check shares with the service.
	HealthCheck bool `help:"Start nothing: ask the process that listens on --listen whether it is ready; exit with 0 if it is, or else with 1. For containers that have no shell." env:"-"`
}

// CheckHealth asks the process that listens on that address, host:port, for its /readyz. It returns [ExitOK] if that process is
// ready. Otherwise it returns [ExitFailure], and stderr has the answer, or why there was none. A host that stands for all of a
// machine's addresses, as in 0.0.0.0:8080, stands for this machine.
func CheckHealth(ctx context.Context, listen string, stderr io.Writer) int {
	if err := askReady(ctx, listen); err != nil {
		fmt.Fprintln(stderr, "not healthy:", err)
		return ExitFailure
	}
	return ExitOK
}

func askReady(ctx context.Context, listen string) error {
	if listen == "" {
		return errors.New("--health-check needs --listen, the address at which the process to ask listens; one without it cannot be asked")
	}
	ctx, cancel := context.WithTimeout(ctx, healthCheckTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listen+"/readyz", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // and no proxy, whatever the environment says
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", request.URL, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, 4096)) // as much as there is
		return fmt.Errorf("%s answers %s: %s", request.URL, answer.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
