package service_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/service"
)

// flatCLI is a command without subcommands, with a flag of every type that is in use.
type flatCLI struct {
	service.LogFlags
	service.NATSFlags
	Listen  string        `default:"127.0.0.1:8080" help:"Address to listen on."`
	MaxBody int           `default:"10" help:"Size."`
	Flush   time.Duration `default:"1s" help:"Interval."`
	Fsync   bool          `help:"Sync." negatable:""`
	Share   float64       `default:"0.5" help:"Share."`
	Peers   []string      `help:"Peers."`
}

// treeCLI is a command with subcommands.
type treeCLI struct {
	service.LogFlags
	Up struct {
		Store string `required:"" help:"Folder of the store."`
	} `cmd:"" help:"Run everything."`
	Import struct {
		Files []string `arg:"" help:"Files."`
		Batch int      `default:"100" help:"Events at once."`
	} `cmd:"" help:"Import files."`
	Stream struct {
		Apply struct{} `cmd:"" help:"Apply."`
	} `cmd:"" help:"Streams."`
}

type parsed struct {
	command        string
	code           int
	ok             bool
	stdout, stderr string
}

func parse(cli any, args ...string) parsed {
	var stdout, stderr bytes.Buffer
	command, code, ok := service.Parse("holdfast", "Does things.", cli, args, &stdout, &stderr)
	return parsed{command, code, ok, stdout.String(), stderr.String()}
}

func writeConfig(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	files := map[string]string{
		"c.yaml": "max-body: 20\nflush: 2s\nfsync: true\nlog-level: warn\nnats-creds: file.creds\n",
		"c.yml":  "max-body: 20\nflush: 2s\nfsync: true\nlog-level: warn\nnats-creds: file.creds\n",
		"c.toml": "max-body = 20\nflush = \"2s\"\nfsync = true\nlog-level = \"warn\"\nnats-creds = \"file.creds\"\n",
	}
	type values struct {
		MaxBody  int
		Flush    time.Duration
		Fsync    bool
		LogLevel string
		Creds    string
	}
	fromDefault := values{10, time.Second, false, "info", ""}
	fromFile := values{20, 2 * time.Second, true, "warn", "file.creds"}
	fromEnv := values{30, 3 * time.Second, false, "error", "env.creds"}
	fromFlags := values{40, 4 * time.Second, true, "debug", "flag.creds"}
	env := map[string]string{
		"HOLDFAST_MAX_BODY": "30", "HOLDFAST_FLUSH": "3s", "HOLDFAST_FSYNC": "false",
		"HOLDFAST_LOG_LEVEL": "error", "HOLDFAST_NATS_CREDS": "env.creds",
	}
	flags := []string{"--max-body=40", "--flush=4s", "--fsync", "--log-level=debug", "--nats-creds=flag.creds"}

	for name, content := range files {
		t.Run(name, func(t *testing.T) {
			config := writeConfig(t, name, content)
			tests := map[string]struct {
				flags, env, file, fileByEnv bool
				want                        values
			}{
				"default":                        {want: fromDefault},
				"file over default":              {file: true, want: fromFile},
				"file named by the environment":  {fileByEnv: true, want: fromFile},
				"environment over default":       {env: true, want: fromEnv},
				"environment over file":          {env: true, file: true, want: fromEnv},
				"flag over default":              {flags: true, want: fromFlags},
				"flag over file":                 {flags: true, file: true, want: fromFlags},
				"flag over environment":          {flags: true, env: true, want: fromFlags},
				"flag over environment and file": {flags: true, env: true, file: true, want: fromFlags},
			}
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					var args []string
					if test.flags {
						args = append(args, flags...)
					}
					if test.file {
						args = append(args, "--config", config)
					}
					if test.fileByEnv {
						t.Setenv("HOLDFAST_CONFIG", config)
					}
					if test.env {
						for key, value := range env {
							t.Setenv(key, value)
						}
					}
					var cli flatCLI
					if p := parse(&cli, args...); !p.ok || p.stderr != "" {
						t.Fatalf("%+v", p)
					}
					got := values{cli.MaxBody, cli.Flush, cli.Fsync, cli.LogLevel, cli.Creds}
					if diff := cmp.Diff(test.want, got); diff != "" {
						t.Errorf("(-want +got):\n%s", diff)
					}
				})
			}
		})
	}
}

func TestFileValues(t *testing.T) {
	tests := map[string]struct {
		name, content string
		want          flatCLI
	}{
		"yaml": {"c.yaml", `
nats: "nats://a:4222,nats://b:4222"
listen: 1.10
max-body: 0x10
share: 0.25
peers: [a, "b,c", 3]
fsync: yes
`, flatCLI{Listen: "1.10", MaxBody: 16, Share: 0.25, Peers: []string{"a", "b,c", "3"}, Fsync: true}},
		"toml": {"c.toml", `
nats = "nats://a:4222,nats://b:4222"
listen = "1.10"
max-body = 0x10
share = 0.25
peers = ["a", "b,c", "3"]
fsync = true
`, flatCLI{Listen: "1.10", MaxBody: 16, Share: 0.25, Peers: []string{"a", "b,c", "3"}, Fsync: true}},
		"yaml by anchor":             {"c.yaml", "log-level: &level info\nnats: &servers \"nats://a:4222,nats://b:4222\"\nlisten: *servers\n", flatCLI{Listen: "nats://a:4222,nats://b:4222", MaxBody: 10, Share: 0.5}},
		"upper case extension":       {"C.YAML", "nats: nats://a:4222,nats://b:4222\n", flatCLI{Listen: "127.0.0.1:8080", MaxBody: 10, Share: 0.5}},
		"a list given as one string": {"c.yaml", "nats: nats://a:4222,nats://b:4222\npeers: a,b\n", flatCLI{Listen: "127.0.0.1:8080", MaxBody: 10, Share: 0.5, Peers: []string{"a", "b"}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.want.LogFlags = service.LogFlags{LogLevel: "info", LogFormat: "json"}
			test.want.NATSFlags.URL = "nats://a:4222,nats://b:4222"
			test.want.Flush = time.Second
			var cli flatCLI
			if p := parse(&cli, "--config", writeConfig(t, test.name, test.content)); !p.ok {
				t.Fatalf("%+v", p)
			}
			if diff := cmp.Diff(test.want, cli); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEmptyFileSaysNothing(t *testing.T) {
	for _, name := range []string{"c.yaml", "c.toml"} {
		var cli flatCLI
		if p := parse(&cli, "--config", writeConfig(t, name, "")); !p.ok || cli.MaxBody != 10 {
			t.Errorf("%s: %+v, max-body %d", name, p, cli.MaxBody)
		}
	}
}

func TestBadFile(t *testing.T) {
	tests := map[string]struct {
		name, content string
		want          []string // in the message, beside the file's name
	}{
		"unknown key, YAML":          {"c.yaml", "log-levle: info\n", []string{`unknown key "log-levle"`, "--help"}},
		"unknown key, TOML":          {"c.toml", "log-levle = \"info\"\n", []string{`unknown key "log-levle"`, "--help"}},
		"key with underscores":       {"c.yaml", "log_level: info\n", []string{`unknown key "log_level"`}},
		"nested, YAML":               {"c.yaml", "nats:\n  creds: x\n", []string{`key "nats" is a table`, "nats-creds", "line 2"}},
		"nested, TOML":               {"c.toml", "[nats]\ncreds = \"x\"\n", []string{`key "nats" is a table`, "nats-creds"}},
		"config in the config":       {"c.yaml", "config: other.yaml\n", []string{`unknown key "config"`}},
		"number, YAML":               {"c.yaml", "max-body: ten\n", []string{"key max-body", `"ten"`}},
		"number, TOML":               {"c.toml", "max-body = \"ten\"\n", []string{"key max-body", `"ten"`}},
		"fraction for integer":       {"c.toml", "max-body = 1.5\n", []string{"key max-body", `"1.5"`}},
		"bool":                       {"c.yaml", "fsync: perhaps\n", []string{"key fsync", `"perhaps"`}},
		"duration without unit":      {"c.toml", "flush = 10\n", []string{"key flush", `"10"`, "unit"}},
		"list for one value, YAML":   {"c.yaml", "listen: [a, b]\n", []string{"key listen", "is a list"}},
		"list for one value, TOML":   {"c.toml", "listen = [\"a\"]\n", []string{"key listen", "is a list"}},
		"list of lists":              {"c.yaml", "peers: [[a]]\n", []string{`key "peers"`, "list item"}},
		"TOML number for a string":   {"c.toml", "listen = 1.10\n", []string{"key listen", "1.1", "quotes"}},
		"TOML numbers for strings":   {"c.toml", "peers = [\"a\", 1.10]\n", []string{"key peers", "quotes"}},
		"not among the choices":      {"c.yaml", "log-level: loud\n", []string{"key log-level", "debug, info, warn, error", `"loud"`}},
		"no value":                   {"c.yaml", "listen:\n", []string{`key "listen"`, "no value"}},
		"twice the same key, YAML":   {"c.yaml", "listen: a\nlisten: b\n", []string{"listen", "line"}},
		"twice the same key, TOML":   {"c.toml", "listen = \"a\"\nlisten = \"b\"\n", []string{"listen", "line 2"}},
		"two documents":              {"c.yaml", "listen: a\n---\nlisten: b\n", []string{"more than one YAML document"}},
		"no mapping":                 {"c.yaml", "- listen\n", []string{"line 1"}},
		"broken YAML":                {"c.yaml", "listen: [\n", []string{"line"}},
		"broken TOML":                {"c.toml", "listen =\n", []string{"line 1"}},
		"unknown extension":          {"c.json", "{}", []string{`unknown extension ".json"`, ".yaml", ".toml"}},
		"no extension":               {"config", "", []string{`unknown extension ""`}},
		"creds, but half a key pair": {"c.yaml", "nats-cert: a.pem\n", []string{"--nats-cert and --nats-key"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := writeConfig(t, test.name, test.content)
			want := test.want
			if name != "creds, but half a key pair" { // which is wrong wherever it was said
				want = append(want, path)
			}
			expectUsageError(t, parse(&flatCLI{}, "--config", path), want...)
		})
	}
	t.Run("missing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "missing.yaml")
		expectUsageError(t, parse(&flatCLI{}, "--config", path), path)
	})
}

func expectUsageError(t *testing.T, p parsed, want ...string) {
	t.Helper()
	if p.ok || p.code != service.ExitUsage || p.stdout != "" {
		t.Fatalf("%+v, want a usage error", p)
	}
	for _, part := range append(want, "See 'holdfast", "--help'.") {
		if !strings.Contains(p.stderr, part) {
			t.Errorf("message %q lacks %q", p.stderr, part)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	tests := map[string]struct {
		cli  any
		args []string
		env  map[string]string
		want []string
	}{
		"unknown flag":             {&flatCLI{}, []string{"--bogus"}, nil, []string{"--bogus", "See 'holdfast --help'"}},
		"bad value":                {&flatCLI{}, []string{"--max-body=ten"}, nil, []string{"--max-body", `"ten"`}},
		"bad environment":          {&flatCLI{}, nil, map[string]string{"HOLDFAST_MAX_BODY": "ten"}, []string{"HOLDFAST_MAX_BODY", "ten"}},
		"bad choice":               {&flatCLI{}, []string{"--log-format=xml"}, nil, []string{"--log-format", "json", "xml"}},
		"surplus argument":         {&flatCLI{}, []string{"surplus"}, nil, []string{"surplus"}},
		"half a key pair":          {&flatCLI{}, []string{"--nats-key=k"}, nil, []string{"--nats-cert and --nats-key"}},
		"half, by the environment": {&flatCLI{}, nil, map[string]string{"HOLDFAST_NATS_KEY": "k"}, []string{"--nats-cert and --nats-key"}},
		"no command":               {&treeCLI{}, nil, nil, []string{"up", "import"}},
		"unknown command":          {&treeCLI{}, []string{"imprt"}, nil, []string{"imprt"}},
		"missing flag":             {&treeCLI{}, []string{"up"}, nil, []string{"--store", "See 'holdfast up --help'"}},
		"missing argument":         {&treeCLI{}, []string{"import"}, nil, []string{"files", "See 'holdfast import --help'"}},
		"flag of another command":  {&treeCLI{}, []string{"up", "--store=x", "--batch=1"}, nil, []string{"--batch"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for key, value := range test.env {
				t.Setenv(key, value)
			}
			expectUsageError(t, parse(test.cli, test.args...), test.want...)
		})
	}
}

// A flag that was given makes the environment's word for it irrelevant, bad as it may be.
func TestGoodFlagOverBadEnvironment(t *testing.T) {
	t.Setenv("HOLDFAST_MAX_BODY", "ten")
	var cli flatCLI
	if p := parse(&cli, "--max-body=40"); !p.ok || cli.MaxBody != 40 {
		t.Errorf("%+v, max-body %d", p, cli.MaxBody)
	}
}

func TestSubcommands(t *testing.T) {
	config := writeConfig(t, "c.toml", "store = \"/data\"\nbatch = 7\nlog-level = \"warn\"\n")
	tests := map[string]struct {
		args  []string
		want  string
		check func(*treeCLI) bool
	}{
		"a flag from the file satisfies a required one": {[]string{"up"}, "up", func(c *treeCLI) bool { return c.Up.Store == "/data" }},
		"arguments are no part of the command's name": {
			[]string{"import", "a", "b"}, "import",
			func(c *treeCLI) bool { return c.Import.Batch == 7 && cmp.Equal(c.Import.Files, []string{"a", "b"}) },
		},
		"nested": {[]string{"stream", "apply"}, "stream apply", func(c *treeCLI) bool { return c.LogLevel == "warn" }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var cli treeCLI
			p := parse(&cli, append(test.args, "--config", config)...)
			if !p.ok || p.command != test.want || !test.check(&cli) {
				t.Errorf("%+v with %+v, want command %q", p, cli, test.want)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	tests := map[string]struct {
		cli  any
		args []string
		want []string
	}{
		"help": {&flatCLI{}, []string{"--help"}, []string{
			"Does things.", "--max-body", "$HOLDFAST_MAX_BODY", "$HOLDFAST_CONFIG", "$HOLDFAST_LOG_LEVEL", "$HOLDFAST_LOG_FORMAT",
			"$HOLDFAST_NATS)", "$HOLDFAST_NATS_CREDS", "$HOLDFAST_NATS_CA", "$HOLDFAST_NATS_CERT", "$HOLDFAST_NATS_KEY",
		}},
		"help of a command":          {&treeCLI{}, []string{"import", "--help"}, []string{"Import files.", "--batch", "$HOLDFAST_BATCH"}},
		"help without a command":     {&treeCLI{}, []string{"--help"}, []string{"up", "import", "Run everything."}},
		"help, with things missing":  {&treeCLI{}, []string{"up", "--help"}, []string{"--store"}},
		"version":                    {&flatCLI{}, []string{"--version"}, []string{"holdfast ", "(go1.", "revision "}},
		"version without a command":  {&treeCLI{}, []string{"--version"}, []string{"holdfast ", "(go1."}},
		"help is first, then silent": {&flatCLI{}, []string{"--help", "--version"}, []string{"Does things."}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			// The usual way to choose an image's tag in a compose file; it must not pass for --version.
			t.Setenv("HOLDFAST_VERSION", "1.2.3")
			p := parse(test.cli, test.args...)
			if p.ok || p.code != service.ExitOK || p.stderr != "" {
				t.Errorf("%+v, want ok false with code 0", p)
			}
			for _, want := range test.want {
				if !strings.Contains(p.stdout, want) {
					t.Errorf("printed %q, lacks %q", p.stdout, want)
				}
			}
			if name == "help is first, then silent" && strings.Contains(p.stdout, "(go1.") {
				t.Errorf("printed help and version: %q", p.stdout)
			}
		})
	}
}

func TestVersionInTheEnvironmentIsIgnored(t *testing.T) {
	t.Setenv("HOLDFAST_VERSION", "true")
	if p := parse(&flatCLI{}); !p.ok {
		t.Errorf("%+v, want the command to run", p)
	}
}
