"""The sections of the reports, in the order of the text: one module each."""

from moe_live.reports.section import ReportSection
from moe_live.reports.sections import (
    balance,
    cache,
    distances,
    drift,
    gate_mass,
    hot_set,
    incoming,
    labels,
    locality,
    next_layer,
    pairs,
    usage,
    verdicts,
)

SECTIONS: tuple[ReportSection, ...] = (
    incoming.SECTION,
    verdicts.SECTION,
    usage.SECTION,
    distances.SECTION,
    balance.SECTION,
    hot_set.SECTION,
    gate_mass.SECTION,
    locality.SECTION,
    cache.SECTION,
    next_layer.SECTION,
    pairs.SECTION,
    drift.SECTION,
    labels.SECTION,
)
