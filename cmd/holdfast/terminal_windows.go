package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// takesEscapes tells whether a console acts on escape sequences, having asked it to.
func takesEscapes(f *os.File) bool {
	var mode uint32
	console := windows.Handle(f.Fd())
	return windows.GetConsoleMode(console, &mode) == nil &&
		windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}

// resizes returns nothing: a new size is noticed when the next frame is drawn.
func resizes() (changed <-chan os.Signal, stop func()) { return nil, func() {} }
