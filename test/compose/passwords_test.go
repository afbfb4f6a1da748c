package compose

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Whoever makes passwords by the command in docker-compose.yml has one of their own for every user.
func TestPasswordsOfAllUsers(t *testing.T) {
	b, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, m := range regexp.MustCompile(`\$\{([A-Z]+)_PASSWORD:-`).FindAllStringSubmatch(string(b), -1) {
		used = append(used, m[1])
	}
	slices.Sort(used)
	made := regexp.MustCompile(`for user in ([A-Z ]+); do`).FindStringSubmatch(string(b))
	if made == nil {
		t.Fatal("there is no command that makes passwords")
	}
	if diff := cmp.Diff(slices.Compact(used), slices.Sorted(slices.Values(strings.Fields(made[1])))); diff != "" {
		t.Errorf("users with passwords (-used +made):\n%s", diff)
	}
}
