package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/files"
	"github.com/city-chain/holdfast/jetstream"
)

const (
	manifestName   = "manifest.json"
	manifestFormat = "holdfast archive"
	formatVersion  = 1
	maxManifest    = 1 << 20
)

// digest is a SHA-256.
type digest [sha256.Size]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

// manifest says what stream is archived.
type manifest struct {
	Format  string            `json:"format"`
	Version int               `json:"version"`
	Stream  string            `json:"stream"`
	Created int64             `json:"created"` // Unix nanoseconds
	Policy  map[string]string `json:"policy"`  // that is recorded with the stream
}

func newManifest(stream string, created time.Time, policy map[string]string) manifest {
	if policy == nil {
		policy = map[string]string{}
	}
	return manifest{Format: manifestFormat, Version: formatVersion, Stream: stream, Created: created.UnixNano(), Policy: policy}
}

func (m *manifest) encode() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		panic("archive: encode a manifest: " + err.Error()) // it is strings and numbers
	}
	return b.Bytes()
}

// parseManifest reads a manifest; it accepts only what encode would write.
func parseManifest(text []byte) (manifest, error) {
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%w: it is no manifest: %w", ErrDamaged, err)
	}
	switch {
	case m.Format != manifestFormat:
		return m, fmt.Errorf("%w: its format is %q, not %q", ErrDamaged, m.Format, manifestFormat)
	case m.Version != formatVersion:
		return m, fmt.Errorf("%w: its format has version %d, and this program reads version %d", ErrDamaged, m.Version, formatVersion)
	case jetstream.CheckStreamName(m.Stream) != nil:
		return m, fmt.Errorf("%w: %w", ErrDamaged, jetstream.CheckStreamName(m.Stream))
	case m.Policy == nil || !bytes.Equal(m.encode(), text):
		return m, fmt.Errorf("%w: the manifest was edited: it is not in the form in which it is written", ErrDamaged)
	}
	return m, nil
}

// volume is what an archive has of a stream.
type volume struct {
	dir      string
	manifest manifest
	digest   digest // of the manifest
	segments []segment
}

func (v *volume) created() time.Time { return time.Unix(0, v.manifest.Created).UTC() }

// lastSegment returns the last segment, nil if there is none.
func (v *volume) lastSegment() *segment {
	if len(v.segments) == 0 {
		return nil
	}
	return &v.segments[len(v.segments)-1]
}

// last returns the last sequence that is archived, 0 if none is.
func (v *volume) last() uint64 {
	if s := v.lastSegment(); s != nil {
		return s.last
	}
	return 0
}

// head returns the digest that vouches for everything.
func (v *volume) head() digest {
	if s := v.lastSegment(); s != nil {
		return s.digest
	}
	return v.digest
}

// openVolume reads what there is of a stream: its manifest, and the first and last bytes of each segment. It returns all that is wrong with
// the chain of them; with a problem of the manifest there is no volume.
func openVolume(dir, stream string) (*volume, []error) {
	path := filepath.Join(dir, manifestName)
	fail := func(err error) (*volume, []error) { return nil, []error{fmt.Errorf("%s: %w", path, err)} }
	text, err := files.Read(path, maxManifest)
	if errors.Is(err, files.ErrTooLarge) {
		return nil, []error{fmt.Errorf("%w: %w", ErrDamaged, err)}
	}
	if err != nil {
		return fail(err)
	}
	v := &volume{dir: dir, digest: sha256.Sum256(text)}
	if v.manifest, err = parseManifest(text); err != nil {
		return fail(err)
	}
	if v.manifest.Stream != stream {
		return fail(fmt.Errorf("%w: it is the manifest of %s, in the folder of %s", ErrForeign, v.manifest.Stream, stream))
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fail(err)
	}
	var problems []error
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), segmentSuffix) {
			continue // no part of the archive
		}
		s, err := readSegment(filepath.Join(dir, e.Name()))
		if err != nil {
			problems = append(problems, err)
			continue
		}
		v.segments = append(v.segments, s)
	}
	slices.SortStableFunc(v.segments, func(a, b segment) int { return strings.Compare(a.path, b.path) })
	return v, append(problems, v.checkChain()...)
}

// checkChain returns what is wrong with the order of the segments.
func (v *volume) checkChain() (problems []error) {
	last, head, before := uint64(0), v.digest, v.dir+string(filepath.Separator)+manifestName
	for i := range v.segments {
		s := &v.segments[i]
		switch {
		case s.stream != v.manifest.Stream || s.created != v.manifest.Created:
			problems = append(problems, fmt.Errorf("%s: %w: it is of the stream %s made at %s, the manifest of %s made at %s", s.path, ErrForeign,
				s.stream, stamp(time.Unix(0, s.created)), v.manifest.Stream, stamp(v.created())))
		case s.first > last+1:
			problems = append(problems, fmt.Errorf("%s: %w: the archive has no %s, which come between %s and %s; put the segment back", v.dir, ErrGap,
				sequences(last+1, s.first-1), filepath.Base(before), filepath.Base(s.path)))
		case s.first <= last:
			problems = append(problems, fmt.Errorf("%s: %w: it begins at sequence %d, and the segment before it, %s, ends at %d", s.path, ErrDamaged, s.first, filepath.Base(before), last))
		case s.previous != head && i == 0:
			problems = append(problems, fmt.Errorf("%s: %w: it was edited, since it is not the manifest that the first segment was written behind", before, ErrDamaged))
		case s.previous != head:
			problems = append(problems, fmt.Errorf("%s: %w: what is before it, %s, is not the segment that it was written behind: one of them was edited or swapped", s.path, ErrDamaged, filepath.Base(before)))
		}
		last, head, before = s.last, s.digest, s.path
	}
	return problems
}

// sameStream makes sure that a stream is the one that is archived.
func (v *volume) sameStream(created time.Time, policy map[string]string) error {
	m := &v.manifest
	if m.Created != created.UnixNano() {
		return fmt.Errorf("%w: the archive %s is of the stream %s made at %s; the present one was made at %s: it was deleted and made again, or is another server's, and needs an archive of its own: name another folder by --to",
			ErrForeign, v.dir, m.Stream, stamp(v.created()), stamp(created))
	}
	if !maps.Equal(m.Policy, policy) {
		return fmt.Errorf("%w: the archive %s was made when the policy %v was recorded with %s; now it is %v: put back the recorded one, or begin another archive", ErrForeign, v.dir, m.Policy, m.Stream, policy)
	}
	return nil
}

// missing tells whether a file's absence is what an error says.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
