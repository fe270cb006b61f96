"""The options of the main command, and the frozen configuration they make."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from moe_live.arguments import Parser, cores, file_name, frame_rate, whole_number
from moe_live.capture.launch import CommandParser, Launch, add_launch_options, launch
from moe_live.commands import COMMANDS, add_parsers
from moe_live.counting import add_counting, counting_of
from moe_live.dataclass import dataclass
from moe_live.defaults import config_file, default_options
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.outputs.output import Output
from moe_live.outputs.table import OUTPUTS
from moe_live.plans.cache import add_budget, add_sizes
from moe_live.plans.given import Given
from moe_live.plans.offload import add_vram
from moe_live.plans.placement import add_devices
from moe_live.plans.prune import add_drop
from moe_live.settings import MAX_EXPERTS, Settings
from moe_live.sources.patterns import follows_several
from moe_live.version import __version__
from moe_live.view_names import VIEWS

_EPILOG = """\
examples:
  moe-live --follow /var/log/moe_expert_selection.log     a live dashboard; Ctrl-C ends it with a summary
  moe-live --follow '/var/log/moe/*.log'                  several as one, those that appear later too
  tail -f moe_expert_selection.log | moe-live             the same from a pipe
  moe-live old.log older.log.gz --json summary.json       read finished files, print and save the summary
  moe-live --demo                                         a simulated server, to look around

exit status: 0 ended by q, Ctrl-C or the end of input; 1 runtime error or no usable line;
2 wrong usage or unreadable input; 128 + n ended by another signal n, after the summary,
or by any signal before all results were written.

What you always give can stand in ~/.config/moe-live/config.toml, as theme = "light" or ascii = true.
"""


RUN = "run"
"""The command that reads what it starts, and whose options are those of the main one."""

_HELP_OPTIONS = ("-h", "--help", "--version")

_HELP = {RUN: "a server as it is, with the dashboard", **{name: COMMANDS[name].help for name in COMMANDS}}


def _list_of_commands() -> str:
    """A line each; those that do the same with different things have one."""
    names: dict[str, list[str]] = {}
    for name, what in _HELP.items():
        names.setdefault(what, []).append(name)
    return "\n".join(f"  {', '.join(those):<14} {what}" for what, those in names.items())


_DESCRIPTION = f"""\
Live statistics of mixture-of-experts routing: follows the log that a server writes of its routers.

commands, each with --help:
{_list_of_commands()}
"""

_RUN_HELP = """\
Run a COMMAND such as llama-server, unpatched, whose ggml is a shared library, and show which experts its
model uses, while it works.
"""
_RUN_EPILOG = """\
examples:
  moe-live run -- llama-server -m model.gguf --port 8080        Ctrl-C ends the server, with a summary
  moe-live run --log moe.log --log-limit 1G -- llama-server -m model.gguf

COMMAND has its own process group and no input. q and the first Ctrl-C end it as Ctrl-C does, a second Ctrl-C
at once; other signals are passed on. It goes on if moe-live dies. Without --gate-layers there are no
distances.

exit status: 0 if q or Ctrl-C ended it, else that of COMMAND (128 + n if signal n ended it); 125 moe-live
failed; 126 COMMAND cannot be started; 127 there is no such COMMAND.
"""


_RUN_TEXTS: dict[str, Any] = {
    "usage": f"moe-live {RUN} [OPTIONS] -- COMMAND...",
    "description": _RUN_HELP,
    "epilog": _RUN_EPILOG,
    "formatter_class": argparse.RawDescriptionHelpFormatter,
}


@dataclass(frozen=True, slots=True)
class Config:
    """The command line, checked."""

    paths: tuple[str, ...]
    follow: tuple[str, ...]
    launch: Launch | None
    demo: bool
    from_end: bool
    json_alone: bool
    settings: Settings
    state: str | None
    label_file: str | None
    label_by_file: bool
    dashboard: bool
    once: str | None
    browse: bool
    refresh: float
    color: Literal["auto", "always", "never"]
    theme: Literal["auto", "dark", "light"]
    ascii: bool
    full: bool
    top: int
    model: str | None
    given: Given
    jobs: int
    outputs: tuple[Output, ...]

    @property
    def follows_several(self) -> bool:
        """Whether more than one log may be followed."""
        return follows_several(self.follow)

    @property
    def several_jobs(self) -> bool:
        """Whether more than one process may read the input."""
        # A file of labels tells what holds now, and parts are read at the same time.
        if self.label_file is not None or self.label_by_file or self.browse or self.wants_steps:
            return False
        if self.state is not None:  # which has all in the order in which it came
            return False
        return self.jobs > 1 and bool(self.paths)

    @property
    def wants_steps(self) -> bool:
        """Whether an output takes the distances of each step."""
        return any(output.wants_steps for output in self.outputs)

    @property
    def stdout_taken(self) -> bool:
        """Whether standard output is for one thing alone: no dashboard is drawn there, no summary printed."""
        return self.json_alone or any(output.takes_stdout for output in self.outputs)


def parse(argv: Sequence[str] | None = None) -> Config:
    """Arguments to a configuration.

    Raises:
        UsageError: they are wrong.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == [RUN]:
        return _parse_run(argv[1:])
    parser = _parser()
    if argv and argv[0].isalpha() and not os.path.lexists(argv[0]):
        import difflib

        *names, last = _HELP
        meant = difflib.get_close_matches(argv[0], _HELP, 1)
        parser.error(
            f"there is no file or command {argv[0]}; "
            + (f"did you mean {meant[0]}?" if meant else f"the commands are {', '.join(names)} and {last}")
        )
    # Its value is part of the same word: what comes after it is a log.
    words = ["--once=overview" if word == "--once" else word for word in argv]
    options = parser.parse_args(words, _defaults(_parser, words))
    paths = options.paths = tuple(options.paths)
    options.follow = tuple(options.follow)
    inputs = bool(options.follow) + options.demo + bool(paths)
    if inputs > 1:
        parser.error("give either PATHs, or --follow PATH, or --demo")
    if "-" in options.follow:
        parser.error("--follow needs the name of a file; standard input is read without it")
    if "-" in paths and len(paths) > 1:
        parser.error("- is standard input, which is read alone: leave the other PATHs out")
    if not inputs or paths == ("-",):
        paths = options.paths = ()
        if sys.stdin is None:
            parser.error("nothing to read, standard input is closed: give --follow PATH, PATH... or --demo")
        if os.isatty(0):
            parser.error("nothing to read: give --follow PATH, PATH..., --demo, or pipe a log in")
    has_names = paths or options.follow
    if options.label_by_file and (not has_names or options.label or options.label_file is not None):
        parser.error("--label-by-file goes with PATHs or --follow, and without --label and --label-file")
    if options.browse and not paths:
        parser.error("--browse goes with PATHs")
    if options.once is not None and (options.demo or options.browse or options.json == "-"):
        parser.error("--once goes with PATHs, --follow PATH or a pipe, and without --browse and --json -")
    if options.state is not None and (options.demo or options.label_by_file):
        parser.error("--state goes without --demo and --label-by-file")
    if options.start == "end" and not options.follow:
        parser.error("--from end goes with --follow PATH")
    config = _config(parser, options)
    if config.follows_several and config.state is not None:
        parser.error(
            "--state goes with one log: follow each with a --state of its own in a directory DIR, and show "
            "them by moe-live merge --watch DIR"
        )
    if config.follows_several and config.wants_steps:
        parser.error("--steps goes with one log: the steps of several have no order")
    return config


def _parse_run(argv: Sequence[str]) -> Config:
    """The arguments of `run`.

    Raises:
        LaunchError: they are wrong.
    """
    parser = _run_parser()
    if "--" not in argv and not set(_HELP_OPTIONS) & set(argv):
        parser.error(f"there is no -- before the command, as in moe-live {RUN} -- llama-server -m model.gguf")
    at = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:at], _defaults(_run_parser, argv[:at]))
    started = launch(parser, options, tuple(argv[at + 1 :]))
    try:
        return _config(parser, options, started)
    except UsageError as error:
        parser.error(str(error))


def _defaults(make: Callable[[], Parser], given: Sequence[str]) -> argparse.Namespace:
    """What the user has made the default, which only options override that are given.

    Raises:
        UsageError: that is wrong.
    """
    path = config_file()
    words = [] if set(_HELP_OPTIONS) & set(given) else default_options(path)
    if not words:
        return argparse.Namespace()
    try:
        return make().parse_args(words)
    except MoeLiveError as error:
        raise UsageError(f"{printable(path)}: {error}") from None


def _run_parser() -> Parser:
    parser = CommandParser(prog=f"moe-live {RUN}", **_RUN_TEXTS)
    _add_run_options(parser)
    return parser


def _add_run_options(parser: Parser) -> None:
    parser.set_defaults(paths=(), follow=(), demo=False, start="start", jobs=1, once=None, browse=False)
    parser.set_defaults(label_by_file=False)
    add_launch_options(parser)
    _add_options(
        parser, gate_layers="read the inputs of these layers' routers too, and compare them: 20-24,30"
    )


def whole_parser() -> Parser:
    """One with those of all commands: nothing is parsed by it, completions and a manual are made of it."""
    return _parser(commands=True)


def _config(parser: Parser, options: argparse.Namespace, launch: Launch | None = None) -> Config:
    for name in ("budget", "vram", "devices", "drop"):
        if options.only is not None and getattr(options, name):
            parser.error(f"--{name} needs more than --only frequency counts: leave one out")
    if options.replicas and not options.devices:
        parser.error("--replicas goes with --devices G")
    sizes_given = options.model is not None or options.expert_bytes is not None
    sized = options.budget or options.vram or options.browse or options.once
    if sizes_given and options.paths and not sized:
        parser.error("--model and --expert-bytes go with --budget SIZE, --vram SIZE, --once or a dashboard")
    return Config(
        paths=options.paths,
        follow=options.follow,
        launch=launch,
        demo=options.demo,
        from_end=options.start == "end",
        json_alone=options.json == "-",
        settings=replace(counting_of(options), reset_on_restart=options.reset_on_restart),
        state=options.state,
        label_file=options.label_file,
        label_by_file=options.label_by_file,
        dashboard=options.dashboard and options.only is None,
        once=options.once,
        browse=options.browse,
        refresh=options.refresh,
        color=options.color,
        theme=options.theme,
        ascii=options.ascii,
        full=options.full,
        top=options.top,
        model=options.model,
        given=Given(
            expert_bytes=options.expert_bytes or 0,
            budgets=tuple(options.budget),
            vram=options.vram or 0,
            reserve=options.reserve,
            devices=options.devices or 0,
            replicas=options.replicas,
            drop=options.drop,
        ),
        jobs=options.jobs or cores(),
        outputs=tuple(output for kind in OUTPUTS for output in kind.make(options)),
    )


def _parser(*, commands: bool = False) -> Parser:
    parser = Parser(
        prog="moe-live",
        usage="moe-live [OPTIONS] [PATH ...]\n       moe-live COMMAND ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if commands:
        subparsers = parser.add_subparsers(metavar="COMMAND", prog="moe-live", parser_class=Parser)
        _add_run_options(subparsers.add_parser(RUN, help=_HELP[RUN], **_RUN_TEXTS))
        add_parsers(subparsers)
    source = parser.add_argument_group("input")
    source.add_argument(
        "paths",
        nargs="*",
        type=file_name,
        metavar="PATH",
        help="finished logs, .gz too: read to the end; - for standard input",
    )
    source.add_argument(
        "--follow",
        nargs="+",
        type=file_name,
        default=(),
        metavar="PATH",
        help="follow a growing log across restarts and rotation; several, or a quoted pattern: all as one",
    )
    source.add_argument("--demo", action="store_true", help="follow the log of a simulated server")
    source.add_argument(
        "--from", dest="start", choices=("start", "end"), default="start", help="where to begin following"
    )
    source.add_argument(
        "--jobs",
        type=whole_number(1, 1024),
        metavar="N",
        help="processes that read large PATHs (default: one for each core)",
    )
    source.add_argument(
        "--label-by-file",
        action="store_true",
        help="label what each log holds by its name: math.log is math",
    )
    _add_options(parser)
    looks = parser.add_argument_group("a look at it")
    looks.add_argument(
        "--once",
        choices=tuple(VIEWS),
        metavar="[=VIEW]",
        help=f"print one view of what is there now instead of the summary: {', '.join(VIEWS)}",
    )
    looks.add_argument("--browse", action="store_true", help="look around in finished PATHs in the dashboard")
    return parser


def _add_options(parser: Parser, **gate_layers: str) -> None:
    """Add those that do not depend on what is read, but for what `--gate-layers` means."""
    analysis = parser.add_argument_group("analysis")
    add_counting(analysis, **gate_layers)
    analysis.add_argument(
        "--label-file",
        type=file_name,
        metavar="PATH",
        help="a file that holds the label of what comes now; it may change",
    )
    analysis.add_argument(
        "--reset-on-restart", action="store_true", help="start the statistics anew when the server restarts"
    )
    parser.add_argument_group("state").add_argument(
        "--state",
        type=file_name,
        metavar="FILE",
        help="a file that all that is known is kept in, every 30 seconds and at the end; it is gone on from",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--full", action="store_true", help="all tables at the end on a terminal too, as in a pipe"
    )
    output.add_argument(
        "--top",
        type=whole_number(1, MAX_EXPERTS),
        default=10,
        metavar="N",
        help="experts a list of the summary has (default 10)",
    )
    add_budget(output)
    add_sizes(output)
    add_vram(output, required=False)
    add_devices(output, required=False)
    add_drop(output)
    for kind in OUTPUTS:
        kind.add(output)
    output.add_argument(
        "--no-dashboard", dest="dashboard", action="store_false", help="status lines instead of the dashboard"
    )
    output.add_argument(
        "--refresh", type=frame_rate, default=4.0, metavar="HZ", help="frames a second at most (default 4)"
    )
    output.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="use of colours")
    output.add_argument(
        "--theme",
        choices=("auto", "dark", "light"),
        default="auto",
        help="background of the terminal, for the colours of the dashboard (default: it is asked)",
    )
    output.add_argument(
        "--ascii", action="store_true", help="a dashboard without block characters, for fonts that lack them"
    )
    parser.add_argument("--version", action="version", version=f"moe-live {__version__}")
