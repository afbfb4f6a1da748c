package client

import "errors"

var (
	// ErrClosed is the error of a send that came after the client or publisher was told to stop. Nothing of the list was
	// taken, so it may be sent elsewhere.
	ErrClosed = errors.New("closed: it takes no events any more")

	// ErrOverflow is the error of a send that found no room, under [Refuse]. Nothing of the list was taken.
	ErrOverflow = errors.New("no room: too many events wait for the stream; send more slowly, or raise MaxPending or SpoolBytes")

	// ErrUnacknowledged is the error of events that were taken and given up when the client or publisher stopped. Some may be
	// stored. They may be sent again under the same numbers, and only so without counting twice.
	ErrUnacknowledged = errors.New("given up before the stream acknowledged it: it may be stored or not")

	// ErrSpooled is the error of a [Receipt] whose events were not acknowledged before the client was closed and lie in its spool: the next
	// client of the folder sends them, once in effect. Do not send them again.
	ErrSpooled = errors.New("not acknowledged yet: it is kept in the spool, and the next client of this folder sends it")

	// ErrNameTaken says that another living process has the producer's name. What was taken stays queued or spooled, and is sent when the
	// name is free.
	ErrNameTaken = errors.New("the producer's name is taken")

	// ErrClaimLost says that a claimed name has expired or belongs to someone else.
	ErrClaimLost = errors.New("the claim of the producer's name is lost")

	// ErrDamaged says that a file that the client keeps is not as it was written. Nothing is guessed: see the message for what to do.
	ErrDamaged = errors.New("damaged")
)
