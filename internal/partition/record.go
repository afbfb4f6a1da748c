package partition

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// The bucket's keys and values. Values are JSON, so that an operator can read them with any client:
//
//	m.<id>  a member:  {"id":"…","host":"a","pid":7,"version":"v1.0.0","started":"2026-01-01T00:00:00Z","leaving":false}
//	p.<n>   a lease:   {"owner":"<id>","since":"2026-01-01T00:00:00Z","HOLDS":{"folded":9,"stored":8,"pending":0},"POH":{…}}
//
// Both expire if they are not written again. All fields are always there, and there are no others, but that a log's partition
// which is not served as it should be has "state" and, if there is one, "reason" besides, and may have null for "pending": older
// versions, which do not know these, leave such a lease alone.
const (
	memberPrefix = "m."
	leasePrefix  = "p."
)

// Worker is a process that takes part. All but the ID is there to be shown to people.
type Worker struct {
	ID      string    `json:"id"` // of letters, digits, - and _; a new one for each start of a process, so that no two are alike
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Started time.Time `json:"started"` // by the worker's own clock, UTC
}

// ThisProcess returns a Worker with a new random ID for this process, as of now. The version is what to show.
func ThisProcess(version string) Worker {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // it is only there to be looked at
	}
	return Worker{ID: rand.Text(), Host: host, PID: os.Getpid(), Version: version, Started: time.Now().UTC().Truncate(time.Millisecond)}
}

func (w Worker) validate() error {
	if w.ID == "" || strings.Trim(w.ID, idCharacters) != "" {
		return fmt.Errorf("worker ID %q: it is made of letters, digits, - and _", w.ID)
	}
	return nil
}

const idCharacters = "-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// Status is what others are shown about a partition that we hold.
type Status struct {
	Holds LogStatus `json:"HOLDS"`
	PoH   LogStatus `json:"POH"`
}

// LogStatus is how far a partition of one log has come.
type LogStatus struct {
	Folded  uint64  `json:"folded"`           // the sequence that is folded through
	Stored  uint64  `json:"stored"`           // the sequence that the stored state is folded through
	Pending *uint64 `json:"pending"`          // messages that wait behind the last one folded; nil = not known
	State   State   `json:"state,omitempty"`  // Loading, Failing or Stopped; "" = it is served
	Reason  string  `json:"reason,omitempty"` // why it is Failing or Stopped; see Shorten
}

const (
	maxReason = 500 // bytes of a reason, before cutOff
	cutOff    = "…" // ends one that was longer
)

// Shorten makes a LogStatus's reason of an error's text: valid UTF-8 of some hundred bytes.
func Shorten(text string) string {
	if len(text) > maxReason {
		text = text[:maxReason] + cutOff
	}
	return strings.ToValidUTF8(text, "")
}

// validate refuses what no worker says.
func (s LogStatus) validate() error {
	switch s.State {
	case Failing, Stopped:
		if len(s.Reason) > maxReason+len(cutOff) {
			return fmt.Errorf("a reason of %d bytes; it has %d at most", len(s.Reason), maxReason+len(cutOff))
		}
	case "", Loading:
		if s.Reason != "" {
			return fmt.Errorf("a reason for the state %q", s.State)
		}
	default:
		return fmt.Errorf("the state %q; it is %s, %s, %s, or left out", s.State, Loading, Failing, Stopped)
	}
	return nil
}

// memberRecord is the value of a member's key.
type memberRecord struct {
	Worker
	Leaving bool `json:"leaving"` // hands over what it has and takes nothing more
}

// Tenancy is who has a partition, and how far it has come: the value of a lease's key.
type Tenancy struct {
	Owner string    `json:"owner"` // a worker's ID
	Since time.Time `json:"since"` // when the owner took it, by the owner's clock, UTC
	Status
}

func memberKey(id string) string { return memberPrefix + id }

func leaseKey(partition int) string { return leasePrefix + strconv.Itoa(partition) }

func (r memberRecord) encode() []byte { return encode(r) }

func (r Tenancy) encode() []byte { return encode(r) }

func encode(record any) []byte {
	value, err := json.Marshal(record)
	if err != nil {
		panic("partition: a record of plain fields cannot be written: " + err.Error())
	}
	return value
}

// decodeMember reads a member's value. It takes just what encode writes.
func decodeMember(key string, value []byte) (memberRecord, error) {
	var r memberRecord
	err := decode(value, &r, func() []byte { return r.encode() })
	if err == nil {
		err = r.validate()
	}
	if err == nil && memberKey(r.ID) != key {
		err = fmt.Errorf("it is that of worker %s", r.ID)
	}
	if err != nil {
		return memberRecord{}, fmt.Errorf("key %s: not a member: %w", key, err)
	}
	return r, nil
}

// decodeLease reads a lease's value and the partition in its key. It takes just what encode writes.
func decodeLease(key string, value []byte) (partition int, r Tenancy, err error) {
	partition, err = leasePartition(key)
	if err == nil {
		err = decode(value, &r, func() []byte { return r.encode() })
	}
	if err == nil {
		err = cmp.Or(Worker{ID: r.Owner}.validate(), r.Holds.validate(), r.PoH.validate())
	}
	if err != nil {
		return 0, Tenancy{}, fmt.Errorf("key %s: not a lease: %w", key, err)
	}
	return partition, r, nil
}

// leasePartition returns the partition that a lease's key names.
func leasePartition(key string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(key, leasePrefix))
	if err != nil || n < 0 || key != leaseKey(n) {
		return 0, errors.New("the key names no partition")
	}
	return n, nil
}

// decode reads a value into a record and compares it with what the record would be written as.
func decode(value []byte, record any, again func() []byte) error {
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(record); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("it is empty")
		}
		return err
	}
	if !bytes.Equal(value, again()) {
		return errors.New("it is not written as a worker would write it")
	}
	return nil
}
