package proof

import (
	"fmt"
	"time"
)

// Proves returns, in sentences, what the file proves.
func (v *Verified) Proves() []string {
	st := v.Statement
	list := []string{fmt.Sprintf("%s has signed that the state of %q is this one, once all of its partition (%d of %s) was folded up to sequence %d, with the stream's clock at %s.",
		st.Name, v.Member.id, st.Partition, st.Stream, st.Sequence, st.Clock)}
	for _, w := range v.Witnesses {
		list = append(list, fmt.Sprintf("The witness %s has signed, at %s, that it had seen this checkpoint and that it fits all that it had seen before.", w.Name, w.At.UTC().Format(time.RFC3339)))
	}
	if v.Events == nil {
		return list
	}
	messages := "1 message"
	if st.Size != 1 {
		messages = fmt.Sprintf("%d messages", st.Size)
	}
	list = append(list, fmt.Sprintf("Every event that the file has (%d) is in the log that %s has signed (%s), where the file says, as it was stored.", len(v.Events), st.Name, messages))
	if v.Follows {
		list = append(list, fmt.Sprintf("Folded one after the other under the signed policy, these events alone come to exactly this state of %q.", v.Member.id))
	}
	return list
}

// DoesNotProve returns, in sentences, what the file leaves open.
func (v *Verified) DoesNotProve() []string {
	var list []string
	switch {
	case v.Events == nil:
		list = append(list, "That the state follows from events: the file has none (holdfast prove --events).")
	case !v.Follows:
		list = append(list, "That the state follows from these events: by themselves they come to another one. With a window, or where refusals depend on other holders of the slot, that need not mean anything (holdfast audit tells).")
	}
	if v.Events != nil {
		list = append(list, fmt.Sprintf("That these are all events of %q (holdfast audit tells).", v.Member.id))
	}
	if len(v.Witnesses) == 0 {
		list = append(list, "That nobody was shown another history: no witness was demanded (--witness).")
	} else {
		list = append(list, "That nobody was shown another history, if the witness and the operator are in league.")
	}
	return append(list,
		fmt.Sprintf("Who holds the key of %s, and that what producers have reported is true.", v.Statement.Name),
		fmt.Sprintf("Anything of what happened after sequence %d.", v.Statement.Sequence))
}
