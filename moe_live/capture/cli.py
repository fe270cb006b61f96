"""The subcommands `moe-live capture`, `moe-live tap` and `moe-live verify`.

What they need is imported when there is something to do: not for `--help`.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from moe_live.arguments import address, file_name, layer_set, subcommand_options, whole_number
from moe_live.capture.guard import Access, parse_origin
from moe_live.capture.launch import CommandParser, add_tap_options
from moe_live.commands import add_command
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.network import MAX_KEY, key_in, listen, parse_key

if TYPE_CHECKING:
    from moe_live.capture.engine import EngineSettings
    from moe_live.capture.recorder import Recorder

_MAX_PROMPT = 16 << 20  # bytes

_CAPTURE_USAGE = """\
moe-live capture --log PATH [--gate-layers LIST] [--weights] [--drafts PATH] [--output PATH] -- COMMAND...
       moe-live capture --log PATH [--gate-layers LIST] --model GGUF
                        (--prompt TEXT | --prompt-file PATH | --serve [HOST:]PORT) [engine options]"""
_CAPTURE_HELP = """\
Write the log of a mixture-of-experts model's routing, in the format that moe-live follows: of a COMMAND
such as llama-server, unpatched, whose ggml is a shared library; or of a model that is run with
llama-cpp-python, which needs the extra: pip install 'moe-live[capture]'.
"""
_COMMAND_EPILOG = """\
A log that is there is appended to. COMMAND has its own process group and no input; signals are passed on
to it. It goes on if moe-live dies.

exit status: 0 if Ctrl-C ended it, else that of COMMAND (128 + n if signal n ended it); 125 moe-live failed;
126 COMMAND cannot be started; 127 there is no such COMMAND.
"""
_CAPTURE_EPILOG = """\
examples:
  moe-live capture --log moe.log -- llama-server -m M.gguf --port 8080
  moe-live capture --model M.gguf --log moe.log --prompt "Once upon a time"
  moe-live capture --model M.gguf --log moe.log --gate-layers 20-24 --serve 127.0.0.1:8080
and in another terminal: moe-live --follow moe.log

With --model the log is emptied when the model is loaded; with COMMAND it is appended to.
exit status: 0 done, or ended by Ctrl-C; 1 the engine or the log failed; 2 wrong usage.
With COMMAND: its own; 125 moe-live failed; 126 COMMAND cannot be started; 127 there is no such COMMAND.
"""
_TAP_HELP = """\
Print the path of the library that logs the routing of programs it is preloaded into, compiled if need be:
  LD_PRELOAD=$(moe-live tap) MOE_LIVE_LOG=moe.log llama-server -m M.gguf
"""
_TAP_EPILOG = """\
environment of the program:
  MOE_LIVE_LOG=PATH           the log, a named pipe or a Unix socket; nothing is done without it
  MOE_LIVE_WEIGHTS=1          the weights of the experts too
  MOE_LIVE_GATE_LAYERS=20-24  the routers' inputs of these layers too
  MOE_LIVE_DRAFTS=PATH        a log for drafts, draft heads and other models in the same program
and of moe-live: MOE_LIVE_TAP=FILE, the library to use where there is no compiler; CC, the compiler.
"""
_VERIFY_HELP = """\
Recompute the selections in a log from its gate inputs and the model's routers, and tell which rows are right.
"""
_VERIFY_EPILOG = """\
exit status: 0 all rows compared are right; 1 some are wrong, or there is nothing to compare; 2 wrong usage.
"""


def run_subcommand(argv: Sequence[str]) -> int:
    """Run `argv`, which begins with one of its commands; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    if argv[0] == "capture" and "--" in argv:
        return _run_command(argv[1:])
    options = subcommand_options(argv, add_parsers)
    status: int = options.run(options)
    return status


def add_parsers(subparsers: Any) -> None:
    """Add those of its commands to what `ArgumentParser.add_subparsers` returned."""
    add_capture_parser(subparsers)
    add_tap_parser(subparsers)
    add_verify_parser(subparsers)


def add_capture_parser(subparsers: Any) -> None:
    """Add `capture` to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "capture", _CAPTURE_HELP, _CAPTURE_EPILOG, usage=_CAPTURE_USAGE)
    parser.set_defaults(run=run_capture)
    parser.add_argument(
        "--model", type=file_name, required=True, metavar="GGUF", help="the model, or the first part of it"
    )
    parser.add_argument(
        "--log", type=file_name, required=True, metavar="PATH", help="the log to write; what it held is lost"
    )
    parser.add_argument(
        "--gate-layers",
        type=layer_set,
        default=frozenset(),
        metavar="LIST",
        help="log the router's inputs of these layers: 20-24,30",
    )
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--prompt", metavar="TEXT", help="answer this, and end")
    work.add_argument("--prompt-file", type=file_name, metavar="PATH", help="the same, from a file")
    work.add_argument(
        "--serve",
        type=address,
        metavar="[HOST:]PORT",
        help="start an OpenAI-compatible server, for this machine alone (127.0.0.1); other HOSTs need a key",
    )
    server = parser.add_argument_group("server, with --serve")
    server.add_argument(
        "--cors",
        type=_origin,
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages of this origin send requests, as https://chat.example; may be given again",
    )
    key = server.add_mutually_exclusive_group()
    key.add_argument(
        "--api-key",
        type=_key,
        metavar="KEY",
        help="what requests must show (Authorization: Bearer KEY); users of this machine can see it here",
    )
    key.add_argument(
        "--api-key-file", type=file_name, metavar="PATH", help="a file that holds the key instead"
    )
    engine = parser.add_argument_group("engine, as in llama.cpp")
    engine.add_argument(
        "--n-predict",
        type=whole_number(1, 1 << 30),
        default=128,
        metavar="N",
        help="tokens to generate for the prompt (default 128)",
    )
    engine.add_argument(
        "--ctx-size",
        type=whole_number(0, 1 << 30),
        default=4096,
        metavar="N",
        help="tokens of context (default 4096; 0: as trained)",
    )
    engine.add_argument(
        "--ubatch-size",
        type=whole_number(1, 1 << 20),
        default=512,
        metavar="N",
        help="tokens of a prompt computed in one pass (default 512)",
    )
    engine.add_argument("--threads", type=whole_number(1, 4096), metavar="N", help="default: the engine's")
    engine.add_argument(
        "--n-gpu-layers",
        type=whole_number(0, 1 << 20),
        default=0,
        metavar="N",
        help="layers on a GPU, if the engine was built for one (default 0)",
    )
    engine.add_argument("--seed", type=whole_number(1, (1 << 32) - 2), metavar="N", help="default: random")


def add_verify_parser(subparsers: Any) -> None:
    """Add `verify` to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "verify", _VERIFY_HELP, _VERIFY_EPILOG)
    parser.set_defaults(run=run_verify)
    parser.add_argument(
        "--model", type=file_name, required=True, metavar="GGUF", help="the model that wrote the log"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--lookahead",
        action="store_true",
        help="tell too how many of a layer's experts its router names from the input of the layer before",
    )
    parser.add_argument(
        "logs", type=file_name, nargs="+", metavar="LOG", help="finished logs with gate inputs, .gz too"
    )


def add_tap_parser(subparsers: Any) -> None:
    """Add `tap` to what `ArgumentParser.add_subparsers` returned."""
    parser = add_command(subparsers, "tap", _TAP_HELP, _TAP_EPILOG)
    parser.set_defaults(run=run_tap)
    parser.add_argument(
        "--build",
        type=file_name,
        metavar="FILE",
        help="compile it into FILE, for a machine or an image without a compiler",
    )


def _command_parser() -> CommandParser:
    parser = CommandParser(
        prog="moe-live capture",
        usage=_CAPTURE_USAGE,
        description=_CAPTURE_HELP,
        epilog=_COMMAND_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--log", type=file_name, required=True, metavar="PATH", help="the log, or a named pipe"
    )
    parser.add_argument(
        "--gate-layers",
        type=layer_set,
        default=frozenset(),
        metavar="LIST",
        help="log the router's inputs of these layers",
    )
    add_tap_options(parser, weights="log the weights of the experts", output="where moe-live prints")
    return parser


def _run_command(argv: Sequence[str]) -> int:
    """Run `capture`'s arguments in which a command follows `--`.

    Raises:
        LaunchError: the command was not started, and why.
    """
    from moe_live.capture.command import TapSettings, capture_command

    at = argv.index("--")
    parser = _command_parser()
    options = parser.parse_args(argv[:at])
    command = argv[at + 1 :]
    if not command:
        parser.error("there is no command after --")
    settings = TapSettings(
        log=options.log, weights=options.weights, gate_layers=options.gate_layers, drafts=options.drafts
    )
    return capture_command(command, settings, options.output)


def run_tap(options: argparse.Namespace) -> int:
    """Print where the tap is, or compile it into a file; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    from moe_live.capture.tap_library import build, tap_library

    if options.build is not None:
        build(Path(options.build))
    else:
        sys.stdout.write(f"{tap_library()}\n")
    return 0


def run_capture(options: argparse.Namespace) -> int:
    """Run the model as the options say; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    if options.serve is None and (options.cors or options.api_key or options.api_key_file):
        raise UsageError("--cors, --api-key and --api-key-file go with --serve")
    prompt = _prompt(options)
    api_key = options.api_key if options.api_key_file is None else key_in(options.api_key_file)
    if not Path(options.model).is_file():
        raise UsageError(f"cannot load {printable(options.model)}: there is no such file; check the path")
    _check_log(options)
    with _engine_extra():
        from moe_live.capture.engine import EngineSettings, open_recorder

        if options.serve is not None:
            from moe_live.capture.serve import serve

    settings = EngineSettings(
        model=options.model,
        ctx_size=options.ctx_size,
        ubatch_size=options.ubatch_size,
        threads=options.threads,
        gpu_layers=options.n_gpu_layers,
        seed=options.seed,
    )
    if options.serve is not None:
        listener, local_name = listen(
            *options.serve, without_key="--api-key-file" if api_key is None else None
        )
        access = Access(local_name, api_key, frozenset(options.cors))
    recorder, writer = open_recorder(options.log, options.gate_layers)

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
        recorder.stop()

    # An exception raised by a signal would be lost if it came in the middle of llama.cpp's callback.
    signal.signal(signal.SIGINT, stop)
    with closing(writer):
        if options.serve is not None:
            serve(listener, settings, recorder, access)
        else:
            _answer(settings, recorder, prompt, options.n_predict)
    _report_capture(recorder, options)
    return 0


def run_verify(options: argparse.Namespace) -> int:
    """Compare the logs with the model; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    from moe_live.capture.lookahead import look_ahead
    from moe_live.capture.verify import as_json, compare_logs, report_lines

    agreement = compare_logs(options.model, options.logs)
    ahead = look_ahead(options.model, options.logs) if options.lookahead else None
    lines = [as_json(agreement, ahead)] if options.json else report_lines(agreement, ahead)
    for line in lines:
        sys.stdout.write(f"{line}\n")
    return 1 if agreement.wrong else 0


@contextmanager
def _engine_extra() -> Iterator[None]:
    """Turns failing imports into what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'moe-live[capture]'") from None
    except (OSError, RuntimeError) as error:  # a shared library cannot be loaded
        raise UsageError(f"the engine cannot be loaded: {printable(str(error))}; install it anew") from None


def _prompt(options: argparse.Namespace) -> str:
    if options.prompt_file is None:
        return options.prompt or ""
    name = printable(options.prompt_file)
    try:
        with Path(options.prompt_file).open("rb") as file:
            text = file.read(_MAX_PROMPT + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}; check the path") from None
    if len(text) > _MAX_PROMPT:
        raise UsageError(f"{name} is longer than {_MAX_PROMPT:,} bytes: no model takes such a prompt")
    return text.decode(errors="replace")


def _check_log(options: argparse.Namespace) -> None:
    """See that the log is none of the files that are read."""
    for path, what in ((options.prompt_file, "the prompt"), (options.api_key_file, "the key")):
        with suppress(OSError):
            if path is not None and Path(options.log).samefile(path):
                raise UsageError(f"cannot write {printable(options.log)}: it is {what}; choose another log")


def _answer(settings: EngineSettings, recorder: Recorder, prompt: str, tokens: int) -> None:
    """Print the model's answer as it comes."""
    from moe_live.capture.engine import CapturingLlama, answer
    from moe_live.capture.recorder import CaptureStoppedError

    encoding = sys.stdout.encoding or "utf-8"
    model = CapturingLlama(recorder, model_path=settings.model, **settings.arguments())
    with closing(model), suppress(CaptureStoppedError):
        for text in answer(model, prompt, tokens=tokens):
            shown = "".join(c if c in "\n\t" else printable(c) for c in text)
            sys.stdout.write(shown.encode(encoding, "backslashreplace").decode(encoding))
            sys.stdout.flush()
        if not recorder.tokens:
            raise MoeLiveError(
                f"nothing was captured: {printable(settings.model)} chooses its experts in an unknown way"
            )
    sys.stdout.write("\n")


def _report_capture(recorder: Recorder, options: argparse.Namespace) -> None:
    """Say on standard error what is in the log."""
    missing = sorted(options.gate_layers - recorder.logged_inputs)
    if missing and recorder.tokens:
        layers = ", ".join(map(str, missing))
        sys.stderr.write(f"moe-live: warning: the model has no router in these of --gate-layers: {layers}\n")
    sys.stderr.write(f"moe-live: {recorder.tokens:,} tokens captured in {printable(options.log)}\n")


def _origin(text: str) -> str:
    try:
        return parse_origin(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an origin such as https://chat.example") from None


def _key(text: str) -> str:
    try:
        return parse_key(text)
    except ValueError:  # which is not shown: it may be a key, mistyped
        raise argparse.ArgumentTypeError(
            f"a key is up to {MAX_KEY:,} letters, digits and signs without a blank"
        ) from None
