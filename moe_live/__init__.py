"""Live statistics of mixture-of-experts routing, read from the log of a running llama-server.

    snapshot = moe_live.read("moe.log")                       # finished logs, .gz too: one Snapshot
    for snapshot in moe_live.follow("moe.log", every=1.0): …  # a log that grows
    analyzer = moe_live.Analyzer(moe_live.Settings(n_experts=128))
    analyzer.feed(data)                                       # bytes of a log, cut anywhere
    analyzer.feed_rows(experts)                               # or arrays (tokens, layers, k) of an engine
    moe_live.compare("a.log", "b.log").agreement              # is it still the same model?

Everything is loaded when it is first asked for.
"""

# `python -m moe_live` comes here while the current directory is in the path: nothing else is imported.
from moe_live.version import __version__

TYPE_CHECKING = False  # for whoever checks types it is true, by its name

if TYPE_CHECKING:
    from moe_live.analyzer import Analyzer
    from moe_live.errors import MoeLiveError
    from moe_live.plans.comparison import Comparison, compare
    from moe_live.reading import follow, read, read_steps
    from moe_live.settings import Phase, RowMode, Settings
    from moe_live.snapshot import Section, Snapshot
    from moe_live.statistics.step_distances import StepDistance

__all__ = [
    "Analyzer",
    "Comparison",
    "MoeLiveError",
    "Phase",
    "RowMode",
    "Section",
    "Settings",
    "Snapshot",
    "StepDistance",
    "__version__",
    "compare",
    "follow",
    "read",
    "read_steps",
]

_HOME = {
    "Analyzer": "analyzer",
    "Comparison": "plans.comparison",
    "MoeLiveError": "errors",
    "Phase": "settings",
    "RowMode": "settings",
    "Section": "snapshot",
    "Settings": "settings",
    "Snapshot": "snapshot",
    "StepDistance": "statistics.step_distances",
    "compare": "plans.comparison",
    "follow": "reading",
    "read": "reading",
    "read_steps": "reading",
}


if not TYPE_CHECKING:  # which would take every name for one there is

    def __getattr__(name: str) -> object:
        """A public name, from the module it lives in."""
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415 - see above

        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """What is loaded, and what may be."""
    return sorted({*globals(), *__all__})
