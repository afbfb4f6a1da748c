package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/files"
)

// maxKeyFile bounds a file with a key in it, in bytes.
const maxKeyFile = 4 << 10

// readKeyFile returns the key that a file has: one line. A secret key that is given for the name of its file is not shown.
func readKeyFile(path string) (string, error) {
	if attest.HasSecret(path) {
		return "", errors.New("this is a secret key itself: give the name of a file that has the key")
	}
	b, err := files.Read(path, maxKeyFile)
	if errors.Is(err, files.ErrTooLarge) {
		err = fmt.Errorf("%w: it is no file of a key", err)
	}
	if err != nil {
		return "", err
	}
	key := strings.TrimSpace(string(b))
	if key == "" {
		return "", fmt.Errorf("%s is empty", path)
	}
	return key, nil
}

// logKey returns a public key that is given as it is, NAME+ID+KEY, or by the name of a file that has it.
func logKey(text string) (attest.Key, error) {
	key, err := attest.ParseKey(text)
	if err == nil {
		return key, nil
	}
	inFile, fileErr := readKeyFile(text)
	switch {
	case errors.Is(fileErr, os.ErrNotExist) && strings.Count(text, "+") >= 2:
		return attest.Key{}, err
	case errors.Is(fileErr, os.ErrNotExist):
		return attest.Key{}, fmt.Errorf("%q is neither a public key (NAME+ID+KEY) nor a file that has one", text)
	case fileErr != nil:
		return attest.Key{}, fileErr
	}
	if key, err = attest.ParseKey(inFile); err != nil {
		return attest.Key{}, fmt.Errorf("%s: %w", text, err)
	}
	return key, nil
}
