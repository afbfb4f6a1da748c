// Command readme runs the commands that the README, docs/import.md and the pages of docs/reading tell people to run, as written, in
// a fresh clone of the last commit: one for each page.
//
//	go run ./test/readme                       all pages
//	go run ./test/readme docs/reading/nats.md  only these
//	go run ./test/readme -except 'go test ./...'  all pages, but for that block, which must be there: for who has run it otherwise
//
// A block of commands is run if an HTML comment stands before it, which the reader of the page does not see:
//
//	<!-- run -->                  it must succeed
//	<!-- run prints "text" -->    and text must be in its output
//	<!-- run until "text" -->     once text is in its output it gets a Ctrl-C, and must then end in good order
//
// The block itself is fenced with ```sh. The blocks of a page run in their order, in the same folder, each in a shell of its
// own, for at most ten minutes. What one leaves running in the background, with its output elsewhere, runs on for the
// blocks after it, and is killed at the end of the page. The exit code is 1 if a block of any page fails.
package main

import (
	"context"
	"errors"
	"flag"
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

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("readme", flag.ContinueOnError)
	flags.SetOutput(stderr)
	except := flags.String("except", "", "a block that is not run, as it is written")
	if err := flags.Parse(args); err != nil {
		return service.ExitUsage
	}
	if err := runPages(ctx, flags.Args(), *except, stdout); err != nil {
		fmt.Fprintln(stderr, "readme:", err)
		return service.ExitFailure
	}
	return service.ExitOK
}

// runPages runs the pages of those names, or all that there are, but for a block. A page that fails does not keep the others from being run.
func runPages(ctx context.Context, names []string, except string, stdout io.Writer) error {
	folder, err := os.MkdirTemp("", "holdfast-readme-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	root, err := cloneHead(ctx, filepath.Join(folder, "all"), stdout)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		if names, err = allPages(root); err != nil {
			return err
		}
	}
	var failures []error
	left := 0
	for i, name := range names {
		clone, err := cloneHead(ctx, filepath.Join(folder, fmt.Sprint(i)), io.Discard)
		if err != nil {
			return err
		}
		n, err := runPage(ctx, clone, name, except, stdout)
		if left += n; err != nil {
			failures = append(failures, err)
			fmt.Fprintln(stdout, "--- FAILED:", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	if except != "" && left != 1 {
		failures = append(failures, fmt.Errorf("%d blocks are %q, want 1", left, except))
	}
	return errors.Join(failures...)
}

// allPages returns the names of the pages whose blocks are run.
func allPages(root string) ([]string, error) {
	pages, err := filepath.Glob(filepath.Join(root, "docs", "reading", "*.md"))
	if err != nil {
		return nil, err
	}
	names := []string{"README.md", "docs/audit.md", "docs/import.md"}
	for _, p := range pages {
		names = append(names, "docs/reading/"+filepath.Base(p))
	}
	return names, nil
}

// runPage runs the blocks of one page in a folder, up to the first that fails, and leaves out those that are except.
func runPage(ctx context.Context, folder, name, except string, stdout io.Writer) (left int, err error) {
	page, err := os.ReadFile(filepath.Join(folder, filepath.FromSlash(name)))
	if err != nil {
		return left, err
	}
	blocks, err := findBlocks(string(page))
	if err != nil {
		return left, fmt.Errorf("%s: %w", name, err)
	}
	for _, b := range blocks {
		if except != "" && strings.TrimSpace(b.script) == except {
			left++
			fmt.Fprintf(stdout, "\n--- %s:%d: %s: left out\n", name, b.line, except)
			continue
		}
		fmt.Fprintf(stdout, "\n--- %s:%d\n%s", name, b.line, b.script)
		start := time.Now()
		command, err := b.run(ctx, folder, stdout)
		if command != nil {
			defer endGroup(command)
		}
		if err != nil {
			return left, fmt.Errorf("%s:%d: %w", name, b.line, err)
		}
		fmt.Fprintf(stdout, "--- %s:%d: as promised, in %v\n", name, b.line, time.Since(start).Round(time.Second/10))
	}
	return left, nil
}

// cloneHead clones the repository that the working directory is in, and returns the clone's path below folder, which it
// makes.
func cloneHead(ctx context.Context, folder string, stdout io.Writer) (string, error) {
	if err := os.Mkdir(folder, 0o700); err != nil {
		return "", err
	}
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
