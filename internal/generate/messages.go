package generate

import (
	"strconv"

	"github.com/city-chain/holdfast/pkg/events"
)

// Message is one that must be refused as a whole, and why. It carries one event at most.
type Message struct {
	Subject string
	Reason  events.Reason
	Data    string
}

// Messages are messages that no event can be read of, or one that must be refused. They are of nobody's that a generator makes.
var Messages = []Message{
	{"hold.mallory", events.Malformed, `{"token_id":"gold"`},
	{"hold.p.3", events.Malformed, "\x96\x01\x01\xa0\x00\x00"},
	{"hold.p.3", events.Malformed, "neither"},
	{"poh.p.15", events.Malformed, "\x96\x01\x01\xa0\x00\x00\x91\x93\x06\xa1n\x01"}, // an envelope of the other log
	{"hold.p.0", events.UnknownVersion, "\x96\x02\x01\xa0\x00\x00\x90"},
	{"hold.mallory", events.UnknownVersion, `{"v":2,"token_id":"gold","holder_id":"mallory","start":1,"weight":1}`},
	{"hold.mallory", events.UnknownKind, `{"kind":"steal","token_id":"gold","holder_id":"mallory","start":1,"weight":1}`},
	{"hold.mallory", events.UnknownField, `{"token_id":"gold","holder_id":"mallory","start":1,"weight":1,"amount":1}`},
	{"hold.mallory", events.MissingField, `{"holder_id":"mallory","start":1,"weight":1}`},
	{"hold.mallory", events.InvalidTime, `{"token_id":"gold","holder_id":"mallory","start":"yesterday","weight":1}`},
	{"hold.mallory", events.InvalidWeight, `{"token_id":"gold","holder_id":"mallory","start":1,"weight":0.1234567891}`},
	{"hold.mallory", events.InvalidWeight, `{"token_id":"gold","holder_id":"mallory","start":1,"weight":-1}`},
	{"hold.mallory", events.EndBeforeStart, `{"token_id":"gold","holder_id":"mallory","start":2,"end":1,"weight":1}`},
	{"hold.mallory", events.Misrouted, `{"token_id":"gold","holder_id":"` + misrouted + `","start":2,"weight":1}`},
	{"poh.n", events.InvalidValue, `{"kind":"gc","node":"n","type":"medium"}`},
	{"poh.n", events.MissingField, `{"kind":"peers","node":"n"}`},
	{"poh.n", events.UnknownKind, `{"kind":"hold","token_id":"gold","holder_id":"mallory","start":1,"weight":1}`},
}

// misrouted is a holder of another partition than mallory.
var misrouted = func() string {
	for i := 0; ; i++ {
		if id := strconv.Itoa(i); events.PlaceOf(id).Partition != events.PlaceOf("mallory").Partition {
			return id
		}
	}
}()

// badLines are lines of a file of NDJSON that are refused wherever the file is read.
var badLines = []Message{
	{Reason: events.Malformed, Data: `{"token_id":"gold"`},
	{Reason: events.Malformed, Data: `neither`},
	{Reason: events.UnknownVersion, Data: `{"v":2,"token_id":"gold","holder_id":"mallory","start":1,"weight":1}`},
	{Reason: events.UnknownKind, Data: `{"kind":"steal","token_id":"gold","holder_id":"mallory","start":1,"weight":1}`},
	{Reason: events.UnknownField, Data: `{"token_id":"gold","holder_id":"mallory","start":1,"weight":1,"amount":1}`},
	{Reason: events.EndBeforeStart, Data: `{"token_id":"gold","holder_id":"mallory","start":2,"end":1,"weight":1}`},
	{Reason: events.InvalidWeight, Data: `{"token_id":"gold","holder_id":"mallory","start":1,"weight":"0.1234567891"}`},
	{Reason: events.InvalidValue, Data: `{"kind":"gc","node":"n","type":"medium"}`},
}

// badRecords are the same for a file of CSV.
var badRecords = []Message{
	{Reason: events.Malformed, Data: `gold,mallory,1`},
	{Reason: events.EndBeforeStart, Data: `gold,mallory,2,1,1`},
	{Reason: events.InvalidTime, Data: `gold,mallory,yesterday,,1`},
	{Reason: events.InvalidWeight, Data: `gold,mallory,1,2,-1`},
	{Reason: events.MissingField, Data: `gold,mallory,1,2,`},
}

// spoilLine makes a line that is no event.
func (g *Generator) spoilLine() {
	list := badLines
	if g.Plain {
		list = badRecords
	}
	m := pick(g.random, list)
	g.event.Line = m.Data
	g.refused(m.Reason)
}
