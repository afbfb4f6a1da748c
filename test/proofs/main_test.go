// Package proofs holds the two verifiers of proofs against each other: package proof, and examples/verify/verify.py, which shares no code with it.
package proofs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/pkg/events"
)

// python is examples/verify/verify.py, in a process that answers as long as a test needs it.
type python struct {
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

func startPython(t testing.TB) *python {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		const missing = "NOT CHECKED: python3 is not installed (Debian: apt-get install python3)"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	c := exec.Command(path, "asked.py")
	var stderr bytes.Buffer
	c.Stderr = &stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Errorf("asked.py: %v\n%s", err, stderr.Bytes())
		}
	})
	return &python{t, in, bufio.NewReader(out)}
}

// ask sends a line and reads the answer.
func (p *python) ask(question, answer any) {
	p.t.Helper()
	line, err := json.Marshal(question)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatal(err)
	}
	if line, err = p.out.ReadBytes('\n'); err != nil {
		p.t.Fatal(err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		p.t.Fatalf("%v in %s", err, line)
	}
}

// verdict is what a verifier says of a file.
type verdict struct {
	Code   int // the exit code
	Reason string
	said
}

// said is what both verifiers say of a file that is verified, exactly.
type said struct {
	Holder    string  `json:"holder_id"`
	Origin    string  `json:"origin"`
	Sequence  uint64  `json:"sequence"`
	Messages  uint64  `json:"messages"`
	Clock     string  `json:"clock"`
	At        string  `json:"at"`
	Since     string  `json:"known_since"`
	Holds     *uint64 `json:"holds"`
	Score     *string `json:"score_exact"`
	Rate      *string `json:"rate_exact"`
	OpenHolds *int    `json:"open_holds"`
	Events    *int    `json:"events"`
	Witnesses []struct {
		Name string `json:"name"`
		At   int64  `json:"at"`
	} `json:"witnesses"`
}

// question is a file and what is asked about it. At is nil if nothing is.
type question struct {
	file      []byte
	key       attest.Key
	witnesses []attest.WitnessKey
	at        *events.Time
}

// verdict is what verify.py says.
func (p *python) verdict(q question) (v verdict) {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "proof")
	if err := os.WriteFile(path, q.file, 0o600); err != nil {
		p.t.Fatal(err)
	}
	arguments := []string{path, "--json", "--key", q.key.String()}
	for _, w := range q.witnesses {
		arguments = append(arguments, "--witness", w.String())
	}
	if q.at != nil {
		arguments = append(arguments, "--at", q.at.Seconds())
	}
	var answer struct {
		Code     int
		Out, Err string
	}
	p.ask(map[string]any{"verify": arguments}, &answer)
	v.Code = answer.Code
	switch answer.Code {
	case 0:
		if err := json.Unmarshal([]byte(answer.Out), &v.said); err != nil {
			p.t.Fatalf("%v in %s", err, answer.Out)
		}
	case 1:
		v.Reason = answer.Out
	default:
		v.Reason = answer.Err
	}
	return v
}

// ours is what package proof says.
func ours(q question) (v verdict) {
	f, err := proof.Decode(q.file)
	var verified *proof.Verified
	if err == nil {
		verified, err = f.Verify(q.key, q.witnesses...)
	}
	if err != nil {
		v.Code, v.Reason = 1, err.Error()
		if !errors.Is(err, proof.ErrRefused) {
			v.Code = 2
		}
		return v
	}
	st, m := verified.Statement, verified.Member
	at := max(st.Clock, m.Since())
	if q.at != nil {
		at = *q.at
	}
	r, ok, err := m.At(at)
	if err != nil {
		return verdict{Code: 2, Reason: err.Error()}
	}
	v.said = said{Holder: m.ID(), Origin: st.Origin(), Sequence: st.Sequence, Messages: st.Size, Clock: st.Clock.Seconds(), At: at.Seconds(), Since: m.Since().Seconds()}
	if ok {
		score, rate := r.Score.String(), r.Rate.String()
		v.Score, v.Rate, v.Holds, v.OpenHolds = &score, &rate, &r.Holds, &r.OpenHolds
	}
	if n := len(verified.Events); n > 0 {
		v.Events = &n
	}
	for _, w := range verified.Witnesses {
		v.Witnesses = append(v.Witnesses, struct {
			Name string `json:"name"`
			At   int64  `json:"at"`
		}{w.Name, w.At.Unix()})
	}
	return v
}
