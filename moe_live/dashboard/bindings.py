"""The keys: what each does, where it works, and how it is called in the footer and in the help."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from moe_live.dashboard.cache_size import resize
from moe_live.dashboard.moves import (
    go_back,
    go_to,
    move_columns,
    move_rows,
    open_experts,
    show,
    show_first,
    view_of,
)
from moe_live.dashboard.state import Asking, Kept, Prompt, ViewState
from moe_live.dashboard.view import View
from moe_live.dashboard.views import INPUT, VIEWS
from moe_live.dataclass import dataclass
from moe_live.formats.comments import MAX_LABEL
from moe_live.snapshot import Snapshot


class Request(Enum):
    """What a key asks of the loop, beyond another look at the figures."""

    QUIT = "quit"
    RESET = "reset"
    REPAINT = "repaint"
    LABEL = "label"
    MOUSE = "mouse"
    WRITE = "write"


Action = Callable[[ViewState, Snapshot], Request | None]
Label = Callable[[ViewState, View], str]


@dataclass(frozen=True, slots=True)
class Binding:
    """Keys that do the same thing.

    Attributes:
        keys: their names.
        hint: how they are shown.
        label: what they do, in the footer; "" if they do nothing now.
        help: what they do, in the help.
        action: does it.
    """

    keys: tuple[str, ...]
    hint: str
    label: Label
    help: str
    action: Action


def _asks(request: Request) -> Action:
    return lambda _state, _snapshot: request


def _help(state: ViewState, _snapshot: Snapshot) -> None:
    state.help = not state.help
    if state.help:
        state.place.rows.first = 0


def _pause(state: ViewState, _snapshot: Snapshot) -> None:
    state.paused = not state.paused


def _fold(state: ViewState, _snapshot: Snapshot) -> None:
    state.folded = not state.folded


def _phase(state: ViewState, _snapshot: Snapshot) -> None:
    if view_of(state).phases:
        state.phase = state.phase.next


def _cell(state: ViewState, _snapshot: Snapshot) -> None:
    state.cell_of = state.cell_of.other


def _zoom(by: int) -> Action:
    def action(state: ViewState, _snapshot: Snapshot) -> None:
        if view_of(state).zooms:
            state.place.zoom = max(0, state.place.zoom + by)
            state.place.rows.shows = state.place.columns.shows = None

    return action


def _size(by: int) -> Action:
    def action(state: ViewState, snapshot: Snapshot) -> None:
        if view_of(state).caches:
            resize(state, snapshot, by)

    return action


def _sort(state: ViewState, snapshot: Snapshot) -> None:
    if sorts := view_of(state).sorts:
        state.place.sort = (state.place.sort + 1) % len(sorts)
        state.place.reverse = False
        show_first(state, snapshot)


def _reverse(state: ViewState, snapshot: Snapshot) -> None:
    if view_of(state).sorts:
        state.place.reverse = not state.place.reverse
        show_first(state, snapshot)


def _mouse(state: ViewState, _snapshot: Snapshot) -> Request:
    state.mouse = not state.mouse
    state.note = "the mouse selects, scrolls, clicks tabs" if state.mouse else "the mouse is the terminal's"
    return Request.MOUSE


def _reset(state: ViewState, _snapshot: Snapshot) -> Request | None:
    if state.confirming:
        state.confirming = False
        return Request.RESET
    state.confirming = True
    return None


def _escape(state: ViewState, _snapshot: Snapshot) -> None:
    if state.help:
        state.help = False
    else:
        go_back(state)


def _ask(asking: Asking) -> Action:
    def action(state: ViewState, _snapshot: Snapshot) -> None:
        state.prompt = Prompt(asking)

    return action


def _type(state: ViewState, snapshot: Snapshot, prompt: Prompt, key: str) -> Request | None:
    """Take a key as part of what is typed: until Enter or Esc."""
    typed = prompt.typed
    if prompt.asking is Asking.WRITE:
        keys = {kept.value: kept for kept in Kept}
        if key in ("esc", *keys):
            state.prompt = None
        if key not in keys:
            return None
        state.kept = keys[key]
        return Request.WRITE
    if key == "enter":
        state.prompt = None
        if prompt.asking is Asking.LABEL:
            state.label = typed.strip()
            return Request.LABEL
        go_to(state, snapshot, typed)
    elif key == "esc":
        state.prompt = None
    elif key == "backspace":
        state.prompt = prompt.with_typed(typed[:-1])
    elif key == "ctrl-u":
        state.prompt = prompt.with_typed("")
    else:
        character = " " if key == "space" else key
        if len(character) == 1 and len(typed) < MAX_LABEL:
            state.prompt = prompt.with_typed(typed + character)
    return None


def _show(index: int) -> Action:
    return lambda state, _snapshot: show(state, index)


def _turn(by: int) -> Action:
    return lambda state, _snapshot: show(state, state.view + by)


def _rows(lines: int = 0, pages: int = 0) -> Action:
    return lambda state, snapshot: move_rows(state, snapshot, lines, pages)


def _columns(cells: int = 0, pages: int = 0) -> Action:
    return lambda state, snapshot: move_columns(state, snapshot, cells, pages)


_FAR = 1 << 40


def _always(label: str) -> Label:
    return lambda _state, _view: label


def _in_view(label: str, works: Callable[[View], object]) -> Label:
    """What keys do that work in some views, and never in the help."""
    return lambda state, view: label if works(view) and not state.help else ""


def _arrows(state: ViewState, view: View) -> str:
    return "scroll" if state.help or view.rows is None else "move"


BINDINGS: tuple[Binding, ...] = (
    Binding(("q",), "q", _always("quit"), "quit and print the summary (so does Ctrl-C)", _asks(Request.QUIT)),
    Binding(
        ("?", "h", "f1"),
        "?",
        lambda state, _view: "close" if state.help else "help",
        "show or close this help",
        _help,
    ),
    Binding(
        ("space",),
        "space",
        lambda state, _view: "go on" if state.paused else "pause",
        "hold the figures still; reading goes on",
        _pause,
    ),
    Binding(("down", "j"), "↑↓", _arrows, "the next row, or line (also j)", _rows(lines=1)),
    Binding(("up", "k"), "↑", _always(""), "the row, or line, before (also k)", _rows(lines=-1)),
    Binding(
        ("enter",),
        "Enter",
        _in_view("open", lambda view: view.opens),
        "look at the experts of the chosen layer; Esc goes back",
        open_experts,
    ),
    Binding(
        ("esc",),
        "Esc",
        lambda state, _view: "close" if state.help else "back" if state.back else "",
        "close the help, go back, or do not start anew",
        _escape,
    ),
    Binding(
        ("right",),
        "→",
        _always(""),
        "the next expert in the heatmap, the next layer in Experts and Pairs",
        _columns(cells=1),
    ),
    Binding(("left",), "←", _always(""), "the expert, or layer, before", _columns(cells=-1)),
    Binding(("z",), "z", _in_view("zoom", lambda view: view.zooms), "look closer, up to figures", _zoom(1)),
    Binding(("Z",), "Z", _always(""), "look from farther away, until everything is seen", _zoom(-1)),
    Binding((">", "."), ">", _always(""), "a screenful of experts to the right", _columns(pages=1)),
    Binding(("<", ","), "<", _always(""), "a screenful of experts to the left", _columns(pages=-1)),
    Binding(
        ("s",),
        "s",
        _in_view("sort", lambda view: view.sorts),
        "the next order: of rows, or of experts",
        _sort,
    ),
    Binding(
        ("p",),
        "p",
        _in_view("phase", lambda view: view.phases),
        "count all steps, only prefill, only decode",
        _phase,
    ),
    Binding(("R",), "R", _always("reset"), "start the statistics anew (press twice)", _reset),
    Binding(("/",), "/", _always("go"), "go to a layer or an expert by its number", _ask(Asking.GO_TO)),
    Binding(("l",), "l", _always("label"), "say what kind of prompts run from now on", _ask(Asking.LABEL)),
    Binding(("r",), "r", _in_view("reverse", lambda view: view.sorts), "turn the order around", _reverse),
    Binding(
        ("c",),
        "c",
        lambda state, view: state.cell_of.other.value if view.zooms and not state.help else "",
        "a cell of several experts shows the hottest of them, or their mean",
        _cell,
    ),
    Binding(
        ("+", "="),
        "+",
        _in_view("larger", lambda view: view.caches),
        "a larger cache, in Locality",
        _size(1),
    ),
    Binding(("-", "_"), "-", _in_view("smaller", lambda view: view.caches), "a smaller one", _size(-1)),
    Binding(
        ("b",),
        "b",
        lambda state, _view: "unfold" if state.folded else "fold",
        "fold the warnings at the top away, or unfold them",
        _fold,
    ),
    Binding(
        ("m",),
        "m",
        lambda state, _view: "no mouse" if state.mouse else "mouse",
        "leave the mouse to the terminal, to mark text with it, or take it back",
        _mouse,
    ),
    Binding(("tab",), "tab", _always("view"), "the next view", _turn(1)),
    Binding(("shift-tab",), "shift-tab", _always(""), "the view before", _turn(-1)),
    *(
        Binding((view.key,), view.key, _always(""), f"view {view.title}", _show(i))
        for i, view in enumerate(VIEWS)
    ),
    Binding(("e",), "e", _always(""), "lines that could not be used, and why: view Input", _show(INPUT)),
    Binding(("pgdn", "ctrl-f", "ctrl-d"), "PgDn", _always(""), "one page down", _rows(pages=1)),
    Binding(("pgup", "ctrl-b", "ctrl-u"), "PgUp", _always(""), "one page up", _rows(pages=-1)),
    Binding(("home", "g"), "Home", _always(""), "to the first (also g)", _rows(lines=-_FAR)),
    Binding(("end", "G"), "End", _always(""), "to the last (also G)", _rows(lines=_FAR)),
    Binding(
        ("w",),
        "w",
        _always("write"),
        "write the figures (JSON, tables, a page) or a picture of this view to a file",
        _ask(Asking.WRITE),
    ),
    Binding(("ctrl-l",), "Ctrl-L", _always(""), "draw the screen again", _asks(Request.REPAINT)),
)

_BY_KEY = {key: binding for binding in BINDINGS for key in binding.keys}


def press(state: ViewState, key: str, snapshot: Snapshot) -> Request | None:
    """Do what a key does to what is seen of the snapshot.

    Keys that mean nothing do nothing, except that any key but R calls R off.
    """
    state.note = ""
    if state.prompt is not None:
        return _type(state, snapshot, state.prompt, key)
    if key != "R":
        called_off, state.confirming = state.confirming, False
        if called_off and key == "esc":
            return None
    binding = _BY_KEY.get(key)
    return None if binding is None else binding.action(state, snapshot)
