package aggregate

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
)

// SignFlags are the flags of the signing of checkpoints, to be embedded in a command's flags.
type SignFlags struct {
	SigningKey string        `help:"File with the secret key that signs checkpoints, made by holdfast key generate; empty = nothing is signed." placeholder:"FILE"`
	SignEvery  time.Duration `help:"How long at least after one signed checkpoint of a partition comes the next." default:"1m"`
}

// Validate is called when the flags are parsed.
func (f SignFlags) Validate() error {
	if f.SignEvery <= 0 {
		return fmt.Errorf("--sign-every=%s: it is more than 0", f.SignEvery)
	}
	return nil
}

// Signer reads the key. It is nil if none is given.
func (f SignFlags) Signer() (*attest.Signer, error) {
	if f.SigningKey == "" {
		return nil, nil
	}
	b, err := os.ReadFile(f.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("--signing-key: %w", err)
	}
	s, err := attest.NewSigner(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("--signing-key=%s: %w", f.SigningKey, err)
	}
	return s, nil
}
