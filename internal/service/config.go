package service

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

// EnvPrefix begins the name of every environment variable that is read: --log-level is HOLDFAST_LOG_LEVEL.
const EnvPrefix = "HOLDFAST"

// commonFlags are the flags that every command has beside its own.
type commonFlags struct {
	Config  configFlag  `help:"Read flags from a YAML or TOML file (.yaml, .yml, .toml). Its keys are the names of the flags." placeholder:"FILE"`
	Version versionFlag `help:"Print the version and exit." env:"-"`
}

// Parse fills the struct that cli points to, whose fields and tags describe flags and subcommands in kong's manner.
// What a flag is set to comes from, in this order: the command line, the environment (HOLDFAST_ and the flag's name), the
// file given by --config, the default. The file's keys are flat and equal to the names of the flags:
//
//	nats: nats://10.0.0.7:4222
//	log-level: debug
//
// One file may serve several subcommands: a key must name a flag of some command, and takes effect where it is one.
//
// A flag of the type "filled" is refused if it is given an empty value, wherever that comes from.
//
// Parse returns the names of the chosen subcommands, separated by blanks ("" if there are none), and ok. If ok is false, the
// command is to return code at once: either --help or --version was printed to stdout ([ExitOK]), or something was wrong
// and stderr says what ([ExitUsage]). A cli that is itself malformed panics.
func Parse(name, description string, cli any, args []string, stdout, stderr io.Writer) (command string, code int, ok bool) {
	parser := kong.Must(cli,
		kong.Name(name),
		kong.Description(description),
		kong.Embed(&commonFlags{}),
		kong.DefaultEnvars(EnvPrefix),
		kong.NamedMapper(filledType, kong.MapperFunc(decodeFilled)),
		kong.Vars{"version": name + " " + ReadBuild().String()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exitPanic(code)) }),
	)
	// The resolver is there from the start, empty, because kong then lets a good flag stand against a bad environment.
	file := &configFile{}
	if err := kong.Resolvers(file).Apply(parser); err != nil {
		panic(err)
	}
	if err := kong.Bind(file).Apply(parser); err != nil {
		panic(err)
	}

	context, code, err := parse(parser, args)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "%s: %s\nSee '%s --help'.\n", name, plainly(err), strings.TrimSpace(name+" "+commandOf(err)))
		return "", ExitUsage, false
	case context == nil:
		return "", code, false
	}
	return commandNames(context), ExitOK, true
}

// What kong says of a value that begins with a dash, and of a duration without a unit.
var (
	looksLikeFlag = regexp.MustCompile(`^(--[\w-]+): expected \w+ value but got "(-[^"]*)" \(.*$`)
	noUnit        = regexp.MustCompile(`^(.*?)expected duration but got "([^"]*)": time: missing unit in duration .*$`)
)

// plainly is what is wrong with the flags, with what to do about it.
func plainly(err error) string {
	text := looksLikeFlag.ReplaceAllString(err.Error(), `$1: "$2" is taken for a flag; if it is meant as the value, write $1=$2`)
	return noUnit.ReplaceAllString(text, `$1"$2" has no unit: write ${2}s, ${2}m or ${2}h for seconds, minutes or hours`)
}

// exitPanic carries an exit code from the depths of kong, which prints help and the version and then wants to be gone,
// up to parse.
type exitPanic int

// parse runs the parser; the context is nil if it asked to exit, with code.
func parse(parser *kong.Kong, args []string) (context *kong.Context, code int, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exitPanic:
			context, code, err = nil, int(r), nil
		default:
			panic(r)
		}
	}()
	context, err = parser.Parse(args)
	return context, ExitOK, err
}

// commandOf returns the subcommands that had been recognised when err happened.
func commandOf(err error) string {
	var parseError *kong.ParseError
	if errors.As(err, &parseError) && parseError.Context != nil {
		return commandNames(parseError.Context)
	}
	return ""
}

func commandNames(context *kong.Context) string {
	var names []string
	for _, step := range context.Path {
		if step.Command != nil {
			names = append(names, step.Command.Name)
		}
	}
	return strings.Join(names, " ")
}

// versionFlag prints the version in place of running the command.
type versionFlag bool

// BeforeReset is called by kong once the flag was seen.
func (versionFlag) BeforeReset(parser *kong.Kong, vars kong.Vars) error {
	fmt.Fprintln(parser.Stdout, vars["version"])
	parser.Exit(ExitOK)
	return nil
}

// configFlag is the path of the configuration file.
type configFlag string

// BeforeResolve is called by kong once the command line and the environment were read and before it asks the resolver.
func (configFlag) BeforeResolve(context *kong.Context, at *kong.Path, file *configFile) error {
	path, _ := context.FlagValue(at.Flag).(configFlag)
	if path == "" {
		return nil
	}
	return file.load(string(path), context.Model)
}
