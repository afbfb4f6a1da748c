package client

import "fmt"

// Overflow says what a send does when as many events wait as may.
type Overflow uint8

// What a send does when there is no room.
const (
	Block  Overflow = iota // it waits until there is room or its context ends; the default
	Refuse                 // it returns ErrOverflow at once
)

func (o Overflow) check() error {
	if o > Refuse {
		return fmt.Errorf("Overflow is %d: it must be Block or Refuse", o)
	}
	return nil
}
