// Command holdfast is the command for people: everything in one process, a demonstration, imports, and questions to an
// exporter.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/city-chain/holdfast/internal/service"
)

func main() { os.Exit(service.Main(run)) }

// commands are the subcommands with their flags.
type commands struct {
	Up       up         `cmd:"" help:"Run everything in one process, on a NATS server of its own."`
	Demo     demo       `cmd:"" help:"Run everything in a fresh folder, import the bundled log, show the result."`
	Import   importing  `cmd:"" help:"Import files of events: each line once, however often it is run."`
	Generate generating `cmd:"" help:"Send or write made-up events, and say what they must come to."`
	Top      top        `cmd:"" help:"Show the holders with the highest scores."`
	Stats    stats      `cmd:"" help:"Show totals."`
	Holder   holder     `cmd:"" help:"Show one holder."`
	PoH      proofs     `cmd:"" name:"poh" help:"Show what the nodes did: proofs, latencies, requests."`
	Workers  workers    `cmd:"" help:"Show the aggregators, and which partitions each serves."`
	Replay   replaying  `cmd:"" help:"Recompute every score from the streams, at any instant, under any policy."`
	Audit    auditing   `cmd:"" help:"Compare what the pipeline shows with what follows from the streams. Exit code: 0 the same, 1 different, 2 could not tell."`
	Archive  archiving  `cmd:"" help:"Keep the streams in files, verify these, and let the streams forget what is kept and folded."`
	Prove    proving    `cmd:"" help:"Write a file that proves a holder's score to whoever has the public key."`
	Verify   verifying  `cmd:"" help:"Verify such a file, offline. Exit code: 0 verified, 1 not, 2 could not tell."`
	Witness  witnessing `cmd:"" help:"Keep signed checkpoints elsewhere, and cosign those that agree with the messages. Exit code: 0 all did, 1 not."`
	Bench    benchmark  `cmd:"" help:"Measure the speed of all of it, beside raw JetStream."`

	Key         keyCommands        `cmd:"" help:"Make or show the keys that sign checkpoints."`
	Checkpoints checkpointCommands `cmd:"" help:"List signed checkpoints, or print one."`
	Rejected    rejectedCommands   `cmd:"" help:"List, show or send again the events that were refused."`
	service.LogFlags
}

// session is what a subcommand works with besides its flags.
type session struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	screen, errors *screen // the same, for people
	logFlags       service.LogFlags
}

// errSaid ends a command with exit code 1 after everything has been said.
var errSaid = errors.New("failed")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c commands
	const description = "Exact scores from streams of Proof-of-Hold and Proof-of-History events, on NATS JetStream."
	command, code, ok := service.Parse("holdfast", description, &c, args, stdout, stderr)
	if !ok {
		return code
	}
	s := &session{stdin: os.Stdin, stdout: stdout, stderr: stderr, screen: newScreen(stdout, os.Getenv), errors: newScreen(stderr, os.Getenv), logFlags: c.LogFlags}
	byName := map[string]func(context.Context, *session) error{
		"up": c.Up.run, "demo": c.Demo.run, "import": c.Import.run, "generate": c.Generate.run,
		"top": c.Top.run, "stats": c.Stats.run, "holder": c.Holder.run, "poh": c.PoH.run,
		"replay": c.Replay.run, "audit": c.Audit.run, "archive": c.Archive.run, "prove": c.Prove.run, "verify": c.Verify.run, "witness": c.Witness.run,
		"workers": c.Workers.run, "bench": c.Bench.run,
		"key generate": c.Key.Generate.run, "key show": c.Key.Show.run,
		"checkpoints list": c.Checkpoints.List.run, "checkpoints show": c.Checkpoints.Show.run,
		"rejected list": c.Rejected.List.run, "rejected show": c.Rejected.Show.run, "rejected retry": c.Rejected.Retry.run,
	}
	err := byName[command](ctx, s)
	if err != nil && !errors.Is(err, errSaid) {
		fmt.Fprintf(stderr, "holdfast %s: %v\n", command, err)
	}
	return exitCode(err)
}

// Exit codes beside those of package service, of commands that ask an exporter.
const (
	exitNoHolder    = 3
	exitUnreachable = 4
	exitNotReady    = 5
)

func exitCode(err error) int {
	switch {
	case err == nil:
		return service.ExitOK
	case errors.Is(err, errNoHolder):
		return exitNoHolder
	case errors.Is(err, errUnreachable):
		return exitUnreachable
	case errors.Is(err, errDifferent):
		return exitDifferent
	case errors.Is(err, errUntold):
		return exitUntold
	case errors.Is(err, errNotReady):
		return exitNotReady
	}
	return service.ExitFailure
}
