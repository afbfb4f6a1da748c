package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// block is one run of commands in a page.
type block struct {
	line   int    // of the opening fence, from 1
	script string // each line ended by a newline
	until  string // if not empty: interrupt it once this is in its output
	prints string // if not empty: must be in its output
}

var (
	anyMark  = regexp.MustCompile(`^<!--\s*run\b`)
	goodMark = regexp.MustCompile(`^<!-- run(?: (until|prints) "([^"]+)")? -->$`)
)

// findBlocks returns the marked blocks of a Markdown page. It is an error if there are none, or if a mark is malformed or
// does not stand right before a block, because a command that silently is not run is worse than none.
func findBlocks(page string) ([]block, error) {
	var blocks []block
	lines := strings.Split(strings.ReplaceAll(page, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if !anyMark.MatchString(lines[i]) {
			continue
		}
		mark := goodMark.FindStringSubmatch(lines[i])
		if mark == nil {
			return nil, fmt.Errorf("line %d: %s is none of <!-- run -->, <!-- run until \"text\" --> and <!-- run prints \"text\" -->", i+1, lines[i])
		}
		i++
		if i == len(lines) || lines[i] != "```sh" {
			return nil, fmt.Errorf("line %d: the line after a run mark must open a block with ```sh", i+1)
		}
		b := block{line: i + 1}
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			b.script += lines[i] + "\n"
		}
		if i == len(lines) {
			return nil, fmt.Errorf("line %d: the block is not closed", b.line)
		}
		switch mark[1] {
		case "until":
			b.until = mark[2]
		case "prints":
			b.prints = mark[2]
		}
		blocks = append(blocks, b)
	}
	if len(blocks) == 0 {
		return nil, errors.New("no block is marked by <!-- run -->")
	}
	return blocks, nil
}
