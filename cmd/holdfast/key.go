package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/city-chain/holdfast/internal/attest"
)

// keyCommands make and show the keys of signed checkpoints.
type keyCommands struct {
	Generate keyGenerate `cmd:"" help:"Make a key, and write it and its public key to files."`
	Show     keyShow     `cmd:"" help:"Show the public key of a file, of a secret key or a public one."`
}

// keyGenerate makes a key.
type keyGenerate struct {
	Name    string `arg:"" help:"Name of the key: a URL without its scheme, such as ledger.example.org. It stands in everything that the key signs."`
	Witness bool   `help:"A witness's key, which cosigns checkpoints, instead of one that signs them."`
	Output  string `short:"o" help:"File for the secret key, NAME.key if it is not given; the public key is written beside it, to FILE.pub. Neither may exist." placeholder:"FILE" type:"filled"`
}

// Validate is called when the flags are parsed.
func (g keyGenerate) Validate() error { return attest.CheckName(g.Name) }

func (g *keyGenerate) run(_ context.Context, s *session) error {
	generate := attest.GenerateKey
	if g.Witness {
		generate = attest.GenerateWitnessKey
	}
	secret, public, err := generate(g.Name)
	if err != nil {
		return err
	}
	path := g.Output
	if path == "" {
		path = strings.ReplaceAll(g.Name, "/", "-") + ".key"
	}
	if err := writeNew(path, secret, 0o600); err != nil {
		return err
	}
	if err := writeNew(path+".pub", public, 0o644); err != nil {
		return errors.Join(err, os.Remove(path)) // nobody has the key yet
	}
	fmt.Fprintf(s.stderr, "The secret key is in %s: whoever has that file can sign in this name. Keep a copy where nothing else is. The public key, to be handed out, is in %s.pub:\n", path, path)
	_, err = fmt.Fprintln(s.stdout, public)
	return err
}

// writeNew writes a line to a file that must not exist, and has the disk keep it.
func writeNew(path, line string, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: a key is never overwritten; name another file by -o", path)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// keyShow shows a public key.
type keyShow struct {
	File string `arg:"" help:"File with a secret key or a public one." placeholder:"FILE"`
}

func (k *keyShow) run(_ context.Context, s *session) error {
	text, err := readKeyFile(k.File)
	if err != nil {
		return err
	}
	public, err := attest.PublicOf(text)
	if err != nil {
		return fmt.Errorf("%s: %w", k.File, err)
	}
	_, err = fmt.Fprintln(s.stdout, public)
	return err
}
