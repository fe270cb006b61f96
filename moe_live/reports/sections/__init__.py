"""The sections of the reports, in the order of the text: one module each."""

from importlib import import_module

from moe_live.reports.section import ReportSection

_MODULES = (
    "incoming",
    "verdicts",
    "sources",
    "usage",
    "distances",
    "balance",
    "hot_set",
    "gate_mass",
    "locality",
    "cache",
    "offload",
    "placement",
    "prune",
    "next_layer",
    "pairs",
    "drift",
    "labels",
)

SECTIONS: tuple[ReportSection, ...] = tuple(
    import_module(f"{__name__}.{module}").SECTION for module in _MODULES
)
