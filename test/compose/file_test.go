package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// composeFile is the file's name, in the project's folder.
const composeFile = "docker-compose.yml"

// composition is what the test wants to know of a compose file.
type composition struct {
	Services map[string]struct {
		Image         string
		Build         string
		ContainerName string `yaml:"container_name"`
		Restart       string
		User          string
		ReadOnly      bool     `yaml:"read_only"`
		CapDrop       []string `yaml:"cap_drop"`
		CapAdd        []string `yaml:"cap_add"`
		SecurityOpt   []string `yaml:"security_opt"`
		NetworkMode   string   `yaml:"network_mode"`
		Entrypoint    []string
		Ports         []string
		Volumes       []string
		Healthcheck   struct{ Test []string }
	}
}

func readComposeFile(t *testing.T) composition {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, composeFile))
	if err != nil {
		t.Fatal(err)
	}
	var file composition
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

// once is the one service that is root, with one capability and no network, and ends before the others start.
const once = "nats-volumes"

func TestServicesAreHardened(t *testing.T) {
	file := readComposeFile(t)
	if len(file.Services) == 0 {
		t.Fatal("no services")
	}
	for name, s := range file.Services {
		if name == once {
			if !slices.Equal(s.CapAdd, []string{"CHOWN"}) || s.NetworkMode != "none" || s.Restart != "no" {
				t.Errorf("%s: capabilities %q, network %q, restart %q", name, s.CapAdd, s.NetworkMode, s.Restart)
			}
		} else {
			if user, _, _ := strings.Cut(s.User, ":"); !regexp.MustCompile(`^[1-9][0-9]+$`).MatchString(user) {
				t.Errorf("%s: user %q is not a number above 0", name, s.User)
			}
			if len(s.CapAdd) > 0 || s.Restart != "unless-stopped" {
				t.Errorf("%s: capabilities %q, restart %q", name, s.CapAdd, s.Restart)
			}
			if len(s.Healthcheck.Test) == 0 || s.Healthcheck.Test[0] != "CMD" {
				t.Errorf("%s: the health check %q does not run without a shell", name, s.Healthcheck.Test)
			}
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s: read-only %t, dropped %q, security %q", name, s.ReadOnly, s.CapDrop, s.SecurityOpt)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to others than this machine, under passwords that everybody knows", name, port)
			}
		}
		if s.ContainerName != "" || name == "aggregator" && len(s.Ports) > 0 {
			t.Errorf("%s cannot be scaled: container name %q, ports %q", name, s.ContainerName, s.Ports)
		}
		for _, volume := range s.Volumes {
			if from, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(from, "./") {
				if _, err := os.Stat(filepath.Join(root, from)); err != nil {
					t.Errorf("%s: volume %s: %v", name, volume, err)
				}
			}
		}
	}
}

// Images have versions, and NATS has the one that all our tests run against.
func TestImagesArePinned(t *testing.T) {
	version := regexp.MustCompile(`:v?[0-9]+(\.[0-9]+)+`)
	images := map[string]string{}
	for name, s := range readComposeFile(t).Services {
		if s.Build == "" {
			images[name] = s.Image
		}
	}
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(dockerfile), -1) {
		if from[1] != "scratch" {
			images["Dockerfile"] = from[1]
		}
	}
	for where, image := range images {
		if !version.MatchString(image) {
			t.Errorf("%s: image %q has no version", where, image)
		}
	}
	module, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	nats := regexp.MustCompile(`github\.com/nats-io/nats-server/v2 v(\S+)`).FindSubmatch(module)
	if want := "nats:" + string(nats[1]) + "-alpine"; images["nats-1"] != want {
		t.Errorf("NATS is %s, go.mod has %s", images["nats-1"], want)
	}
}

func TestPrometheusConfiguration(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("NOT CHECKED: promtool is not installed (Debian: apt-get install prometheus)")
	}
	if err != nil {
		t.Fatalf("%v (Debian: apt-get install prometheus)", err)
	}
	folder := t.TempDir() // what the container sees as /etc/prometheus
	for _, volume := range readComposeFile(t).Services["prometheus"].Volumes {
		from, to, _ := strings.Cut(strings.TrimSuffix(volume, ":ro"), ":")
		below, ok := strings.CutPrefix(to, "/etc/prometheus/")
		if !ok {
			continue
		}
		source, err := filepath.Abs(filepath.Join(root, from))
		if err == nil {
			err = os.Symlink(source, filepath.Join(folder, below))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	output, err := exec.CommandContext(t.Context(), promtool, "check", "config", "--lint-fatal", filepath.Join(folder, "prometheus.yml")).CombinedOutput()
	if err != nil || !strings.Contains(string(output), "alerts.yml") || !strings.Contains(string(output), "recording.yml") {
		t.Errorf("%v\n%s", err, output)
	}
}
