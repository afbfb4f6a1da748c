package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Change is one thing that Apply did.
type Change struct {
	Created string // what was created, as "stream HOLDS" or "bucket PRODUCERS"
}

func (c Change) String() string { return "created " + c.Created }

// Difference is one setting in which something that exists is not as declared.
type Difference struct {
	Object string // "stream HOLDS", "bucket PRODUCERS"
	Field  string // the setting by its name in the NATS API, or "policy <name>"
	Have   string // what is there, as JSON; "unset" if nothing is
	Want   string // what is declared, likewise
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s is %s, declared is %s", d.Object, d.Field, d.Have, d.Want)
}

// DriftError says that what exists is not what is declared. Nothing was
// changed.
type DriftError struct {
	Differences []Difference // at least one, by object in the order of the declaration, then by field
}

func (e *DriftError) Error() string {
	lines := make([]string, len(e.Differences))
	for i, d := range e.Differences {
		lines[i] = d.String()
	}
	return fmt.Sprintf("what exists differs from the declaration, and is not overwritten: %s. Declare what is there, or have an operator change it",
		strings.Join(lines, "; "))
}

// unset stands for a setting or policy entry that is not there.
const unset = "unset"

// An operator may describe a stream, say where it is placed and bound its
// size; that is not drift.
var operatorsFields = []string{"description", "placement", "max_bytes"}

// Apply creates the streams and buckets that are missing and leaves those that
// exist as they are. If one of those differs from the declaration it returns a
// *DriftError and creates nothing; it may also return ErrReplicas or ErrSubjectsTaken. It may be called by several processes at
// once and again at any time; after an error it can simply be repeated.
//
// The changes are those that were made, also beside an error.
func (c *Client) Apply(ctx context.Context, d Declaration) ([]Change, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	var missing []object
	var drift []Difference
	for _, want := range d.objects() {
		have, err := c.streamInfo(ctx, want.config.Name, "")
		switch {
		case errors.Is(err, ErrNoStream):
			missing = append(missing, want)
		case err != nil:
			return nil, fmt.Errorf("apply: %s: %w", want.label, err)
		default:
			drift = append(drift, want.compare(have.Config)...)
		}
	}
	if len(drift) > 0 {
		return nil, fmt.Errorf("apply: %w", &DriftError{drift})
	}
	var changes []Change
	for _, want := range missing {
		created, err := c.create(ctx, want)
		if err != nil {
			return changes, fmt.Errorf("apply: %s: %w", want.label, err)
		}
		if created {
			changes = append(changes, Change{Created: want.label})
		}
	}
	return changes, nil
}

// create makes one object. Another process may be doing the same: if it was
// first, what it made is compared.
func (c *Client) create(ctx context.Context, want object) (created bool, err error) {
	config := want.config
	config.Replicas = max(config.Replicas, 1)
	if err = c.createStream(ctx, config); err == nil {
		return true, nil
	}
	e, answered := errors.AsType[*jetstream.APIError](err)
	switch {
	case answered && tooFewServers(e, config.Replicas):
		return false, fmt.Errorf("%w: %w", ErrReplicas, e)
	case answered && e.ErrorCode == codeSubjectsOverlap:
		return false, fmt.Errorf("%w%s: %w", ErrSubjectsTaken, c.takenBy(ctx, config), e)
	case !answered || e.ErrorCode != codeNameInUse:
		return false, readError(err)
	}
	have, err := c.streamInfo(ctx, config.Name, "")
	if err != nil {
		return false, err
	}
	if drift := want.compare(have.Config); len(drift) > 0 {
		return false, &DriftError{drift}
	}
	return false, nil
}

// tooFewServers reports whether a stream was refused since there are not as many servers as are to keep it. The server finds none fit for other
// reasons, too, which its words name: that they have no room, or not the right tags.
func tooFewServers(e *jetstream.APIError, replicas int) bool {
	switch e.ErrorCode {
	case codeNoReplicas:
		return true
	case codeNoPeers:
		return replicas > 1 && !strings.Contains(e.Description, "storage") && !strings.Contains(e.Description, "tag")
	}
	return false
}

// takenBy names a stream that takes subjects of one that cannot be made, as in " (stream X, of hold.*)"; it is empty if that cannot be found out,
// which not every user may.
func (c *Client) takenBy(ctx context.Context, config jetstream.StreamConfig) string {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	for _, subject := range config.Subjects {
		for name := range c.js.StreamNames(ctx, jetstream.WithStreamListSubject(subject)).Name() {
			return fmt.Sprintf(" (stream %s, of %s)", name, subject)
		}
	}
	return ""
}

// createStream may repeat itself: to create what is there already, and is the
// same, is no error.
func (c *Client) createStream(ctx context.Context, config jetstream.StreamConfig) error {
	return untilAnswered(ctx, func() error {
		if err := c.awaitConnection(ctx); err != nil {
			return err
		}
		ctx, cancel := c.forAnswer(ctx, WriteTimeout)
		defer cancel()
		_, err := c.js.CreateStream(ctx, config)
		return unanswered(ctx, err)
	})
}

// Policy returns the policy that was recorded when the log was made; it is
// empty if none was. It returns ErrNoStream if the log does not exist.
func (c *Client) Policy(ctx context.Context, log Log) (map[string]string, error) {
	info, err := c.streamInfo(ctx, log.Stream, "")
	if err != nil {
		return nil, fmt.Errorf("read policy of stream %s: %w", log.Stream, err)
	}
	return metadataPolicy(info.Config.Metadata), nil
}

// compare lists in what the stream that exists is not as declared. Every
// setting that the client library knows is compared, also those that the
// declaration leaves at their zero.
func (o object) compare(have jetstream.StreamConfig) []Difference {
	want := o.config
	ignored := slices.Clone(operatorsFields)
	ignored = append(ignored, "metadata") // compared as policy
	if want.Replicas == 0 {
		ignored = append(ignored, "num_replicas")
	}
	if have.DenyPurge && slices.ContainsFunc(Logs(), func(l Log) bool { return l.Stream == want.Name }) {
		ignored = append(ignored, "deny_purge") // as logs were made at first; it is stricter, and the server lets no one take it back
	}
	differences := o.differ("", fields(have), fields(want), ignored)
	if o.policy != nil {
		differences = append(differences, o.differ("policy ", metadataPolicy(have.Metadata), o.policy, nil)...)
	}
	return differences
}

// differ compares two sets of named values.
func (o object) differ(prefix string, have, want map[string]string, ignored []string) []Difference {
	names := maps.Clone(have)
	maps.Copy(names, want)
	var differences []Difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		h, inHave := have[name]
		w, inWant := want[name]
		if (h == w && inHave == inWant) || slices.Contains(ignored, name) {
			continue
		}
		if !inHave {
			h = unset
		}
		if !inWant {
			w = unset
		}
		differences = append(differences, Difference{Object: o.label, Field: prefix + name, Have: h, Want: w})
	}
	return differences
}

// fields returns a stream's settings by their names in the NATS API, as JSON.
func fields(config jetstream.StreamConfig) map[string]string {
	text, err := json.Marshal(config)
	raw := make(map[string]json.RawMessage)
	if err = errors.Join(err, json.Unmarshal(text, &raw)); err != nil {
		panic(fmt.Sprintf("jetstream: a stream's configuration is not JSON: %v", err)) // it came as JSON
	}
	values := make(map[string]string, len(raw))
	for name, value := range raw {
		values[name] = string(value)
	}
	return values
}
