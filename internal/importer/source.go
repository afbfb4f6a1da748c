package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/city-chain/holdfast/pkg/events"
)

// refusedSuffix is appended to a file's name to get that of its refused lines.
const refusedSuffix = ".refused"

// trimRefused returns the name of the file that a file of refused lines comes from.
func trimRefused(file string) string {
	for strings.HasSuffix(file, refusedSuffix) {
		file = strings.TrimSuffix(file, refusedSuffix)
	}
	return file
}

// source is what is imported.
type source struct {
	file    string // as it was given
	name    string // the name it was given; "" if it makes its own
	regular bool   // a regular file; anything else is a stream without a name or size
	size    int64
	open    *os.File // the regular file
	reader  io.Reader
}

// format returns the format that is asked for, or the one that the source seems to have.
func (s source) format(asked Format, beginning []byte) Format {
	if asked != "" {
		return asked
	}
	return formatOf(s.file, beginning)
}

// total returns what tells the source's size, 0 if it has none.
func (s source) total(grows bool) func() int64 {
	return func() int64 {
		if grows && s.open != nil {
			if info, err := s.open.Stat(); err == nil {
				return info.Size()
			}
		}
		return s.size
	}
}

// refusedPath returns the path of the file of refused lines.
func (s source) refusedPath(name, streamDir string) string {
	if s.regular {
		return s.file + refusedSuffix
	}
	return filepath.Join(streamDir, name+refusedSuffix)
}

// explain adds to an ErrChanged how the file came to be taken for one that was read before, and what to do.
func (s source) explain(err error, name, streamDir string) error {
	from := ""
	if s.name == "" && s.regular {
		from = " (the file's base name)"
	}
	return fmt.Errorf("%w: the import is known by the name %q%s: a different file is imported under a new name (--name), by which all of it counts anew; "+
		"in this one put back what was there: lines that were refused are to be mended in %s, not in the file itself", err, name, from, s.refusedPath(name, streamDir))
}

// explainReplaced adds to an ErrReplaced what to do.
func (s source) explainReplaced(err error, name string, format Format) error {
	balances := ""
	if format == Deltas {
		balances = "; but a file of deltas must stay whole, since its balances go on from the rows before"
	}
	return fmt.Errorf("%w: all whole lines that were there are imported; what a file that was moved has more is imported under its name (--name %q), and a new file under a name of its own%s",
		err, name, balances)
}

// named returns what the import is known by, "" if there is nothing to import.
func (s source) named(r *reader, format Format) (string, error) {
	name := s.name
	switch {
	case name != "":
	case s.regular:
		// The base name: a file that was moved stays the same import, and of two of one name the second is refused for
		// not beginning like the first. In normal form C, which macOS does not keep.
		name = norm.NFC.String(filepath.Base(s.file))
	default:
		first, err := firstEvent(format, string(r.peek()))
		if err != nil || first == "" {
			return "", err
		}
		digest := sha256.Sum256([]byte(first))
		name = "stdin-" + hex.EncodeToString(digest[:6])
	}
	if !s.regular && (!filepath.IsLocal(name) || strings.ContainsAny(name, `/\:`)) {
		return "", fmt.Errorf("%w: %s: a stream's broken lines are kept in a file of its name: choose one without / \\ : that is not reserved", ErrName, quote(name))
	}
	return name, checkName(name)
}

// firstEvent returns the first line of a stream that is neither header nor blank: the stream is named by it, so that
// one that is given again, or has grown, is known again. It is "" if there is none, and an error if there could not be.
func firstEvent(format Format, text string) (string, error) {
	if text == "" {
		return "", nil
	}
	text = strings.TrimPrefix(text, byteOrderMark)
	header, err := format.skipHeader(text)
	if err != nil {
		return "", err
	}
	text = strings.TrimLeft(text[header:], "\r\n")
	return strings.TrimRight(text[:firstLine(text)], "\r\n"), nil
}

// checkName refuses what cannot be a producer's name.
func checkName(name string) error {
	if err := (events.Origin{Producer: producerPrefix + name, First: 1}).Validate(); err != nil {
		return fmt.Errorf("%w: %s: an import's name has 1 to %d bytes of UTF-8 in normal form C: give it another", ErrName, quote(name), events.MaxID-len(producerPrefix))
	}
	return nil
}
