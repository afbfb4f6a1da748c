package service_test

import (
	"strings"
	"testing"
)

func TestNATSUser(t *testing.T) {
	t.Setenv("HOLDFAST_NATS_PASSWORD", "secret")
	var cli flatCLI
	p := parse(&cli, "--nats-user", "ingest", "--nats-inbox-prefix", "_INBOX_ingest")
	if o := cli.Options("x", nil); !p.ok || o.User != "ingest" || o.Password != "secret" || o.InboxPrefix != "_INBOX_ingest" {
		t.Errorf("%+v: %+v", p, o)
	}
	if p := parse(new(flatCLI)); p.ok || !strings.Contains(p.stderr, "--nats-user") {
		t.Errorf("a password without a user: %+v", p)
	}
	if p := parse(new(flatCLI), "--help"); strings.Contains(p.stdout, "secret") {
		t.Errorf("the help shows the password:\n%s", p.stdout)
	}
}
