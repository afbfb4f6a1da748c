package compose

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The images are made here of what this machine has, under the names that the compose file gives them: nothing is pulled. The
// NATS server is built from its module, Prometheus and the busybox beside both are Debian's, so they are stand-ins. Ours is the
// Dockerfile's last stage, to the letter, on what the Dockerfile's own command builds.

// root is the project's folder, as seen from here.
var root = filepath.Join("..", "..")

// buildPrograms builds ours and the NATS server, for Linux and static, into a folder for each.
func buildPrograms(t *testing.T, folder string) {
	t.Helper()
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	build := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .* -o )/out/( .*)$`).FindSubmatch(dockerfile)
	if build == nil {
		t.Fatal("the Dockerfile has no line RUN CGO_ENABLED=0 go build … -o /out/ …")
	}
	ours := fmt.Sprintf("%s'%s/'%s", build[1], filepath.Join(folder, "out"), build[2])
	for _, script := range []string{ours, "CGO_ENABLED=0 go build -trimpath -o '" + filepath.Join(folder, "nats-server") + "' github.com/nats-io/nats-server/v2"} {
		if err := command(root, "sh", "-c", script); err != nil {
			t.Fatal(err)
		}
	}
}

// makeImages gives the engine every image that the compose file names.
func (e *engine) makeImages(t *testing.T, programs string) {
	t.Helper()
	file := readComposeFile(t)
	nats := newImage(t)
	nats.add(filepath.Join(programs, "nats-server"), "/usr/local/bin/nats-server")
	nats.addProgram("busybox", "/bin/busybox")
	nats.link("/bin/busybox", "/bin/chown", "/bin/wget")
	nats.load(e, file.Services["nats-1"].Image, `CMD ["nats-server", "--config", "/etc/nats/nats-server.conf"]`)

	prometheus := newImage(t)
	prometheus.addProgram("prometheus", "/bin/prometheus")
	prometheus.addProgram("busybox", "/bin/busybox")
	prometheus.link("/bin/busybox", "/bin/wget")
	prometheus.folder("/prometheus", 65534)
	prometheus.load(e, file.Services["prometheus"].Image, `ENTRYPOINT ["/bin/prometheus"]`)

	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, last, ok := strings.Cut(string(dockerfile), "\nFROM scratch\n")
	if !ok || strings.Contains(last, "\nFROM ") {
		t.Fatal("the last stage of the Dockerfile is not FROM scratch")
	}
	e.docker(t, "import", "--message", "what is built", programImage(t, programs), "built")
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM built AS build\nFROM scratch\n"+last), 0o600); err != nil {
		t.Fatal(err)
	}
	e.docker(t, "build", "--quiet", "--network", "none", "--tag", file.Services["ingest"].Image, context)
}

// programImage writes what the Dockerfile's first stage leaves for the last.
func programImage(t *testing.T, programs string) string {
	t.Helper()
	built := newImage(t)
	entries, err := os.ReadDir(filepath.Join(programs, "out"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		built.add(filepath.Join(programs, "out", entry.Name()), "/out/"+entry.Name())
	}
	authorities := filepath.Join(t.TempDir(), "ca-certificates.crt") // that no one is trusted by; nothing here asks them
	if err := os.WriteFile(authorities, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	built.add(authorities, "/etc/ssl/certs/ca-certificates.crt")
	return built.close()
}

// image is the tree of an image, as a tar file.
type image struct {
	t    *testing.T
	file *os.File
	tar  *tar.Writer
	has  map[string]bool // paths
}

func newImage(t *testing.T) *image {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "image.tar"))
	if err != nil {
		t.Fatal(err)
	}
	return &image{t: t, file: file, tar: tar.NewWriter(file), has: map[string]bool{}}
}

// write appends an entry, unless its path is there already.
func (i *image) write(header tar.Header, content io.Reader) {
	i.t.Helper()
	if i.has[header.Name] {
		return
	}
	i.has[header.Name] = true
	header.Name = strings.TrimPrefix(header.Name, "/")
	err := i.tar.WriteHeader(&header)
	if err == nil && content != nil {
		_, err = io.Copy(i.tar, content)
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

// add copies a file of this machine.
func (i *image) add(from, to string) {
	i.t.Helper()
	file, err := os.Open(from)
	if err != nil {
		i.t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		i.t.Fatal(err)
	}
	i.write(tar.Header{Typeflag: tar.TypeReg, Name: to, Size: info.Size(), Mode: 0o755}, file)
}

// addProgram copies a program of this machine, and the libraries that it wants.
func (i *image) addProgram(name, to string) {
	i.t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		i.t.Fatal(err)
	}
	i.add(program, to)
	libraries, err := exec.Command("ldd", program).Output()
	if err != nil {
		return // it is static
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(libraries), -1) {
		i.add(library, path.Clean(library))
	}
}

// link makes symbolic links to a path.
func (i *image) link(to string, names ...string) {
	i.t.Helper()
	for _, name := range names {
		i.write(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to, Mode: 0o777}, nil)
	}
}

// folder makes an empty folder that belongs to a user.
func (i *image) folder(name string, owner int) {
	i.t.Helper()
	i.write(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, Uid: owner, Gid: owner}, nil)
}

// close returns the path of the tar file, which is then whole.
func (i *image) close() string {
	i.t.Helper()
	if err := i.tar.Close(); err != nil {
		i.t.Fatal(err)
	}
	if err := i.file.Close(); err != nil {
		i.t.Fatal(err)
	}
	return i.file.Name()
}

// load gives the image to the engine, under a name and with those instructions of a Dockerfile.
func (i *image) load(e *engine, name string, instructions ...string) {
	i.t.Helper()
	args := []string{"import", "--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin"}
	for _, instruction := range instructions {
		args = append(args, "--change", instruction)
	}
	e.docker(i.t, append(args, i.close(), name)...)
}
