package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// proving writes a file that proves a holder's score.
type proving struct {
	Holder       string  `arg:"" help:"The holder's id." placeholder:"HOLDER"`
	AtCheckpoint *uint64 `help:"Number of the signed checkpoint as of which to prove, as holdfast checkpoints lists it. The newest one of the holder's partition if it is not given." placeholder:"N" xor:"checkpoint"`
	Checkpoint   string  `help:"File with the signed checkpoint: one that was kept, or that a witness has cosigned; or a witness's folder, which has one of the holder's partition." placeholder:"PATH" type:"filled" xor:"checkpoint"`
	Events       bool    `help:"Add every message with an event of the holder, each proved to be in the log."`
	Key          string  `help:"Public key, or a file that has it, by which the checkpoint must be signed. Without it the signature is left to whoever verifies the file." placeholder:"VKEY" type:"filled"`
	Archive      string  `help:"Folder of an archive, which has what the streams have forgotten." placeholder:"DIR" type:"filled"`
	Output       string  `short:"o" help:"File to write, HOLDER.proof if it is not given; - is standard output." placeholder:"FILE" type:"filled"`
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (p proving) Validate() error {
	if p.Holder == "" {
		return errors.New("the holder's id is empty")
	}
	if n := p.AtCheckpoint; n != nil && *n == 0 {
		return errors.New("--at-checkpoint=0: numbers begin with 1")
	}
	return p.NATSFlags.Validate()
}

func (p *proving) run(ctx context.Context, s *session) error {
	o := audit.ProveOptions{Holder: p.Holder, Events: p.Events}
	if p.Key != "" {
		key, err := logKey(p.Key)
		if err != nil {
			return fmt.Errorf("--key: %w", err)
		}
		o.Key = &key
	}
	client, disconnect, err := openStreams(ctx, p.NATSFlags, "holdfast-prove", s)
	if err != nil {
		return err
	}
	defer disconnect()
	if o.Source, err = sourceOf(client, p.Archive); err != nil {
		return err
	}
	var number uint64
	if o.Checkpoint, number, err = p.checkpoint(ctx, s, client, o.Key); errors.Is(err, jetstream.ErrNoStream) {
		return noStream(ctx, client, err)
	}
	if err != nil {
		return err
	}
	progress := &replayDisplay{session: s, began: time.Now()}
	o.Progress = progress.show
	file, err := audit.Prove(ctx, o)
	progress.clear()
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return noStream(ctx, client, err)
	case number > 0 && (errors.Is(err, audit.ErrContradiction) || errors.Is(err, jetstream.ErrStreamChanged)):
		err = fmt.Errorf("checkpoint %d: %w", number, err)
		if o.Key == nil {
			err = fmt.Errorf("%w. Or nobody has signed it: --key passes over what that key has not signed", err)
		}
		return err
	case err != nil:
		return err
	}
	b, err := file.Encode()
	if err != nil {
		return err
	}
	path := p.Output
	switch path {
	case "-":
		_, err = s.stdout.Write(b)
		return err
	case "":
		path = events.EncodeID(p.Holder) + ".proof"
	}
	if err := writeOutput(path, b); err != nil {
		return err
	}
	messages := ""
	if p.Events {
		messages = fmt.Sprintf(", with %s", count(int64(len(file.Events)), "message"))
	}
	return s.errors.print(plainLines(fmt.Sprintf("wrote %s%s; holdfast verify %s --key VKEY verifies it anywhere", path, messages, path)))
}

// checkpoint returns the signed checkpoint that was asked for, and its number; 0 if it is one of a file.
func (p *proving) checkpoint(ctx context.Context, s *session, client *jetstream.Client, key *attest.Key) ([]byte, uint64, error) {
	switch {
	case p.Checkpoint != "":
		b, err := p.checkpointFile()
		return b, 0, err
	case p.AtCheckpoint != nil:
		m, err := client.Message(ctx, jetstream.Checkpoints, *p.AtCheckpoint)
		if errors.Is(err, jetstream.ErrSequenceNotFound) {
			return nil, 0, fmt.Errorf("--at-checkpoint=%d: there is no such signed checkpoint", *p.AtCheckpoint)
		}
		return m.Data, m.Sequence, err
	}
	partition := events.PlaceOf(p.Holder).Partition
	newest, err := audit.NewestCheckpoint(ctx, client, jetstream.Holds, partition, key)
	if err != nil {
		return nil, 0, err
	}
	if newest.Passed != "" {
		err = s.errors.print(plainLines("note: " + newest.Passed))
	}
	switch {
	case err != nil || newest.Number > 0:
	case newest.Passed != "":
		err = fmt.Errorf("of partition %d of %s, which %s is of, there is no checkpoint that can be taken: the note says why", partition, jetstream.Holds.Stream, shown(p.Holder))
	default:
		err = p.unsigned(ctx, client, partition)
	}
	return newest.Note, newest.Number, err
}

// checkpointFile returns the checkpoint that a file has, or in a witness's folder the one of the holder's partition.
func (p *proving) checkpointFile() ([]byte, error) {
	path := p.Checkpoint
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("--checkpoint: %w", err)
	}
	if info.IsDir() {
		path = filepath.Join(path, fmt.Sprintf("%s.%d%s", jetstream.Holds.Stream, events.PlaceOf(p.Holder).Partition, checkpointSuffix))
	}
	b, err := readCheckpointFile(path)
	if err == nil {
		if _, err = attest.Unverified(b); err != nil {
			err = fmt.Errorf("%s: %w", path, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("--checkpoint: %w", err)
	}
	return b, nil
}

// unsigned says why there is no signed checkpoint of the holder's partition.
func (p *proving) unsigned(ctx context.Context, client *jetstream.Client, partition int) error {
	now, err := client.StreamState(ctx, jetstream.Holds)
	switch {
	case err != nil:
		return err
	case now.Partitions[partition] == 0 && now.FirstSequence <= 1: // nothing was purged
		return fmt.Errorf("%w: nothing was ever reported of %s (an id is matched exactly)", proof.ErrNoHolder, shown(p.Holder))
	}
	return fmt.Errorf("no checkpoint was signed yet of partition %d of %s, which %s is of: if the aggregators are given --signing-key, wait until they have signed, every --sign-every; without it they sign nothing",
		partition, jetstream.Holds.Stream, shown(p.Holder))
}

// witnessKey returns a witness's public key that is given as it is, NAME+ID+KEY, or by the name of a file that has it.
func witnessKey(text string) (attest.WitnessKey, error) {
	key, err := attest.ParseWitnessKey(text)
	if err == nil {
		return key, nil
	}
	inFile, fileErr := readKeyFile(text)
	if errors.Is(fileErr, os.ErrNotExist) {
		return key, fmt.Errorf("it is no witness's public key (%w), and no file that has one", err)
	}
	if fileErr != nil {
		return key, fileErr
	}
	if key, err = attest.ParseWitnessKey(inFile); err != nil {
		return key, fmt.Errorf("%s: %w", text, err)
	}
	return key, nil
}
