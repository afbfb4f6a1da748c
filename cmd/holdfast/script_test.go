package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
)

// patienceOfScripts is how long a script waits for anything, on a slow machine too.
const patienceOfScripts = 60 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"holdfast": main})
}

// TestScripts runs the command as a process of its own, as testdata/*.txt say. Beside what package testscript has, a
// script can say:
//
//	up ARG...               holdfast up ARG... on free ports; go on once it serves, at the URLs $NATS, $INGEST and $EXPORTER
//	                        (and the addresses $NATS_AT, $INGEST_AT and $EXPORTER_AT)
//	down                    end it as Ctrl-C would, and expect that it ends well (Windows: kill it)
//	nats                    a NATS server without streams, at $NATS
//	stream NAME SUBJECT     a stream that is none of ours, at $NATS
//	publish SUBJECT TEXT    publish a message to the stream of that subject, at $NATS; @FILE is what the file has
//	append FILE FROM        add what the file FROM has to FILE, without a moment in which FILE has less
//	exits CODE COMMAND...   run a command and expect its exit code
//	await REGEXP COMMAND... run a command again and again until it succeeds and its standard output matches
//	pushgateway             take what is pushed to the URL $PUSHGATEWAY, and write each figure to pushed/JOB/NAME
//	empty DIR               expect a folder with nothing in it
//	served FILE...          wait until $EXPORTER serves what `holdfast generate --json` said, each FILE being its output
//	imported FILE           expect that the import just made took and refused what `holdfast generate --json` said
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			examples, err := filepath.Abs(filepath.Join("..", "..", "examples"))
			env.Setenv("EXAMPLES", examples)
			env.Setenv("GORACE", "atexit_sleep_ms=10") // by default, each command sleeps a second under the race detector
			env.Values[pipelineKey{}] = &runningUp{environment: env.Vars}
			return err
		},
		Cmds: scriptCommands,
	})
}

// scriptCommands are what a script can say besides.
var scriptCommands = map[string]func(*testscript.TestScript, bool, []string){
	"up":      scriptUp,
	"down":    scriptDown,
	"nats":    scriptNATS,
	"stream":  scriptStream,
	"publish": scriptPublish,
	"append":  scriptAppend,
	"exits":   scriptExits,
	"await":   scriptAwait,
	"empty":   scriptEmpty,

	"pushgateway": scriptPushgateway,
	"served":      scriptServed,
	"imported":    scriptImported,
}

// scriptNATS starts a NATS server that nobody has made streams on.
func scriptNATS(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: nats")
	}
	server, err := embedded.New(embedded.Options{StoreDir: ts.MkAbs("nats-store"), Listen: "127.0.0.1:0"})
	ts.Check(err)
	bounded, cancel := context.WithTimeout(context.Background(), patienceOfScripts)
	defer cancel()
	ts.Check(server.Start(bounded))
	ts.Defer(func() {
		bounded, cancel := context.WithTimeout(context.Background(), patienceOfScripts)
		defer cancel()
		if err := server.Stop(bounded); err != nil {
			ts.Logf("%v", err)
		}
	})
	ts.Setenv("NATS", server.URL())
}

// scriptStream makes a stream of somebody else.
func scriptStream(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: stream NAME SUBJECT")
	}
	bounded, cancel := context.WithTimeout(context.Background(), patienceOfScripts)
	defer cancel()
	nc, err := jetstream.Connect(bounded, jetstream.Options{URL: ts.Getenv("NATS")})
	ts.Check(err)
	defer nc.Close()
	js, err := natsjs.New(nc)
	ts.Check(err)
	_, err = js.CreateStream(bounded, natsjs.StreamConfig{Name: args[0], Subjects: []string{args[1]}})
	ts.Check(err)
}

// scriptPublish publishes what a producer would.
func scriptPublish(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: publish SUBJECT TEXT")
	}
	bounded, cancel := context.WithTimeout(context.Background(), patienceOfScripts)
	defer cancel()
	nc, err := jetstream.Connect(bounded, jetstream.Options{URL: ts.Getenv("NATS")})
	ts.Check(err)
	defer nc.Close()
	client, err := jetstream.New(nc)
	ts.Check(err)
	text := args[1]
	if name, ok := strings.CutPrefix(text, "@"); ok {
		text = ts.ReadFile(name)
	}
	_, err = client.Publish(bounded, args[0], nil, []byte(text))
	ts.Check(err)
}

// scriptAppend lets a file grow.
func scriptAppend(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: append FILE FROM")
	}
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_APPEND|os.O_WRONLY, 0)
	ts.Check(err)
	_, err = file.WriteString(ts.ReadFile(args[1]))
	ts.Check(errors.Join(err, file.Close()))
}

// scriptExits runs a command and looks at its exit code, where "! exec" would take any but 0.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// scriptAwait waits for what comes by and by: an acknowledged event is stored, and served a little later.
func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await REGEXP COMMAND...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patienceOfScripts); ; <-tick.C {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("standard output does not match %q after %v (%v)", args[0], patienceOfScripts, err)
		}
	}
}

// scriptEmpty looks for what was left behind.
func scriptEmpty(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: empty DIR")
	}
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(entries) > 0 {
		ts.Fatalf("%s holds %s", args[0], entries[0].Name())
	}
}
