"""The keys: what each does, where it works, and how it is called in the footer and in the help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from moe_live.dashboard.state import ViewState
from moe_live.dashboard.view import View
from moe_live.dashboard.views import VIEWS
from moe_live.formats.llama_server import MAX_LABEL


class Request(Enum):
    """What a key asks of the loop, beyond another look at the figures."""

    QUIT = "quit"
    RESET = "reset"
    REPAINT = "repaint"
    LABEL = "label"


Action = Callable[[ViewState], Request | None]
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


def _quit(_state: ViewState) -> Request:
    return Request.QUIT


def _repaint(_state: ViewState) -> Request:
    return Request.REPAINT


def _help(state: ViewState) -> None:
    state.help = not state.help


def _pause(state: ViewState) -> None:
    state.paused = not state.paused


def _phase(state: ViewState) -> None:
    if VIEWS[state.view].phases:
        state.phase = state.phase.next


def _sort(state: ViewState) -> None:
    if sorts := VIEWS[state.view].sorts:
        state.place.sort = (state.place.sort + 1) % len(sorts)
        state.place.reverse = False
        state.place.offset = 0


def _reverse(state: ViewState) -> None:
    if VIEWS[state.view].sorts:
        state.place.reverse = not state.place.reverse
        state.place.offset = 0


def _reset(state: ViewState) -> Request | None:
    if state.confirming:
        state.confirming = False
        return Request.RESET
    state.confirming = True
    return None


def _escape(state: ViewState) -> None:
    state.help = False


def _begin_label(state: ViewState) -> None:
    state.entry = ""


def _type(state: ViewState, key: str) -> Request | None:
    """Take a key as part of a label: from `_begin_label` on until Enter or Esc."""
    typed = state.entry or ""
    if key == "enter":
        state.label, state.entry = typed.strip(), None
        return Request.LABEL
    if key == "esc":
        state.entry = None
    elif key == "backspace":
        state.entry = typed[:-1]
    elif key == "ctrl-u":
        state.entry = ""
    else:
        character = " " if key == "space" else key
        if len(character) == 1 and len(typed) < MAX_LABEL:
            state.entry = typed + character
    return None


def _show(index: int) -> Action:
    def action(state: ViewState) -> None:
        state.help = False
        state.view = index

    return action


def _turn(by: int) -> Action:
    def action(state: ViewState) -> None:
        state.help = False
        state.view = (state.view + by) % len(VIEWS)

    return action


def _move(lines: int = 0, pages: int = 0) -> Action:
    def action(state: ViewState) -> None:
        place = state.place
        place.offset = max(0, place.offset + lines + pages * place.page)

    return action


_FAR = 1 << 40


def _always(label: str) -> Label:
    return lambda _state, _view: label


def _scroll_label(state: ViewState, view: View) -> str:
    return "scroll" if state.help else view.scroll


def _sort_label(state: ViewState, view: View) -> str:
    return "sort" if view.sorts and not state.help else ""


BINDINGS: tuple[Binding, ...] = (
    Binding(("q",), "q", _always("quit"), "quit and print the summary (so does Ctrl-C)", _quit),
    Binding(
        ("?", "h", "f1"),
        "?",
        lambda state, _view: "close help" if state.help else "help",
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
    Binding(("tab", "right"), "tab", _always("view"), "next view (also →)", _turn(1)),
    Binding(("shift-tab", "left"), "shift-tab", _always(""), "previous view (also ←)", _turn(-1)),
    *(
        Binding((view.key,), view.key, _always(""), f"view {view.title}", _show(i))
        for i, view in enumerate(VIEWS)
    ),
    Binding(("down", "j"), "↑↓", _scroll_label, "one line down (also j)", _move(lines=1)),
    Binding(("up", "k"), "↑", _always(""), "one line up (also k)", _move(lines=-1)),
    Binding(("pgdn", "ctrl-f", "ctrl-d"), "PgDn", _always(""), "one page down", _move(pages=1)),
    Binding(("pgup", "ctrl-b", "ctrl-u"), "PgUp", _always(""), "one page up", _move(pages=-1)),
    Binding(("home", "g"), "Home", _always(""), "to the beginning (also g)", _move(lines=-_FAR)),
    Binding(("end", "G"), "End", _always(""), "to the end (also G)", _move(lines=_FAR)),
    Binding(("s",), "s", _sort_label, "next order of the rows", _sort),
    Binding(
        ("r",),
        "r",
        lambda state, view: "reverse" if view.sorts and not state.help else "",
        "turn the order around",
        _reverse,
    ),
    Binding(
        ("p",),
        "p",
        lambda state, view: "phase" if view.phases and not state.help else "",
        "count all steps, only prefill, only decode",
        _phase,
    ),
    Binding(("l",), "l", _always("label"), "say what kind of prompts run from now on", _begin_label),
    Binding(("R",), "R", _always("start anew"), "start the statistics anew (press twice)", _reset),
    Binding(("ctrl-l",), "Ctrl-L", _always(""), "draw the screen again", _repaint),
    Binding(("esc",), "Esc", _always(""), "close the help; do not start anew", _escape),
)

_BY_KEY = {key: binding for binding in BINDINGS for key in binding.keys}


def press(state: ViewState, key: str) -> Request | None:
    """Do what a key does; keys that mean nothing do nothing, except that any key but R calls R off."""
    if state.entry is not None:
        return _type(state, key)
    binding = _BY_KEY.get(key)
    if key != "R":
        state.confirming = False
    return None if binding is None else binding.action(state)
