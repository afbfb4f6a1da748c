package load

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// The bundled log: how many events it has, what its holders' ids begin with, and what it comes to, by a tool that is not Holdfast's
// (the README names it).
const (
	logEvents  = 18_239
	logPrefix  = "user"
	logScore   = 474_238_015
	importTime = 5 * time.Minute // that one import may take, faults included
)

// imports imports the bundled log again and again, each time under another name, until about so many events are sent. Some imports are
// killed and run again.
func (l *Load) imports(ctx context.Context, total int64) error {
	random := l.fork("imports")
	scores, err := l.readLog()
	if err != nil {
		return err
	}
	for done := int64(0); (done == 0 || done < total) && l.mayGo(ctx, done, total); done += logEvents {
		if err := l.importLog(ctx, "log-"+strconv.Itoa(l.rounds), func() time.Duration {
			if random.IntN(3) > 0 {
				return importTime
			}
			return time.Duration(random.Int64N(int64(800 * time.Millisecond)))
		}); err != nil {
			return err
		}
		l.rounds++
		l.sent.Add(logEvents)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	rounds := big.NewInt(int64(l.rounds))
	for holder, score := range scores {
		l.ledger.Scores[holder] = score.Mul(score, rounds)
	}
	l.ledger.Totals[logPrefix] = rounds.Mul(rounds, big.NewInt(logScore)).String()
	return ctx.Err()
}

// importLog runs the command until it says that it has nothing new. It is killed when it has run for what life returns.
func (l *Load) importLog(ctx context.Context, name string, life func() time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, importTime)
	defer cancel()
	for n := 0; ; n++ {
		attempt, end := context.WithTimeout(ctx, life())
		server := l.Servers[(l.rounds+n)%len(l.Servers)]
		command := exec.CommandContext(attempt, l.Holdfast, "import", "--nats", server, "--name", name, l.Log)
		output, err := command.CombinedOutput()
		killed := attempt.Err() != nil && ctx.Err() == nil
		end()
		switch {
		case err == nil && bytes.Contains(output, []byte("nothing new")):
			return nil
		case killed:
			l.killed.Add(1)
		case ctx.Err() != nil:
			return fmt.Errorf("import %s: not done within %v; it said last: %s", name, importTime, output)
		case err != nil && n == 0: // no server, say; the next attempts may say the same
			l.Logf("import %s: %v: %s", name, err, strings.TrimSpace(string(output)))
		}
		if err != nil {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	}
}

// readLog returns what each holder of the log has in the end.
func (l *Load) readLog() (map[string]*big.Int, error) {
	data, err := os.ReadFile(l.Log)
	if err != nil {
		return nil, err
	}
	lines, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(lines) != logEvents+1 {
		return nil, fmt.Errorf("%s has %d lines, should have %d", l.Log, len(lines), logEvents+1)
	}
	scores := map[string]*big.Int{}
	for _, line := range lines[1:] {
		var numbers [3]int64 // start, end, weight
		for i, text := range line[2:5] {
			if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
				return nil, err
			}
		}
		w := events.Weight{Lo: uint64(numbers[2]) * 1_000_000_000}
		scores[line[1]] = add(scores[line[1]], w, events.Time(1000*(numbers[1]-numbers[0])))
	}
	return scores, nil
}
