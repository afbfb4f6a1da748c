package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/wire"
)

// A segment of the spool is frames. A frame is what was written and synced at once, so of a crash only the last frame can be torn, and nobody
// was promised anything about it:
//
//	frame  = magic, number (8 bytes), length of the records (4), CRC of the records (4), CRC of these 20 bytes (4), records
//	record = length of the entry (4), CRC of the entry (4), entry
//	entry  = [log, partition, epoch, events, traceparent, envelope]   in canonical MessagePack
//
// Integers before the entry are little-endian, CRCs are CRC-32C. The numbers of a segment's frames rise.
const (
	frameMagic   = "HFs1"
	frameHeader  = len(frameMagic) + 8 + 4 + 4 + 4
	recordHeader = 4 + 4

	// maxEntry is the largest entry: an envelope and what is said of it.
	maxEntry = jetstream.MaxMessage + 1024

	// maxFrame bounds what is written at once.
	maxFrame = 8 << 20
)

// The logs in an entry.
const (
	spoolHolds = 1
	spoolPoH   = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// entry is an envelope as the spool keeps it.
type entry struct {
	log         int // spoolHolds or spoolPoH
	partition   int
	epoch       uint64
	events      int
	traceparent string // at most 255 bytes; "" = none
	envelope    []byte
}

const entryFields = 6

func (e *entry) append(b []byte) []byte {
	b = wire.AppendArray(b, entryFields)
	b = wire.AppendUint(b, uint64(e.log))
	b = wire.AppendUint(b, uint64(e.partition))
	b = wire.AppendUint(b, e.epoch)
	b = wire.AppendUint(b, uint64(e.events))
	b = wire.AppendString(b, e.traceparent)
	return wire.AppendBytes(b, e.envelope)
}

// readEntry decodes what append writes, and nothing else.
func readEntry(data []byte) (entry, error) {
	r := wire.NewReader(string(data))
	if n := r.Array(); n != entryFields {
		r.Fail("a record of %d fields; it has %d", n, entryFields)
	}
	e := entry{
		log:       int(r.UintMax(spoolPoH)),
		partition: int(r.UintMax(jetstream.Partitions - 1)),
		epoch:     r.Uint(),
		events:    int(r.UintMax(math.MaxInt32)),
	}
	e.traceparent = r.String()
	e.envelope = []byte(r.Bytes())
	switch {
	case e.log == 0 || e.events == 0 || len(e.envelope) == 0:
		r.Fail("a record of log %d, %d events and %d bytes", e.log, e.events, len(e.envelope))
	case len(e.traceparent) > math.MaxUint8:
		r.Fail("a traceparent of %d bytes", len(e.traceparent))
	}
	if err := r.Close(); err != nil {
		return entry{}, err
	}
	return e, nil
}

// appendRecord appends an entry with its length and CRC.
func appendRecord(b, entry []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entry)))
	b = binary.LittleEndian.AppendUint32(b, checksum(entry))
	return append(b, entry...)
}

// sealFrame writes the header of a frame, for which b has left room in front of the records.
func sealFrame(b []byte, number uint64) {
	copy(b, frameMagic)
	binary.LittleEndian.PutUint64(b[4:], number)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(b)-frameHeader))
	binary.LittleEndian.PutUint32(b[16:], checksum(b[frameHeader:]))
	binary.LittleEndian.PutUint32(b[20:], checksum(b[:20]))
}

// frameAt reads a frame's header at the front of b.
func frameAt(b []byte) (number uint64, length int, sum uint32, ok bool) {
	if len(b) < frameHeader || string(b[:len(frameMagic)]) != frameMagic || binary.LittleEndian.Uint32(b[20:]) != checksum(b[:20]) {
		return 0, 0, 0, false
	}
	return binary.LittleEndian.Uint64(b[4:]), int(binary.LittleEndian.Uint32(b[12:])), binary.LittleEndian.Uint32(b[16:]), true
}

// place is where an entry lies in its segment.
type place struct {
	offset int64 // of the entry
	length int
	entry  entry // without the envelope
}

// scanFrames calls each for the records of a file, with the offset behind their headers, and returns how far the file is whole. What lies behind
// that is a frame that was torn by a crash: nothing that was written later follows. If something does, or if a whole frame says what it
// cannot, the error says at which byte.
func scanFrames(data []byte, each func(offset int, body []byte) error) (whole int, err error) {
	last := uint64(0)
	for whole < len(data) {
		number, length, sum, ok := frameAt(data[whole:])
		end := whole + frameHeader + length
		if !ok || end > len(data) || checksum(data[whole+frameHeader:end]) != sum {
			if at := nextFrame(data, whole+1); at >= 0 {
				return whole, fmt.Errorf("what was written at byte %d is not there as it was, though the file goes on at byte %d", whole, at)
			}
			return whole, nil
		}
		if number <= last {
			return whole, fmt.Errorf("frame %d at byte %d follows frame %d", number, whole, last)
		}
		for at := whole + frameHeader; at < end; {
			body, err := recordAt(data[at:end])
			if err == nil {
				err = each(at+recordHeader, body)
			}
			if err != nil {
				return whole, fmt.Errorf("the record at byte %d: %w", at, err)
			}
			at += recordHeader + len(body)
		}
		last, whole = number, end
	}
	return whole, nil
}

// scanSegment returns the entries of a segment, and how far it is whole, as scanFrames does.
func scanSegment(data []byte) (places []place, whole int, err error) {
	whole, err = scanFrames(data, func(offset int, body []byte) error {
		e, err := readEntry(body)
		e.envelope = nil
		places = append(places, place{offset: int64(offset), length: len(body), entry: e})
		return err
	})
	return places, whole, err
}

// nextFrame returns where the next header of a frame is, or -1.
func nextFrame(data []byte, from int) int {
	for ; from+frameHeader <= len(data); from++ {
		if data[from] != frameMagic[0] {
			continue
		}
		if _, _, _, ok := frameAt(data[from:]); ok {
			return from
		}
	}
	return -1
}

var errBadRecord = errors.New("its length or checksum is wrong")

// recordAt returns the body of the record at the front of b.
func recordAt(b []byte) ([]byte, error) {
	if len(b) < recordHeader {
		return nil, errBadRecord
	}
	length := int(binary.LittleEndian.Uint32(b))
	if length > maxEntry || length > len(b)-recordHeader {
		return nil, errBadRecord
	}
	body := b[recordHeader : recordHeader+length]
	if binary.LittleEndian.Uint32(b[4:]) != checksum(body) {
		return nil, errBadRecord
	}
	return body, nil
}

// entryAt reads the entry in the record at the front of b.
func entryAt(b []byte) (entry, error) {
	body, err := recordAt(b)
	if err != nil {
		return entry{}, err
	}
	return readEntry(body)
}
