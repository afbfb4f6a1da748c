package producers

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// The file is YAML, of which JSON is a part:
//
//	producers:
//	  - name: mint
//	    token-sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08   # printf %s "$TOKEN" | sha256sum
//	    limits: {events: 1000, events-burst: 5000, new: 10, bytes: 1000000}
//
// token-sha256 may be a list, so that a token can be replaced by another while both are good. What limits do not say is as the
// service's flags say it; a limit that they do say is theirs altogether, its burst included.

const (
	// MaxProducers is how many producers a file may list: each has series of metrics.
	MaxProducers = 1000

	maxTokens = 10 // of a producer
	maxName   = 64 // bytes
)

// entry is a producer as a file lists it.
type entry struct {
	name   string
	sums   [][sha256.Size]byte
	limits Limits
}

// read reads the file at a path.
func read(path string, limits Limits) ([]entry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the file of producers: %w", err)
	}
	entries, err := parse(data, limits)
	if err != nil {
		return nil, fmt.Errorf("file of producers %s: %w", path, err)
	}
	return entries, nil
}

// parse reads a file; the limits, without their defaults, are what those have that it gives none.
func parse(data []byte, limits Limits) ([]entry, error) {
	d := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	if err := d.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more than one YAML document in it")
	}
	list := &yaml.Node{}
	if len(document.Content) == 1 {
		err := eachKey(document.Content[0], "the file", map[string]func(*yaml.Node) error{
			"producers": func(n *yaml.Node) error { list = n; return nil },
		})
		if err != nil {
			return nil, err
		}
	}
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		return nil, errors.New("it lists nobody: begin it with producers: and a list of at least one, each with name and token-sha256")
	}
	if len(list.Content) > MaxProducers {
		return nil, fmt.Errorf("line %d: there are %d producers: it must be %d at most", list.Line, len(list.Content), MaxProducers)
	}
	var entries []entry
	for _, n := range list.Content {
		e, err := readEntry(n, limits)
		if err != nil {
			return nil, err
		}
		if err := clash(entries, e); err != nil {
			return nil, fmt.Errorf("line %d: %w", n.Line, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// clash says what a producer has in common with one before it that it must not.
func clash(before []entry, e entry) error {
	for _, b := range before {
		if b.name == e.name {
			return fmt.Errorf("there is a producer %s already", e.name)
		}
		for _, sum := range e.sums {
			for _, other := range b.sums {
				if sum == other {
					return fmt.Errorf("the producers %s and %s have the same token: give each one of its own", b.name, e.name)
				}
			}
		}
	}
	return nil
}

func readEntry(n *yaml.Node, limits Limits) (entry, error) {
	e := entry{limits: limits}
	err := eachKey(n, "a producer", map[string]func(*yaml.Node) error{
		"name":         func(v *yaml.Node) error { return readName(v, &e.name) },
		"token-sha256": func(v *yaml.Node) error { return readSums(v, &e.sums) },
		"limits":       func(v *yaml.Node) error { return readLimits(v, &e.limits) },
	})
	switch {
	case err != nil:
		return e, err
	case e.name == "":
		return e, fmt.Errorf("line %d: a producer has no name", n.Line)
	case len(e.sums) == 0:
		return e, fmt.Errorf("line %d: the producer %s has no token-sha256", n.Line, e.name)
	}
	if e.limits, err = e.limits.complete(); err != nil {
		return e, fmt.Errorf("line %d: the limits of the producer %s: %w", n.Line, e.name, err)
	}
	return e, nil
}

// readName reads a producer's name, which labels metrics and stands in a header.
func readName(v *yaml.Node, to *string) error {
	name, err := scalar(v)
	switch {
	case err != nil:
		return err
	case name == Anonymous:
		return fmt.Errorf("line %d: name: %s is what those are called who have no token; choose another one", v.Line, Anonymous)
	case name == "" || len(name) > maxName || strings.ContainsFunc(name, func(r rune) bool { return !inName(r) }):
		return fmt.Errorf("line %d: name: %.80q is no name: it must be 1 to %d ASCII letters, digits, '-', '_' and '.'", v.Line, name, maxName)
	}
	*to = name
	return nil
}

func inName(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.'
}

// forgotten are the SHA-256 of nothing, and of a line's end alone: of a token that was not there when its sum was made.
var forgotten = [][sha256.Size]byte{sha256.Sum256(nil), sha256.Sum256([]byte("\n"))}

func readSums(v *yaml.Node, to *[][sha256.Size]byte) error {
	values := []*yaml.Node{v}
	if v = target(v); v.Kind == yaml.SequenceNode {
		values = v.Content
	}
	if len(values) > maxTokens {
		return fmt.Errorf("line %d: token-sha256: there are %d tokens: it must be %d at most", v.Line, len(values), maxTokens)
	}
	for _, v := range values {
		text, err := scalar(v)
		if err != nil {
			return err
		}
		var sum [sha256.Size]byte
		if n, err := hex.Decode(sum[:], []byte(text[:min(len(text), 2*len(sum))])); err != nil || n != len(sum) || len(text) != 2*len(sum) {
			// what stands there may be the token itself, which no log should have
			return fmt.Errorf("line %d: token-sha256: it is not a SHA-256, which has 64 hexadecimal digits; make it by: printf %%s TOKEN | sha256sum", v.Line)
		}
		for _, empty := range forgotten {
			if sum == empty {
				return fmt.Errorf("line %d: token-sha256: it is the SHA-256 of an empty token: the token was not there when it was made", v.Line)
			}
		}
		*to = append(*to, sum)
	}
	return nil
}

func readLimits(n *yaml.Node, l *Limits) error {
	given := map[string]*Rate{}
	keys := map[string]func(*yaml.Node) error{
		"remember": func(v *yaml.Node) error { return readWhole(v, "remember", &l.Remember) },
	}
	rates := map[string]*Rate{EventsLimit: &l.Events, NewLimit: &l.New, BytesLimit: &l.Bytes}
	for _, name := range LimitNames() {
		own := func() *Rate {
			if given[name] == nil {
				given[name] = &Rate{}
			}
			return given[name]
		}
		keys[name] = func(v *yaml.Node) error { return readRate(v, name, &own().PerSecond) }
		keys[name+"-burst"] = func(v *yaml.Node) error { return readWhole(v, name+"-burst", &own().Burst) }
	}
	if err := eachKey(n, "limits", keys); err != nil {
		return err
	}
	for name, rate := range given {
		*rates[name] = *rate
	}
	return nil
}

func readRate(v *yaml.Node, key string, to *float64) error {
	text, err := scalar(v)
	if err != nil {
		return err
	}
	if *to, err = strconv.ParseFloat(text, 64); err != nil || math.IsInf(*to, 0) || math.IsNaN(*to) {
		return fmt.Errorf("line %d: %s: %.40q is not a number of so many a second", v.Line, key, text)
	}
	return nil
}

func readWhole(v *yaml.Node, key string, to *int) error {
	text, err := scalar(v)
	if err != nil {
		return err
	}
	if *to, err = strconv.Atoi(text); err != nil || *to < 1 {
		return fmt.Errorf("line %d: %s: %.40q is not a whole number from 1 on", v.Line, key, text)
	}
	return nil
}

// eachKey calls for each key of a map what is there to read its value.
func eachKey(n *yaml.Node, what string, keys map[string]func(*yaml.Node) error) error {
	if n = target(n); n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: %s must be a map of keys and values", n.Line, what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		read, ok := keys[key.Value]
		switch {
		case !ok:
			return fmt.Errorf("line %d: %s has no key %.40q", key.Line, what, key.Value)
		case seen[key.Value]:
			return fmt.Errorf("line %d: %s has the key %s twice", key.Line, what, key.Value)
		}
		seen[key.Value] = true
		if err := read(value); err != nil {
			return err
		}
	}
	return nil
}

// target is what a node stands for: another one, if it is an alias.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// scalar returns the text of a plain value.
func scalar(n *yaml.Node) (string, error) {
	n = target(n)
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return "", fmt.Errorf("line %d: a plain value is missing here", n.Line)
	}
	return n.Value, nil
}
