package export

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// page is where a ranking that is read by pages goes on.
type page struct {
	asked events.Time   // the instant that the first page was asked for with, or Now
	at    events.Time   // the instant of the ranking
	after *score.Ranked // the last holder of the page before: its id and score; nil for the first page
}

// A token is a page as a client gets it and gives it back, in base64: a byte for the form, the instant asked for and
// that of the ranking, the score, the id, and a checksum of all that. The checksum tells a token that was cut off or
// made up from a good one. It is no signature, since a token permits nothing that a query does not.
const (
	pageForm    = 1
	pageAsked   = 1
	pageAt      = pageAsked + 8
	pageScore   = pageAt + 8
	pageID      = pageScore + 32
	pageSum     = 4 // bytes of the checksum
	maxTokenLen = (pageID + events.MaxID + pageSum + 2) / 3 * 4
)

var (
	errNoToken    = errors.New("it is not a token that a page came with: give the last page's next_page_token as it was")
	errOtherQuery = errors.New("it belongs to another query")
)

// beginAgain is what to do when the instant of a ranking that is read by pages is no longer known.
const beginAgain = "begin again with the first page: asked for at an instant some seconds ahead, a ranking can be read on until then"

// token returns the page as a token.
func (p *page) token() string {
	b := make([]byte, 0, pageID+len(p.after.ID)+pageSum)
	b = append(b, pageForm)
	b = binary.BigEndian.AppendUint64(b, uint64(p.asked))
	b = binary.BigEndian.AppendUint64(b, uint64(p.at))
	sum := p.after.Score.Bytes()
	b = append(b, sum[:]...)
	b = append(b, p.after.ID...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return base64.RawURLEncoding.EncodeToString(b)
}

// parsePage reads a token that is given with a query for an instant, or Now. The error says what is wrong with it.
func parsePage(token string, asked events.Time) (page, error) {
	if len(token) > maxTokenLen {
		return page{}, errNoToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= pageID+pageSum || b[0] != pageForm {
		return page{}, errNoToken
	}
	b, sum := b[:len(b)-pageSum], b[len(b)-pageSum:]
	if binary.BigEndian.Uint32(sum) != crc32.ChecksumIEEE(b) {
		return page{}, errNoToken
	}
	p := page{
		asked: events.Time(binary.BigEndian.Uint64(b[pageAsked:])),
		at:    events.Time(binary.BigEndian.Uint64(b[pageAt:])),
		after: &score.Ranked{ID: string(b[pageID:])},
	}
	p.after.Score = score.SumFromBytes([32]byte(b[pageScore:pageID]))
	switch {
	case p.at < 0 || p.at > events.MaxTime || p.asked != Now && p.asked != p.at:
		return page{}, errNoToken
	case p.asked != asked && p.asked == Now:
		return page{}, fmt.Errorf("%w: that gave no at", errOtherQuery)
	case p.asked != asked:
		return page{}, fmt.Errorf("%w: that gave %s as at", errOtherQuery, p.asked)
	}
	return p, nil
}
