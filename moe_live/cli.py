"""The command line: arguments to a frozen configuration to a run, and errors to exit codes.

What is imported on top is what `--help` needs; numpy and rich are imported when there is something to do.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from moe_live.capture.cli import SUBCOMMANDS, run_subcommand
from moe_live.config import Config, parse
from moe_live.errors import MoeLiveError, StoppedError, UsageError, printable

if TYPE_CHECKING:
    from moe_live.analyzer import Settings
    from moe_live.formats.records import LineTally
    from moe_live.session import Session
    from moe_live.snapshot import Snapshot
    from moe_live.sources.source import Source
    from moe_live.terminal import Signals

_OUTPUT_ERRORS = (
    errno.EPIPE,
    errno.EIO,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EBADF,
    errno.EAGAIN,
)
"""What writing to standard output can fail of."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run with these arguments (default: those of the process) and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    # Sums of a few thousand products gain nothing from threads, which would take cores from the server.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status = 0
    try:
        with _standard_output():
            status = run_subcommand(argv) if argv[:1] and argv[0] in SUBCOMMANDS else run(parse(argv))
    except MoeLiveError as error:
        sys.stderr.write(f"moe-live: {error}\n")
        return error.exit_code
    except MemoryError:
        sys.stderr.write("moe-live: out of memory: allow it more, or try --jobs 1 or --only frequency\n")
        return 1
    return status


@contextmanager
def _standard_output() -> Iterator[None]:
    """Writes out what is printed herein. A reader who has had enough ends that without a word.

    Raises:
        MoeLiveError: it cannot be written.
    """
    try:
        try:
            yield
        except StoppedError:  # perhaps because nobody takes what is printed
            _discard_output()
            raise
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in _OUTPUT_ERRORS:
            raise
        # `isatty` says no of a terminal that has gone.
        is_terminal = stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode)
        _discard_output()
        if error.errno == errno.EPIPE:
            return
        if error.errno == errno.EIO and is_terminal:
            raise StoppedError("the terminal has gone", signal.SIGHUP) from error
        raise MoeLiveError(f"cannot write the output: {error.strerror}; write it elsewhere") from error


def _discard_output() -> None:
    """Give up what is still buffered: it must not fail, or wait, again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(config: Config) -> int:
    """Read, show and report as configured; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    from moe_live.reports.files import check_destination
    from moe_live.reports.hot_list import HOT_LIST
    from moe_live.reports.json_report import JSON_SUMMARY
    from moe_live.sources.label_file import check_label_file
    from moe_live.terminal import Signals

    logs = config.paths or (config.follow or "/dev/stdin",)
    taken = [(path, "the log itself") for path in logs]
    if config.label_file is not None:
        check_label_file(config.label_file)
        taken.append((config.label_file, "the file of labels"))
    if config.json not in (None, "-"):
        check_destination(config.json, JSON_SUMMARY, taken)
        taken.append((config.json, "where the JSON summary goes"))
    if config.hot_list is not None:
        check_destination(config.hot_list, HOT_LIST, taken)
    problem: MoeLiveError | None = None
    with Signals() as signals, _source(config) as (source, names):
        session = _session(config, source, names)
        try:
            _show(session, signals, config)
        except UsageError:
            raise
        except MoeLiveError as error:  # what was read until then still has its summary
            problem = error
        interrupted = config.paths and signals.stop is not None and not session.ended
        ended_by = signals.stop
        snapshot = _finish(session, signals)
        if interrupted:
            read = session.status().source
            whole = "" if read.size is None else f" of {read.size:,}"
            sys.stderr.write(f"moe-live: interrupted after {read.position:,}{whole} bytes\n")
        with signals.breaking(), _standard_output():
            _report(snapshot, config)
    if problem is not None:
        raise problem
    for number in (ended_by, signals.stop):
        if number not in (None, signal.SIGINT):
            return 128 + number
    _check_usable(snapshot, config, complete=bool(config.paths) and not interrupted)
    return 0


def _session(config: Config, source: Source, names: tuple[str, ...]) -> Session:
    """One that reads with several processes where that is worth while."""
    from moe_live.analyzer import Analyzer
    from moe_live.session import READ_AHEAD, Session

    settings = _settings(config)
    if config.jobs > 1 and config.paths and config.label_file is None:
        from moe_live.parallel import ParallelSession
        from moe_live.parts import plan
        from moe_live.workers import start_workers

        parts = plan(config.paths, config.jobs, settings)
        if workers := start_workers(min(config.jobs, len(parts)), settings):
            return ParallelSession(source, parts, workers, settings, paths=names)
    return Session(
        source,
        Analyzer(settings, paths=names),
        read_ahead=0 if config.paths else READ_AHEAD,
        label_file=config.label_file,
        reset_on_restart=config.reset_on_restart,
    )


def _settings(config: Config) -> Settings:
    from moe_live.analyzer import Settings
    from moe_live.snapshot import RowMode

    return Settings(
        rows=RowMode(config.rows),
        include_prompt=config.include_prompt,
        gate_layers=config.gate_layers,
        n_experts=config.n_experts,
        max_slots=config.max_slots,
        window=config.window,
        label=config.label,
        counts_only=config.counts_only,
    )


@contextmanager
def _source(config: Config) -> Iterator[tuple[Source, tuple[str, ...]]]:
    """The source of bytes, closed at the end, and the names of what it reads."""
    from moe_live.sources.archive import ArchiveSource
    from moe_live.sources.follow import Follower
    from moe_live.sources.pipe import PipeSource

    with ExitStack() as stack:
        source: Source
        if config.paths:
            source, names = ArchiveSource(config.paths), config.paths
        elif config.follow is not None:
            source, names = Follower(config.follow, from_end=config.from_end), (config.follow,)
        elif config.demo:
            from moe_live.simulator.writer import demo_server

            log = stack.enter_context(demo_server())
            source, names = Follower(log), (str(log),)
        else:
            source, names = PipeSource(0, "standard input"), ("-",)
        stack.callback(source.close)
        yield source, names


def _show(session: Session, signals: Signals, config: Config) -> None:
    """Read until the end, a key or a signal, and show how it goes."""
    # The only threads are the file watcher's. That one died is noticed and shown; its traceback would spoil
    # the screen.
    threading.excepthook = lambda _: None
    live = not config.paths
    if live and config.dashboard and config.json != "-" and _has_screen():
        from moe_live.dashboard.run import run_dashboard
        from moe_live.dashboard.theme import Theme

        run_dashboard(
            session,
            signals,
            refresh=config.refresh,
            color=config.color,
            theme=Theme(config.theme),
            ascii_only=config.ascii,
        )
    else:
        _show_plainly(
            session, signals, config, keys=live and os.name == "posix" and os.isatty(1) and os.isatty(2)
        )
    if live and not session.ended:
        session.drain()


def _show_plainly(session: Session, signals: Signals, config: Config, *, keys: bool) -> None:
    """Read until the end, a signal or, where keys are taken, q; they are not echoed."""
    from moe_live.reports.plain import run_plain
    from moe_live.terminal import Terminal

    quits = False
    with ExitStack() as stack:
        terminal = stack.enter_context(Terminal(signals, draws=False)) if keys else None

        def wait(seconds: float) -> None:
            nonlocal quits
            descriptor = session.source.wake_fd()
            descriptors = () if descriptor is None else (descriptor,)
            if terminal is None:
                signals.wait(seconds, descriptors)
            else:
                quits |= b"q" in terminal.wait(seconds, descriptors)

        run_plain(
            session,
            stderr=sys.stderr,
            stop=lambda: signals.stop is not None or quits,
            wait=wait,
            no_color=config.color == "never",
        )


def _finish(session: Session, signals: Signals) -> Snapshot:
    """The final statistics; those who find that analyzing the rest takes too long can do without it."""
    from moe_live.session import READ_SIZE
    from moe_live.terminal import BREAKING

    if session.held < READ_SIZE:
        return session.finish()
    left = f"{session.held / 1e6:,.1f} MB still to analyze"
    sys.stderr.write(f"moe-live: finishing: {left}; Ctrl-C ends it without them\n")
    signals.rearm()
    return session.finish(lambda: signals.stop in BREAKING)


def _has_screen() -> bool:
    """Whether standard output is a terminal that can be drawn on."""
    return os.name == "posix" and os.isatty(1) and os.environ.get("TERM", "") not in ("", "dumb")


def _report(snapshot: Snapshot, config: Config) -> None:
    from moe_live.reports.hot_list import write_hot_list
    from moe_live.reports.json_report import write_json
    from moe_live.reports.summary import write_summary

    with ExitStack() as outputs:  # the last first, and each of them even if another fails
        if config.json != "-":
            outputs.callback(sys.stdout.flush)
            outputs.callback(write_summary, snapshot, sys.stdout, top=config.top)
        if config.hot_list is not None:
            outputs.callback(write_hot_list, snapshot, config.hot_list, config.hot_experts or 0)
        if config.json is not None:
            outputs.callback(write_json, snapshot, config.json)


def _check_usable(snapshot: Snapshot, config: Config, *, complete: bool) -> None:
    """Fail if lines were read and not one was of use, or if finished files, read completely, hold none."""
    tally = snapshot.input.tally
    if tally.lines > tally.malformed_lines + tally.header_lines + tally.label_lines:
        return
    name = printable(config.follow or (config.paths or ("standard input",))[0])
    if len(config.paths) > 1:
        name = f"{len(config.paths)} files"
    if tally.malformed_lines:
        sample = printable(tally.samples[0][:60])
        raise MoeLiveError(
            f"no usable line in {name}, whose first is {sample!r}: is it a log of MoE routing?"
        )
    if complete:
        raise MoeLiveError(f"no usable line in {name}: {_contents(tally)}")


def _contents(tally: LineTally) -> str:
    """What there is instead of lines about experts or gate inputs."""
    if not tally.bytes:
        return "the log is empty"
    if tally.nul_bytes == tally.bytes:
        return f"all {tally.bytes:,} bytes are NUL"
    if not tally.lines:
        return "no line is complete, there is no newline"
    return "nothing but a header" if tally.header_lines else "nothing but labels"
