package importer

import (
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// readNDJSON reads a line of NDJSON; the event's kind decides which log it is for. Blank lines say nothing.
func readNDJSON(text string, b *block) (int, *events.Refusal) {
	length := firstLine(text)
	line := strings.Trim(text[:length], " \t\r\n")
	switch {
	case tooLong(text[:length]):
		return length, errTooLong
	case line == "":
		return length, nil
	case line[0] != '{':
		return length, events.Refuse(events.Malformed, "", "not a JSON object: a line of NDJSON is one event, in braces")
	}
	hold, err := events.DecodeOpenHold([]byte(line), 0)
	if err == nil {
		return length, b.hold(hold)
	}
	refusal := refusalOf(err)
	if refusal.Reason != events.UnknownKind {
		return length, refusal
	}
	node, err := events.DecodeOpenPoH([]byte(line))
	if err == nil {
		err = poh.CheckSum(&node)
	}
	if err != nil {
		return length, refusalOf(err)
	}
	b.node(node)
	return length, nil
}
