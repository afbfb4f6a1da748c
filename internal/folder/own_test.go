package folder

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A folder is one's own by its mark, whatever else is there, or by having nothing of anybody else.
func TestCheckOwn(t *testing.T) {
	own := func(e fs.DirEntry) bool { return e.Name() == "lock" && !e.IsDir() }
	for _, test := range []struct {
		has  []string // folders end in /
		want string   // empty: it is taken
	}{
		{nil, ""},
		{[]string{"lock", "lost+found/"}, ""},
		{[]string{"notes", "in/", "in/mark"}, ""},
		{[]string{"mark", "notes"}, ""},
		{[]string{"in/"}, `is no nest: it has no mark, and it has "in": name an empty folder, or one that is not there yet`},
		{[]string{"lock", "notes", "other"}, `it has "notes"`},
		{[]string{"lock/"}, `it has "lock"`},
	} {
		dir := t.TempDir()
		for _, name := range test.has {
			path, err := filepath.Join(dir, name), error(nil)
			if strings.HasSuffix(name, "/") {
				err = os.Mkdir(path, 0o700)
			} else {
				err = os.WriteFile(path, nil, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		err := CheckOwn(dir, []string{"mark", "in/mark"}, own, "is no nest: it has no mark")
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %q", test.has, err, test.want)
		}
	}
	if err := CheckOwn(filepath.Join(t.TempDir(), "missing"), nil, own, ""); err == nil {
		t.Error("a folder that is not there: taken")
	}
}
