// Command readme runs the commands that the README tells people to run, as written, in a fresh clone of the last commit.
//
//	go run ./test/readme
//
// A block of commands is run if an HTML comment stands before it, which the reader of the page does not see:
//
//	<!-- run -->                  it must succeed
//	<!-- run prints "text" -->    and text must be in its output
//	<!-- run until "text" -->     once text is in its output it gets a Ctrl-C, and must then end in good order
//
// The block itself is fenced with ```sh. Blocks run in their order, in the same folder, each for at most ten minutes.
// The exit code is 1 if one of them fails.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/service"
)

func main() { os.Exit(service.Main(run)) }

func run(ctx context.Context, _ []string, stdout, stderr io.Writer) int {
	if err := runReadme(ctx, stdout); err != nil {
		fmt.Fprintln(stderr, "readme:", err)
		return service.ExitFailure
	}
	return service.ExitOK
}

func runReadme(ctx context.Context, stdout io.Writer) error {
	folder, err := os.MkdirTemp("", "holdfast-readme-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	clone, err := cloneHead(ctx, folder, stdout)
	if err != nil {
		return err
	}
	page, err := os.ReadFile(filepath.Join(clone, "README.md"))
	if err != nil {
		return err
	}
	blocks, err := findBlocks(string(page))
	if err != nil {
		return fmt.Errorf("README.md: %w", err)
	}
	for _, b := range blocks {
		fmt.Fprintf(stdout, "\n--- README.md:%d\n%s", b.line, b.script)
		start := time.Now()
		if err := b.run(ctx, clone, stdout); err != nil {
			return fmt.Errorf("README.md:%d: %w", b.line, err)
		}
		fmt.Fprintf(stdout, "--- README.md:%d: as promised, in %v\n", b.line, time.Since(start).Round(time.Second/10))
	}
	return nil
}

// cloneHead clones the repository that the working directory is in, and returns the clone's path below folder.
func cloneHead(ctx context.Context, folder string, stdout io.Writer) (string, error) {
	// In a container the repository may belong to somebody else, which git takes for a danger unless told otherwise; and
	// only a configuration file gets as far as the process that clone starts.
	config := filepath.Join(folder, "gitconfig")
	if err := os.WriteFile(config, []byte("[safe]\n\tdirectory = *\n"), 0o600); err != nil {
		return "", err
	}
	git := func(args ...string) (string, error) {
		command := exec.CommandContext(ctx, "git", args...)
		command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+config)
		output, err := command.CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("git %s: %w\n%s", args[0], err, output)
		}
		return strings.TrimRight(string(output), "\r\n"), nil
	}
	root, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return "", err
	}
	changes, err := git("status", "--porcelain")
	if err != nil {
		return "", err
	}
	if changes != "" {
		fmt.Fprintf(stdout, "note: what is not committed is not in the clone:\n%s\n", changes)
	}
	clone := filepath.Join(folder, "holdfast")
	if _, err := git("clone", "--quiet", root, clone); err != nil {
		return "", err
	}
	return clone, nil
}
