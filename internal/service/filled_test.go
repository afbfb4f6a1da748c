package service_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// filledCLI has flags that may not be empty, and one that may.
type filledCLI struct {
	Key    string   `type:"filled" help:"One."`
	Keys   []string `type:"filled" sep:"none" help:"Some, one by one."`
	Paths  []string `type:"filled" help:"Some, with commas between them."`
	Listen string   `help:"May be empty."`
}

func TestFilled(t *testing.T) {
	for _, args := range [][]string{
		{"--key", ""}, {"--key="}, {"--keys", ""}, {"--keys=a", "--keys="}, {"--paths", ""}, {"--paths", "a,"}, {"--paths", ",a"}, {"--paths", "a,,b"}, {"--paths=a", "--paths="},
		{"--config", writeConfig(t, "c.yaml", "key: ''\n")}, {"--config", writeConfig(t, "c.toml", "paths = ['a', '']\n")},
	} {
		var cli filledCLI
		got := parse(&cli, args...)
		flag, _, _ := strings.Cut(args[0], "=")
		if flag == "--config" {
			flag = "config file "
		}
		if got.ok || got.code != 2 || !strings.Contains(got.stderr, flag) || !strings.Contains(got.stderr, "the value is empty (was a variable not set?): give one") {
			t.Errorf("%q: %+v", args, got)
		}
	}
	for _, test := range []struct {
		args []string
		want filledCLI
	}{
		{nil, filledCLI{}},
		{[]string{"--listen", ""}, filledCLI{}},
		{[]string{"--key", "a,b", "--keys", "a,", "--keys", "b", "--paths", "a,b", "--paths", "c"}, filledCLI{Key: "a,b", Keys: []string{"a,", "b"}, Paths: []string{"a", "b", "c"}}},
	} {
		var cli filledCLI
		if got := parse(&cli, test.args...); !got.ok {
			t.Errorf("%q: %+v", test.args, got)
		}
		if diff := cmp.Diff(test.want, cli); diff != "" {
			t.Errorf("%q: %s", test.args, diff)
		}
	}
	t.Setenv("HOLDFAST_KEY", "")
	if got := parse(&filledCLI{}); got.ok || !strings.Contains(got.stderr, `(from envar HOLDFAST_KEY="")`) {
		t.Errorf("from the environment: %+v", got)
	}
}
