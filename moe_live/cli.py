"""The command line: arguments to a frozen configuration to a run, and errors to exit codes.

What is imported on top is what `--help` needs; numpy and rich are imported when there is something to do.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from moe_live import view_names
from moe_live.arguments import label_of
from moe_live.capture.supervisor import LaunchError
from moe_live.commands import COMMANDS
from moe_live.config import RUN, Config, parse
from moe_live.descriptors import can_open
from moe_live.errors import MoeLiveError, UsageError, printable
from moe_live.outlet import standard_output
from moe_live.outputs.live import LiveOutputs
from moe_live.plans.given import UNKNOWN_SIZES, Given
from moe_live.settings import DEFAULT_LATEST_USES

if TYPE_CHECKING:
    from moe_live.capture.run import CommandSource
    from moe_live.checkpoint import Checkpoint
    from moe_live.plans.live import LivePlans
    from moe_live.resumption import Resumed
    from moe_live.running import LiveRun, Run
    from moe_live.snapshot import Snapshot
    from moe_live.sources.several import FollowedLogs
    from moe_live.sources.source import Source
    from moe_live.terminal import Signals

_RAISE_LIMIT = "raise the limit, as by ulimit -n 64"


def main(argv: Sequence[str] | None = None) -> int:
    """Run with these arguments (default: those of the process) and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    # Sums of a few thousand products gain nothing from threads, which would take cores from the server.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    status, config = 0, None
    try:
        with standard_output():
            if argv and (command := COMMANDS.get(argv[0])):
                _collect_garbage()
                status = command.run(argv)
            else:
                config = parse(argv)
                status = run(config)
    except MoeLiveError as error:
        own = argv[:1] == [RUN] and error.exit_code <= UsageError.exit_code
        return _fail(str(error), LaunchError.exit_code if own else error.exit_code)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return _fail(f"too many files are open; {_RAISE_LIMIT}", UsageError.exit_code)
    except MemoryError:
        return _fail(f"out of memory: {_with_less_memory(config)}", 1)
    return status


def _collect_garbage() -> None:
    """From now on, if it was not; what is loaded stays, and is not looked at."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _fail(message: str, status: int) -> int:
    """Say it in one line, whatever has come into it from outside; returns the exit status."""
    sys.stderr.write(f"moe-live: {printable(message)}\n")
    return status


def _with_less_memory(config: Config | None) -> str:
    """What else somebody can try whose memory does not suffice for this."""
    ways = ["allow it more"]
    if config is not None and config.several_jobs:
        ways.append("try --jobs 1")
    if config is not None and not config.settings.counts_only:
        ways.append("try --only frequency")
    return ", or ".join(ways)


def run(config: Config) -> int:
    """Read, show and report as configured; returns the exit status.

    Raises:
        MoeLiveError: something a user can act on.
    """
    if config.browse and not _has_dashboard(config):
        raise UsageError("--browse needs a terminal, and no --no-dashboard, --only or --json -")
    _check_descriptors(config)
    from moe_live.conclusion import conclude, tell_of_nothing
    from moe_live.plans.live import LivePlans, with_plans
    from moe_live.plans.progress import bar
    from moe_live.reports.files import check_destination
    from moe_live.reports.unusable import has_usable_lines
    from moe_live.sources.label_file import check_label_file
    from moe_live.terminal import Signals

    if config.launch is not None:
        logs: tuple[str, ...] = tuple(filter(None, (config.launch.log, config.launch.drafts)))
    else:
        logs = config.paths or config.follow or ("/dev/stdin",)
    taken = [(path, "the log itself") for path in logs]
    if config.state is not None:
        check_destination(config.state, "the state", taken)
        taken.append((config.state, "the state"))
    if config.label_file is not None:
        check_label_file(config.label_file)
        taken.append((config.label_file, "the file of labels"))
    for destination in filter(None, (output.destination for output in config.outputs)):
        check_destination(destination.path, destination.what, taken)
        taken.append((destination.path, f"where {destination.what} goes"))
    given = _given(config)
    problem: MoeLiveError | None = None
    plans = LivePlans(given, follows=not config.paths)
    is_browsed = (config.browse or not config.paths) and _has_dashboard(config)
    if given.asked or is_browsed or (config.once is not None and _shown_once(config.once)):
        config = replace(config, settings=replace(config.settings, latest_uses=DEFAULT_LATEST_USES))
    resumed = checkpoint = None
    if config.state is not None:
        from moe_live.resumption import checkpoint_of, resume

        resumed = resume(config.state, config, asked=bool(given.asked))
    if resumed is not None and config.paths:
        config = replace(config, paths=resumed.unread(config.paths))
        resumed.analyzer.add_paths(config.paths)
    # Plans that nobody asked for are for the eye.
    outputs = LiveOutputs(config.outputs, lambda snapshot: plans.add_to(snapshot, given.asked))
    with Signals() as signals, _source(config, signals, resumed) as (source, names, command):
        if config.state is not None:
            checkpoint = checkpoint_of(config.state, config, source, resumed)
        session = _session(config, source, names, checkpoint, resumed)
        _collect_garbage()
        try:
            with outputs:
                _show(session, signals, config, outputs, plans)
        except UsageError:
            raise
        except MoeLiveError as error:  # what was read until then still has its summary
            problem = error
        ended, asked, status = session.ended, signals.stop, session.status()
        if command is not None and problem is None:
            _end_command(command, session, signals)
        snapshot = _finish(session, signals)
        if config.once is not None:
            snapshot = plans.add_to(snapshot, _shown_once(config.once))
        if given.asked and (config.once is None or config.outputs):
            with bar("plans") as progress:
                snapshot = with_plans(snapshot, given, progress)
        if config.paths and not ended and (asked is not None or (config.browse and problem is None)):
            read = session.status().source
            whole = "" if read.total is None else f" of {read.total:,}"
            sys.stderr.write(f"moe-live: interrupted after {read.position:,}{whole} bytes\n")
        if checkpoint is not None and checkpoint.problem:
            problem = problem or MoeLiveError(checkpoint.problem)
        for failure in outputs.problems:
            sys.stderr.write(f"moe-live: warning: {failure}\n")
        if command is not None:
            command.tell_of_end(computed=has_usable_lines(snapshot.input.tally))
        ended_by = _ended_by(asked, signals.stop)
        with signals.breaking(), standard_output(ended_by):
            outputs.take_steps(session)
            conclude(snapshot, status, config, outputs)
        ended_by = _ended_by(ended_by, signals.stop)
    if problem is not None:
        raise problem
    if command is not None:
        return command.exit_status
    if not has_usable_lines(snapshot.input.tally):
        tell_of_nothing(snapshot, config, ended=ended, killed=ended_by is not None)
    return 0 if ended_by is None else 128 + ended_by


def _given(config: Config) -> Given:
    """What plans go by: the options, and the model that the command loads.

    Raises:
        UsageError: the model cannot be read, and the user names it, or asks for what needs it.
    """
    given = config.given
    if config.model is not None:
        from moe_live.plans.expert_bytes import model_bytes

        return replace(given, model=model_bytes(config.model))
    if config.launch is None or given.expert_bytes:
        return given
    from moe_live.capture.model_name import model_file
    from moe_live.plans.expert_bytes import model_bytes

    model = model_file(config.launch.command[1:], os.environ)
    with nullcontext() if given.budgets else suppress(UsageError):  # it is the command's to complain
        if model is not None:
            return replace(given, model=model_bytes(model))
        if given.budgets:
            raise UsageError(UNKNOWN_SIZES)
    return given


def _shown_once(name: str) -> frozenset[str]:
    """The plan of a view."""
    from moe_live.dashboard.views import VIEWS

    return frozenset({VIEWS[list(view_names.VIEWS).index(name)].plan} - {""})


def _check_descriptors(config: Config) -> None:
    """See whether enough files may be open at once, before the first of them is.

    Raises:
        UsageError: too few may be.
    """
    needed = 4  # what signals wake up with (2), the input, and what is opened for a moment
    if config.follows_several:
        needed += 2 * len(config.follow)  # each log, and what it was before
    elif config.follow:
        needed += 2  # what events wake up with
    if config.demo:
        needed += 3  # the same, and the server's standard input
    if config.launch is not None:
        needed += 4  # the same, its output, and the log or a socket
    if (config.browse or not config.paths) and _has_dashboard(config):
        needed += 2  # the screen and the keys
    if not can_open(needed):
        raise UsageError(f"too few files may be open at once: {needed} more are needed; {_RAISE_LIMIT}")


def _ended_by(*numbers: signal.Signals | None) -> signal.Signals | None:
    """The first of these that asks for more than Ctrl-C does."""
    return next((number for number in numbers if number not in (None, signal.SIGINT)), None)


def _session(
    config: Config,
    source: Source,
    names: tuple[str, ...],
    checkpoint: Checkpoint | None,
    resumed: Resumed | None,
) -> Run:
    """One that reads with several processes where that is worth while."""
    settings = config.settings
    if config.follows_several:
        from moe_live.logs import Logs

        by_file = label_of if config.label_by_file else None
        return Logs(cast("FollowedLogs", source), settings, label_of=by_file, label_file=config.label_file)
    if config.paths and not settings.counts_only:
        from moe_live.kernels.loading import prepare

        prepare(source.status().total)
    if config.several_jobs:
        from moe_live.parallel.plan import plan

        if parts := plan(config.paths, config.jobs, settings):
            from moe_live.parallel.session import ParallelSession
            from moe_live.parallel.worker import start_workers

            if workers := start_workers(min(config.jobs, len(parts)), settings):
                return ParallelSession(source, parts, workers, settings, paths=names)
    from moe_live.analyzer import Analyzer
    from moe_live.session import READ_AHEAD, Session

    if resumed is not None:
        analyzer = resumed.analyzer
    else:
        analyzer = Analyzer(settings, paths=names, keep_steps=config.wants_steps)
        if checkpoint is not None:
            checkpoint.begin(analyzer)
    return Session(
        source,
        analyzer,
        read_ahead=0 if config.paths else READ_AHEAD,
        label_file=config.label_file,
        file_labels=tuple(map(label_of, config.paths or config.follow)) if config.label_by_file else (),
        checkpoint=checkpoint,
    )


@contextmanager
def _source(
    config: Config, signals: Signals, resumed: Resumed | None
) -> Iterator[tuple[Source, tuple[str, ...], CommandSource | None]]:
    """The source of bytes, closed at the end, the names of what it reads, and the command that it runs."""
    with ExitStack() as stack:
        source: Source
        names: tuple[str, ...]
        command = None
        if config.launch is not None:
            from moe_live.capture.run import started

            source = command = stack.enter_context(started(config.launch, signals))
            names = (source.status().name,)
        elif config.paths:
            from moe_live.sources.archive import ArchiveSource

            source, names = ArchiveSource(config.paths), config.paths
        elif config.follows_several:
            from moe_live.sources.several import FollowedLogs

            ours = [output.destination.path for output in config.outputs if output.destination is not None]
            source = FollowedLogs(config.follow, from_end=config.from_end, ours=ours)
            names = config.follow
        elif config.follow:
            from moe_live.sources.follow import Follower

            (log,) = config.follow
            position = None if resumed is None else resumed.position
            follower = Follower(log, from_end=config.from_end, resume=position)
            stack.callback(follower.close)
            if resumed is not None:
                resumed.check(follower, log)
            source, names = follower, (log,)
        elif config.demo:
            from moe_live.simulator.writer import demo_server
            from moe_live.sources.follow import Follower

            demo = stack.enter_context(demo_server())
            source, names = Follower(demo), (str(demo),)
        else:
            from moe_live.sources.pipe import PipeSource

            source, names = PipeSource(0, "standard input"), ("-",)
        stack.callback(source.close)
        yield source, names, command


def _end_command(command: CommandSource, session: Run, signals: Signals) -> None:
    """Ask the command to end, unless it has, and read on until then; signals that come now are passed on."""
    if command.running:
        command.ask_to_end(signals.stop or signal.SIGINT)
        name = session.status().source.name
        sys.stderr.write(f"moe-live: {printable(name)} is asked to end; Ctrl-C ends it at once\n")
    signals.rearm()
    while not session.ended:
        session.ingest(0.05)
        if signals.stop is not None:
            command.ask_to_end(signals.stop)
            signals.rearm()
        descriptor = command.wake_fd()
        signals.wait(session.pause, () if descriptor is None else (descriptor,))


def _show(
    session: Run,
    signals: Signals,
    config: Config,
    outputs: LiveOutputs,
    plans: LivePlans,
) -> None:
    """Read until the end, a key or a signal, and show how it goes."""
    # The only threads are the file watcher's. That one died is noticed and shown; its traceback would spoil
    # the screen.
    threading.excepthook = lambda _: None
    live = not config.paths
    if config.once is not None and config.follow:
        _read_what_is_there(session, signals)
        return
    shown = _live_run(session) if live or config.browse else None
    if shown is not None and _has_dashboard(config):
        from moe_live.dashboard.run import run_dashboard
        from moe_live.dashboard.theme import Theme
        from moe_live.keeping import keep

        run_dashboard(
            shown,
            signals,
            publish=outputs.update,
            complete=plans.add_to,
            keep=keep,
            refresh=config.refresh,
            color=config.color,
            theme=Theme(config.theme),
            ascii_only=config.ascii,
            stays=config.browse,
        )
    else:
        _show_plainly(
            session,
            signals,
            config,
            outputs,
            keys=live and os.name == "posix" and os.isatty(1) and os.isatty(2),
        )
    if live and shown is not None and not shown.ended:
        shown.drain()


def _live_run(session: Run) -> LiveRun | None:
    """The same, if it has what a dashboard shows besides."""
    from moe_live.logs import Logs
    from moe_live.session import Session

    return session if isinstance(session, Session | Logs) else None


def _read_what_is_there(session: Run, signals: Signals) -> None:
    """Read a log that is followed as far as it goes now."""
    from moe_live.sources.source import State

    while True:
        session.ingest(0.1)
        behind = session.held or session.status().source.state is State.READING
        if signals.stop is not None or not behind:
            return
        signals.wait(session.pause)


def _show_plainly(
    session: Run, signals: Signals, config: Config, outputs: LiveOutputs, *, keys: bool
) -> None:
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
            publish=outputs.update,
            no_color=config.color == "never",
        )


def _finish(session: Run, signals: Signals) -> Snapshot:
    """The final statistics; those who find that analyzing the rest takes too long can do without it."""
    from moe_live.session import READ_SIZE
    from moe_live.terminal import BREAKING

    if session.held < READ_SIZE:
        return session.finish()
    left = f"{session.held / 1e6:,.1f} MB still to analyze"
    sys.stderr.write(f"moe-live: finishing: {left}; Ctrl-C ends it without them\n")
    signals.rearm()
    return session.finish(lambda: signals.stop in BREAKING)


def _has_dashboard(config: Config) -> bool:
    """Whether a live run is drawn: it may be, and standard output is a terminal that can be drawn on."""
    from moe_live.terminal import can_draw

    return config.dashboard and not config.stdout_taken and can_draw()
