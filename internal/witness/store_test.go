package witness

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
)

// filesOf are the files of partition 3 of HOLDS in the order in which they are stored.
var filesOf = []string{"HOLDS.3.record", "HOLDS.3.tree", "HOLDS.3.checkpoint", identityName}

// Wherever a crash comes while something is stored, the next run goes on from there, and comes to the same.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 3)
	first := w.sign(jetstream.Holds, 3)
	before, after := t.TempDir(), t.TempDir()
	dirs := map[string]string{"nothing": t.TempDir()}
	w.cosigned(1)
	w.must(os.CopyFS(before, os.DirFS(w.dir)))
	dirs["one checkpoint"] = before
	w.add(jetstream.Holds, 3, 2)
	second := w.sign(jetstream.Holds, 3)
	w.cosigned(1)
	w.must(os.CopyFS(after, os.DirFS(w.dir)))
	w.add(jetstream.Holds, 3, 2)
	third := w.sign(jetstream.Holds, 3)
	for name, before := range dirs {
		for done := range len(filesOf) + 1 {
			for _, torn := range []bool{false, true} {
				w.dir = t.TempDir()
				w.must(os.CopyFS(w.dir, os.DirFS(before)))
				for _, file := range filesOf[:done] {
					b, err := os.ReadFile(filepath.Join(after, file))
					w.must(err)
					w.must(os.WriteFile(filepath.Join(w.dir, file), b, fileMode))
				}
				if done < len(filesOf) {
					b, err := os.ReadFile(filepath.Join(after, filesOf[done]))
					w.must(err)
					to := filesOf[done] + freshSuffix // half of it
					if done == 0 && torn {
						to = filesOf[done]
						kept, _ := os.ReadFile(filepath.Join(w.dir, to))
						b = b[:len(kept)+100]
					}
					w.must(os.WriteFile(filepath.Join(w.dir, to), b[:len(b)-1], fileMode))
				}
				if s, err := w.once(); err != nil || len(s.Refused) > 0 {
					t.Fatalf("%s, %d files stored, torn %v: %+v, %v", name, done, torn, s, err)
				}
				if diff := cmp.Diff(third, w.kept(jetstream.Holds, 3)); diff != "" {
					t.Errorf("%s, %d files stored: kept (-want +got):\n%s", name, done, diff)
				}
				x := &store{dir: w.dir, key: w.key, witness: witnessKey(w)}
				list, err := x.recorded(&partition{stream: "HOLDS", number: 3})
				w.must(err)
				if diff := cmp.Diff([]*attest.Statement{first, second, third}, list); diff != "" {
					t.Errorf("%s, %d files stored: recorded (-want +got):\n%s", name, done, diff)
				}
			}
		}
	}
}

func witnessKey(w *world) attest.WitnessKey {
	w.Helper()
	k, err := attest.ParseWitnessKey(w.cosigner.Public())
	w.must(err)
	return k
}

// What was edited or removed in the folder is told, or derived again and held against what was cosigned.
func TestDamage(t *testing.T) {
	w := newWorld(t)
	w.add(jetstream.Holds, 3, 3)
	w.sign(jetstream.Holds, 3)
	w.add(jetstream.Holds, 3, 2)
	last := w.sign(jetstream.Holds, 3)
	w.cosigned(2)
	whole := w.dir
	edit := func(name, from, to string) func() {
		return func() {
			b, err := os.ReadFile(filepath.Join(w.dir, name))
			w.must(err)
			if !strings.Contains(string(b), from) {
				t.Fatalf("%s has no %q", name, from)
			}
			at := strings.LastIndex(string(b), from)
			w.must(os.WriteFile(filepath.Join(w.dir, name), []byte(string(b[:at])+to+string(b[at+len(from):])), fileMode))
		}
	}
	remove := func(names ...string) func() {
		return func() {
			for _, name := range names {
				w.must(os.Remove(filepath.Join(w.dir, name)))
			}
		}
	}
	other := func() {
		log := merkle.Log{}
		for i := range 5 {
			log.Append(merkle.Leaf([]byte{byte(i)}))
		}
		w.must(os.WriteFile(filepath.Join(w.dir, "HOLDS.3.tree"), snapshotOf("", &log).tree, fileMode))
	}
	small := func() {
		log := merkle.Log{}
		log.Append(merkle.Leaf(nil))
		w.must(os.WriteFile(filepath.Join(w.dir, "HOLDS.3.tree"), snapshotOf("", &log).tree, fileMode))
	}
	for name, test := range map[string]struct {
		do   func()
		want string // empty: it is mended
	}{
		"the checkpoint edited":          {edit("HOLDS.3.checkpoint", "clock 1", "clock 2"), "HOLDS.3.checkpoint: "},
		"its cosignature edited":         {edit("HOLDS.3.checkpoint", "witness.example.org ", "witness.example.com "), "HOLDS.3.checkpoint: "},
		"the record's last line edited":  {edit("HOLDS.3.record", `\nclock 1`, `\nclock 2`), "HOLDS.3.record: "},
		"the record's last line spoiled": {edit("HOLDS.3.record", "}", ""), "the last line of HOLDS.3.record"},
		"the record shortened": {func() {
			b, _ := os.ReadFile(filepath.Join(w.dir, "HOLDS.3.record"))
			w.must(os.WriteFile(filepath.Join(w.dir, "HOLDS.3.record"), b[:strings.Index(string(b), "\n")+1], fileMode))
		}, "lines are gone from its end"},
		"the record gone": {remove("HOLDS.3.record"), "HOLDS.3.record is gone"},
		"a record of another partition": {func() {
			w.must(os.Rename(filepath.Join(w.dir, "HOLDS.3.record"), filepath.Join(w.dir, "HOLDS.4.record")))
			remove("HOLDS.3.checkpoint", "HOLDS.3.tree")()
		}, "the checkpoint is of partition 3 of HOLDS"},
		"the checkpoint of another partition": {func() {
			b, err := os.ReadFile(filepath.Join(w.dir, "HOLDS.3.checkpoint"))
			w.must(err)
			w.must(os.WriteFile(filepath.Join(w.dir, "HOLDS.4.checkpoint"), b, fileMode))
		}, "HOLDS.4.checkpoint: the checkpoint is of partition 3 of HOLDS"},
		"another tree":                        {other, "HOLDS.3.tree has not the root that was cosigned"},
		"a tree of nothing that was cosigned": {small, "of which nothing is cosigned"},
		"what is no tree":                     {func() { w.must(os.WriteFile(filepath.Join(w.dir, "HOLDS.3.tree"), []byte{0x93, 5}, fileMode)) }, "HOLDS.3.tree: "},
		"what is no witness.json":             {edit(identityName, "{", "["), identityName},
		"a witness.json with more in it":      {edit(identityName, `"format"`, `"more": 1, "format"`), identityName},
		"a witness.json that judges nothing": {func() {
			b, err := os.ReadFile(filepath.Join(w.dir, identityName))
			w.must(err)
			var all map[string]any
			w.must(json.Unmarshal(b, &all))
			all["judged"] = nil
			b, err = json.Marshal(all)
			w.must(err)
			w.must(os.WriteFile(filepath.Join(w.dir, identityName), b, fileMode))
		}, "it does not say what is judged"},
		"another format":                   {edit(identityName, "witness/1", "witness/9"), `"holdfast-witness/9"`},
		"a refusal that is none":           {func() { w.must(os.WriteFile(filepath.Join(w.dir, "HOLDS.3.refused"), []byte("x"), fileMode)) }, "HOLDS.3.refused"},
		"the checkpoint gone":              {remove("HOLDS.3.checkpoint"), ""},
		"the tree gone":                    {remove("HOLDS.3.tree"), ""},
		"the checkpoint and the tree gone": {remove("HOLDS.3.checkpoint", "HOLDS.3.tree"), ""},
		"how far it has judged gone":       {remove(identityName), ""},
		"all but the record gone":          {remove("HOLDS.3.checkpoint", "HOLDS.3.tree", identityName), ""},
	} {
		t.Run(name, func(t *testing.T) {
			w.dir = t.TempDir()
			w.must(os.CopyFS(w.dir, os.DirFS(whole)))
			test.do()
			s, err := w.once()
			if test.want == "" {
				if err != nil || s.Cosigned != 0 {
					t.Fatalf("%+v, %v", s, err)
				}
				if diff := cmp.Diff(last, w.kept(jetstream.Holds, 3)); diff != "" {
					t.Errorf("kept (-want +got):\n%s", diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("%+v, %v, want %q", s, err, test.want)
			}
			if !errors.Is(err, ErrDamaged) && name != "another format" {
				t.Errorf("%v is no ErrDamaged", err)
			}
		})
	}
	// With the tree gone, what was cosigned must come out again.
	w.dir = t.TempDir()
	w.must(os.CopyFS(w.dir, os.DirFS(whole)))
	remove("HOLDS.3.tree")()
	o := w.options()
	o.Source = &source{client: w.client, edited: 1}
	if s, err := w.run(o); !errors.Is(err, ErrRefused) || s.Refused[0].Reason != OtherHistory {
		t.Errorf("%+v, %v", s, err)
	}
	o.Source = &source{client: w.client}
	if s, err := w.run(o); !errors.Is(err, ErrRefused) || len(s.Refused) != 1 || len(o.Source.(*source).froms) > 0 {
		t.Errorf("a refused partition is judged again: %+v, %v, %v", s, err, o.Source.(*source).froms)
	}
}

// A folder is of one witness and one log's key, and for one process at a time.
func TestFolder(t *testing.T) {
	w := newWorld(t)
	w.cosigned(0)
	o := w.options()
	_, o.Key = newSigner(t)
	if _, err := w.run(o); err == nil || !strings.Contains(err.Error(), "begin a new folder") {
		t.Errorf("another log's key: %v", err)
	}
	o = w.options()
	secret, _, err := attest.GenerateWitnessKey("witness.example.org")
	w.must(err)
	o.Cosigner, err = attest.NewCosigner(secret)
	w.must(err)
	if _, err := w.run(o); err == nil || !strings.Contains(err.Error(), "choose another folder") {
		t.Errorf("another witness: %v", err)
	}
	s, err := openStore(w.dir, w.key, witnessKey(w))
	w.must(err)
	if _, err := w.once(); err == nil || !strings.Contains(err.Error(), "in use by another witness") {
		t.Errorf("a second process: %v", err)
	}
	w.must(s.close())
	w.cosigned(0)
}

// Evidence that anyone can make up is bounded.
func TestEvidenceIsBounded(t *testing.T) {
	w := newWorld(t)
	w.cosigned(0)
	w.must(os.WriteFile(filepath.Join(w.dir, evidenceName), nil, fileMode))
	w.must(os.Truncate(filepath.Join(w.dir, evidenceName), maxEvidence+1))
	w.publish(jetstream.Holds, 3, []byte("nonsense"))
	if s, err := w.once(); !errors.Is(err, ErrRefused) || len(s.Refused) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if info, err := os.Stat(filepath.Join(w.dir, evidenceName)); err != nil || info.Size() != maxEvidence+1 {
		t.Errorf("%v, %v", info.Size(), err)
	}
}

// What reads a tree takes what was written, and nothing else.
func FuzzReadTree(f *testing.F) {
	var log merkle.Log
	for i := range 6 {
		f.Add(snapshotOf("", &log).tree)
		log.Append(merkle.Leaf([]byte{byte(i)}))
	}
	f.Add([]byte{0x92, 0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc4, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := readTree(b)
		if err != nil {
			return
		}
		if again := snapshotOf("", &tree).tree; string(again) != string(b) {
			t.Errorf("%x reads as %x", b, again)
		}
	})
}

// A folder that is somebody else's is refused, and nothing is written there; what a start that was cut off has left is no such folder.
func TestFolderOfSomebodyElse(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		has  string
		want string // empty: it is taken
	}{
		"nothing":                    {"", ""},
		"a lock":                     {lockName, ""},
		"an unfinished witness.json": {identityName + freshSuffix, ""},
		"a file system's own":        {"lost+found/", ""},
		"the streams of a server":    {"jetstream/", `is no witness's: it has no witness.json, and it has "jetstream": name an empty folder, or one that is not there yet`},
		"another file":               {"notes.txt", `it has "notes.txt"`},
		"a folder named as a file":   {"HOLDS.3.tree/", `it has "HOLDS.3.tree"`},
	} {
		t.Run(name, func(t *testing.T) {
			w.dir = t.TempDir()
			path := filepath.Join(w.dir, test.has)
			switch {
			case strings.HasSuffix(test.has, "/"):
				w.must(os.Mkdir(path, 0o755))
			case test.has != "":
				w.must(os.WriteFile(path, nil, fileMode))
			}
			_, err := w.once()
			if test.want == "" {
				w.must(err)
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if left, _ := os.ReadDir(w.dir); len(left) != 1 {
				t.Errorf("it was written to: %v", left)
			}
		})
	}
}
