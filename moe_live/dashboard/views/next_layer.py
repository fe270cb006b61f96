"""How well the experts of one layer foretell those of the next."""

from __future__ import annotations

import math

from rich.segment import Segment

from moe_live.dashboard.canvas import Column, Line, bar, text
from moe_live.dashboard.listing import Listing, Order
from moe_live.dashboard.selection import Axis
from moe_live.dashboard.state import ViewState
from moe_live.dashboard.theme import BAR, CAUTION, STRONG
from moe_live.dashboard.view import View, absent
from moe_live.formatting import percents, short, whole
from moe_live.judgement import median
from moe_live.snapshot import LayerTransition, Section, Snapshot
from moe_live.structure import FEW_TESTED
from moe_live.wrapping import wrap

_BAR = 24


def _points(transition: LayerTransition) -> str:
    gain, error = 100 * transition.gain, 100 * transition.gain_error
    if not math.isfinite(gain):
        return "–"
    return f"{round(gain, 1) + 0.0:+.1f}" + (f" ±{error:.1f}" if math.isfinite(error) else "")


def _certain(transition: LayerTransition) -> float:
    """The gain as far as it is certain, which puts those of few tokens last."""
    return transition.certain if math.isfinite(transition.certain) else -math.inf


def _tested(transition: LayerTransition) -> str | Segment:
    shown = str(transition.tested)
    return text(shown, CAUTION) if transition.tested < FEW_TESTED else shown


_COLUMNS: tuple[Column[LayerTransition], ...] = (
    Column("layers", 10, lambda t: f"{t.from_layer} → {t.to_layer}", right=False),
    Column("found", 7, lambda t: percents(t.hit_rate)),
    Column("most used", 10, lambda t: percents(t.static_hit_rate)),
    Column("chance", 6, lambda t: percents(t.chance)),
    Column("gain", 11, _points),
    Column("tokens", 7, lambda t: short(t.tokens), optional=2),
    Column("tested", 6, _tested, optional=1),
    Column("", _BAR, lambda t: text(bar(t.hit_rate, _BAR) if t.tested else "", BAR), right=False, optional=3),
)
_LISTING: Listing[LayerTransition] = Listing(
    lambda t: t.from_layer,
    (
        Order("gain", _certain),
        Order("found", lambda t: t.hit_rate),
        Order("layers", lambda t: t.from_layer, ascending=True),
    ),
)


def _axis(snapshot: Snapshot, state: ViewState) -> Axis:
    return _LISTING.axis(snapshot.transitions or (), state)


def render(snapshot: Snapshot, state: ViewState, width: int, height: int) -> list[Line]:
    """The median and a row for every two consecutive layers."""
    transitions = snapshot.transitions
    if transitions is None:
        return absent(snapshot)
    if not transitions:
        reason = "No token with rows in two consecutive layers so far."
        if len(snapshot.layers) > 1:
            reason = "Nothing to compare: no token with rows in consecutive layers yet, or a model too large."
        return [(text(part, CAUTION),) for part in wrap(reason, width, 3)]
    found = percents(median([t.hit_rate for t in transitions]))
    static = percents(median([t.static_hit_rate for t in transitions]))
    chance = percents(median([t.chance for t in transitions]))
    tested = max(t.tested for t in transitions)
    title: list[Line] = [
        (text(f"{found} of the next layer's experts foretold", STRONG),),
        (text(f"most used {static}"),),
        (text(f"chance {chance}"),),
    ]
    if tested < FEW_TESTED:
        title.append((text(f"few tokens tested ({whole(tested)}): rates are rough", CAUTION),))
    return _LISTING.lines(transitions, _COLUMNS, state, width=width, height=height, title=title)


VIEW = View(
    key="0",
    title="Next layer",
    brief="Nex",
    render=render,
    gist="Could experts be fetched ahead? Found: share foretold by those one layer before.",
    reading=(
        "From the experts a token uses in one layer the k experts of the next are predicted that most "
        "often followed them; found is the share of the token's experts among these. Most used is the "
        "share found by always predicting the same k, chance is k/E. Tested on a random sample of the "
        "tokens, each predicted from all others. Gain is what knowing the layer before adds, in percentage "
        "points with its standard error: both learned on one half of the sample and tested on the other, "
        "which finds less than all others would. Testing takes a while, so each frame tests two "
        "rows again, in turn; tokens tells how many a row rests on. Prefetching pays where the gain is large."
    ),
    sections=frozenset({Section.TRANSITIONS}),
    rows=_axis,
    opens=True,
    sorts=_LISTING.sorts,
)
