package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// kept is what a producer keeps over a restart: a line of JSON, and a line with its CRC-32C.
//
// Numbers count only if the last user of the epoch ended with everything acknowledged, which it then said by clean. Whoever goes on takes that
// back, durably, before anything is sent: then a crash leaves numbers that are known not to be known, and the next one takes a new epoch.
type kept struct {
	Version int     `json:"version"`
	Name    string  `json:"name"`
	Claim   string  `json:"claim"` // by which a claim of the name is known to be of this folder
	Epoch   uint64  `json:"epoch"`
	Clean   bool    `json:"clean"`
	Holds   Numbers `json:"holds"` // of the next events
	PoH     Numbers `json:"poh"`
}

const keptVersion = 1

func (k *kept) encode() ([]byte, error) {
	k.Version = keptVersion
	text, err := json.Marshal(k)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(text, "\ncrc32c %08x\n", checksum(text)), nil
}

// decodeKept reads what encode writes, and nothing else.
func decodeKept(data []byte) (kept, error) {
	text, _, _ := bytes.Cut(data, []byte("\n"))
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return kept{}, fmt.Errorf("%w: it is not what was written: %w", ErrDamaged, err)
	}
	if k.Version != keptVersion {
		return kept{}, fmt.Errorf("version %d of the kept numbers; this program reads version %d", k.Version, keptVersion)
	}
	again, err := k.encode()
	if err != nil {
		return kept{}, err
	}
	if !bytes.Equal(again, data) {
		return kept{}, fmt.Errorf("%w: its checksum or form is not what was written", ErrDamaged)
	}
	return k, nil
}

// begin returns what is kept while its epoch is in use: the numbers go on if they are known; else the epoch is a new one, at least least.
func (k kept) begin(known bool, least uint64) kept {
	if !known || !k.Clean || k.Epoch == 0 {
		k.Epoch = max(k.Epoch+1, least)
		k.Holds, k.PoH = Numbers{}, Numbers{}
	}
	k.Clean = false
	return k
}

// epochNow is an epoch that is above those of earlier days, whatever has become of the folder that they were kept in: Unix milliseconds. See
// docs/decisions/0020-kept-numbers-and-the-spool.md.
func epochNow() uint64 { return uint64(max(time.Now().UnixMilli(), 1)) }
