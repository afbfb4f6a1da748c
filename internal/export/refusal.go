package export

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// refusal is why a question has no answer, whoever serves it, with the status that HTTP has for that.
type refusal struct {
	status int
	problem
}

func refuse(status int, field, format string, values ...any) *refusal {
	return &refusal{status, problem{Field: field, Reason: fmt.Sprintf(format, values...)}}
}

// checkID says what is wrong with what can be no holder's id, as no producer could have sent it; "": nothing.
func checkID(id string) string {
	if refusal, ok := errors.AsType[*events.Refusal](events.CheckID("holder_id", id)); ok {
		return refusal.Detail
	}
	return ""
}

// refusalOf says what is wrong with a question that failed, where ids are written in that way.
func refusalOf(err error, q query, idsAreWritten string) *refusal {
	if forgotten, ok := errors.AsType[*score.ForgottenError](err); ok {
		since := instant(forgotten.Since)
		p := problem{Field: "at", Reason: err.Error(), KnownSince: &since}
		if q.page.after != nil {
			p.Field, p.Reason = "page_token", p.Reason+"; or "+beginAgain
		}
		return &refusal{http.StatusBadRequest, p}
	}
	switch {
	case errors.Is(err, ErrNotLoaded):
		return refuse(http.StatusServiceUnavailable, "", "%v; /readyz says what is missing", err)
	case errors.Is(err, ErrNoHolder):
		return refuse(http.StatusNotFound, "holder_id", "%v; ids are matched exactly, and written %s; what was published a moment ago may not be folded yet", err, idsAreWritten)
	}
	panic("export: a question failed in a way that has no answer: " + err.Error())
}
