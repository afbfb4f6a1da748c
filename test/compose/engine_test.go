package compose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// composeModule is Docker Compose as a Go module, by its package that is the command.
const composeModule, composeVersion = "github.com/docker/compose/v2/cmd", "v2.40.3"

// needed are the programs that the test runs, by the package that has them on Debian.
var needed = map[string]string{
	"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables", "ip": "iproute2", "unshare": "util-linux",
	"busybox": "busybox", "prometheus": "prometheus",
}

// install sees to it that the programs are there.
func install(t *testing.T) error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return fmt.Errorf("an engine of the test's own wants Linux and root, and this is %s and user %d", runtime.GOOS, os.Geteuid())
	}
	var missing, packages []string
	for program, debian := range needed {
		if _, err := exec.LookPath(program); err != nil {
			missing, packages = append(missing, program), append(packages, debian)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	t.Logf("installing what is missing: %s", strings.Join(missing, ", "))
	if err := command("", "apt-get", "update", "-qq"); err != nil {
		return fmt.Errorf("%s missing: %w", strings.Join(missing, ", "), err)
	}
	if err := command("", "apt-get", append([]string{"install", "-y", "-qq", "--no-install-recommends"}, packages...)...); err != nil {
		return fmt.Errorf("%s missing: %w", strings.Join(missing, ", "), err)
	}
	return nil
}

// buildCompose builds Docker Compose, in a module of its own, as a plugin of the docker command configured in that folder.
func buildCompose(t *testing.T, config string) error {
	module := t.TempDir()
	plugin := filepath.Join(config, "cli-plugins", "docker-compose")
	for _, args := range [][]string{
		{"mod", "init", "scratch"},
		{"get", composeModule + "@" + composeVersion},
		{"build", "-trimpath", "-o", plugin, composeModule},
	} {
		if err := command(module, "go", args...); err != nil {
			return err
		}
	}
	return nil
}

// command runs a program in a folder; an error has what the program said.
func command(dir, name string, args ...string) error {
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "CGO_ENABLED=0", "GOWORK=off")
	if output, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", c, err, tail(output))
	}
	return nil
}

// tail is the end of what a program said.
func tail(output []byte) []byte {
	const most = 2000
	return output[max(0, len(output)-most):]
}

// sandbox is how to run a program in namespaces of its own for network, mounts and processes. What an engine does to
// interfaces, firewall and mounts stays inside, and ends with the program. The shell is there because the first process
// must be one that collects orphans.
var sandbox = []string{"unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", `"$0" "$@"; exit $?`}

// engine is a Docker engine with its own store and socket.
type engine struct {
	folder string // of everything that it has
	daemon *exec.Cmd
	ended  chan error
}

// startEngine starts an engine in a folder. It returns an error if this machine cannot have one.
func startEngine(folder string) (*engine, error) {
	if err := command("", "ip", "link", "set", "lo", "up"); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(folder, "dockerd.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	e := &engine{folder: folder, ended: make(chan error, 1)}
	e.daemon = exec.Command("dockerd", "--data-root", filepath.Join(folder, "data"), "--exec-root", filepath.Join(folder, "exec"),
		"--pidfile", filepath.Join(folder, "pid"), "--host", e.host())
	e.daemon.Stdout, e.daemon.Stderr = log, log
	if err := e.daemon.Start(); err != nil {
		return nil, err
	}
	go func() { e.ended <- e.daemon.Wait() }()
	for begin := time.Now(); ; {
		_, err := e.try("info")
		if err == nil {
			return e, nil
		}
		select {
		case ended := <-e.ended:
			said, _ := os.ReadFile(log.Name())
			return nil, fmt.Errorf("dockerd ended: %w\n%s", ended, tail(said))
		case <-time.After(100 * time.Millisecond):
		}
		if time.Since(begin) > patience {
			e.stop()
			return nil, fmt.Errorf("dockerd does not answer: %w", err)
		}
	}
}

func (e *engine) host() string { return "unix://" + filepath.Join(e.folder, "socket") }

// stop ends the engine.
func (e *engine) stop() {
	_ = e.daemon.Process.Signal(syscall.SIGTERM) // fails only if it has ended
	<-e.ended
}

// try runs the docker command and returns its standard output.
func (e *engine) try(args ...string) (string, error) {
	c := exec.Command("docker", args...)
	c.Env = append(os.Environ(), "DOCKER_HOST="+e.host(), "DOCKER_CONFIG="+filepath.Join(e.folder, "config"), "DOCKER_BUILDKIT=0")
	output, err := c.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("docker %s: %w\n%s%s", strings.Join(args, " "), err, tail(output), tail(exit.Stderr))
	}
	return string(bytes.TrimSpace(output)), err
}

// docker runs the docker command, which must succeed.
func (e *engine) docker(t *testing.T, args ...string) string {
	t.Helper()
	output, err := e.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return output
}

// compose runs docker compose on our file, as a user would, save that a user's own .env is not read.
func (e *engine) compose(t *testing.T, args ...string) string {
	t.Helper()
	begin := time.Now()
	output := e.docker(t, append([]string{"compose", "--env-file", os.DevNull, "--file", filepath.Join(root, composeFile)}, args...)...)
	t.Logf("docker compose %s: %v", strings.Join(args, " "), time.Since(begin).Round(time.Second/10))
	return output
}

// container is what the engine knows of a container.
type container struct {
	ID, Name     string
	RestartCount int
	State        struct {
		Status   string
		Pid      int
		ExitCode int
		Health   struct{ Status string }
	}
	Config struct {
		User   string
		Labels map[string]string
	}
	HostConfig struct {
		ReadonlyRootfs, Privileged   bool
		CapAdd, CapDrop, SecurityOpt []string
	}
}

func (c *container) service() string { return c.Config.Labels["com.docker.compose.service"] }

// containers returns all containers of a service, running or not; of all services for "".
func (e *engine) containers(service string) ([]container, error) {
	filter := "label=com.docker.compose.service"
	if service != "" {
		filter += "=" + service
	}
	ids, err := e.try("ps", "--all", "--quiet", "--filter", filter)
	if err != nil {
		return nil, err
	}
	if ids == "" {
		return nil, nil
	}
	text, err := e.try(append([]string{"inspect"}, strings.Fields(ids)...)...)
	if err != nil {
		return nil, err
	}
	var all []container
	return all, json.Unmarshal([]byte(text), &all)
}
