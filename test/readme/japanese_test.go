package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// comment is what a shell does not look at; each README has it in its own language.
var comment = regexp.MustCompile(`(?m)(^|[ \t]+)#.*$`)

// commandsOf returns the blocks of commands of a page, marked or not, without comments.
func commandsOf(page string) []string {
	var commands []string
	inside := false
	for line := range strings.Lines(strings.ReplaceAll(page, "\r\n", "\n")) {
		switch {
		case inside && line == "```\n":
			inside = false
		case inside:
			commands[len(commands)-1] += line
		case line == "```sh\n":
			inside = true
			commands = append(commands, "")
		}
	}
	for i := range commands {
		commands[i] = comment.ReplaceAllString(commands[i], "")
	}
	return commands
}

// The commands of README.md are run; those of README.ja.md are the same.
func TestJapaneseREADMEHasTheSameCommands(t *testing.T) {
	pages := map[string]string{}
	for _, name := range []string{"README.md", "README.ja.md"} {
		page, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		pages[name] = string(page)
	}
	english, japanese := commandsOf(pages["README.md"]), commandsOf(pages["README.ja.md"])
	if len(english) == 0 {
		t.Fatal("README.md has no block of commands: they are fenced with ```sh")
	}
	if diff := cmp.Diff(english, japanese); diff != "" {
		t.Errorf("the blocks of commands in README.ja.md are not those of README.md; carry the change over (-README.md +README.ja.md):\n%s", diff)
	}
	if !strings.Contains(pages["README.md"], "[日本語](README.ja.md)") || !strings.Contains(pages["README.ja.md"], "[English](README.md)") {
		t.Error("README.md and README.ja.md must link to one another")
	}
}

func TestCommandsOf(t *testing.T) {
	const page = "text\n<!-- run -->\n```sh\none # why\n  # a line\ntwo\n```\n```\nnot one\n```\n```sh\r\nthree a#b\r\n```\n"
	if diff := cmp.Diff([]string{"one\n\ntwo\n", "three a#b\n"}, commandsOf(page)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
