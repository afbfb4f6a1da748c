package aggregate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/files"
)

// SignFlags are the flags of the signing of checkpoints, to be embedded in a command's flags.
type SignFlags struct {
	SigningKey string         `help:"File with the secret key that signs checkpoints, made by holdfast key generate; empty = nothing is signed." placeholder:"FILE"`
	SignEvery  *time.Duration `help:"How long at least after one signed checkpoint of a partition comes the next (default: 1m). With --signing-key." placeholder:"DURATION"`
}

// Validate is called when the flags are parsed.
func (f SignFlags) Validate() error {
	switch {
	case f.SignEvery == nil:
		return nil
	case *f.SignEvery <= 0:
		return fmt.Errorf("--sign-every=%s: it is more than 0", *f.SignEvery)
	case f.SigningKey == "":
		return fmt.Errorf("--sign-every=%s: nothing is signed without --signing-key", *f.SignEvery)
	}
	return nil
}

// Every returns how long after one signed checkpoint comes the next; 0 if it is not given, which is the standard's 1 min.
func (f SignFlags) Every() time.Duration {
	if f.SignEvery == nil {
		return 0
	}
	return *f.SignEvery
}

// maxKeyFile bounds a file with a key in it, in bytes.
const maxKeyFile = 4 << 10

// Signer reads the key. It is nil if none is given.
func (f SignFlags) Signer() (*attest.Signer, error) {
	if f.SigningKey == "" {
		return nil, nil
	}
	if attest.HasSecret(f.SigningKey) {
		return nil, errors.New("--signing-key: this is a secret key itself: give the name of the file that has it")
	}
	b, err := files.Read(f.SigningKey, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--signing-key: %w", err)
	}
	s, err := attest.NewSigner(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("--signing-key=%s: %w", f.SigningKey, err)
	}
	return s, nil
}
