"""The file with the options that somebody always gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_live.cli import main
from moe_live.config import parse
from moe_live.defaults import KEYS, config_file, default_options
from moe_live.errors import MoeLiveError, UsageError

GOOD = {
    "rows": '"logged"',
    "include-prompt": "true",
    "max-slots": "8",
    "window": "100",
    "full": "true",
    "top": "3",
    "no-dashboard": "true",
    "refresh": "2.5",
    "color": '"never"',
    "theme": '"light"',
    "ascii": "true",
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "moe-live" / "config.toml"
    path.parent.mkdir()
    return path


def test_where_it_is() -> None:
    assert config_file({"XDG_CONFIG_HOME": "/x"}) == Path("/x/moe-live/config.toml")
    assert config_file({}) == Path("~/.config/moe-live/config.toml").expanduser()


def test_each_key_is_the_option_of_that_name(file: Path) -> None:
    assert set(GOOD) == set(KEYS)
    plain = parse(["--follow", "x"])
    for key, value in GOOD.items():
        file.write_text(f"{key} = {value}\n")
        words = [f"--{key}"] if value == "true" else [f"--{key}", value.strip('"')]
        assert parse(["--follow", "x"]) != plain
        with_defaults = parse(["--follow", "x"])
        file.unlink()
        assert with_defaults == parse(["--follow", "x", *words])


def test_an_option_that_is_given_overrides_it(file: Path) -> None:
    file.write_text('theme = "light"\ntop = 3\nascii = false\n')
    config = parse(["--follow", "x", "--theme", "dark"])
    assert (config.theme, config.top, config.ascii) == ("dark", 3, False)


def test_it_holds_for_run_too(file: Path) -> None:
    file.write_text('theme = "light"\n')
    assert parse(["run", "--", "true"]).theme == "light"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("themes = 1", "unknown key themes in .*; did you mean theme\\?"),
        ("json = 'x'", "unknown key json in .*; known are rows, "),
        ("[theme]\nx = 1", "theme in .* is no text, number, true or false"),
        ("top = [1]", "top in .* is no text"),
        ("theme = 'blue'", "config.toml: argument --theme: invalid choice: 'blue'"),
        ("theme = true", "config.toml: argument --theme: expected one argument"),
        ("ascii = 'yes'", "config.toml: argument --ascii: ignored explicit argument 'yes'"),
        ("top = 0", "config.toml: argument --top: '0' is not a whole number"),
        ("top", "config.toml is not TOML"),
        ("x = '\x1b\udcff'", "config.toml is not TOML"),
    ],
)
def test_what_is_wrong_in_it_is_told_in_one_line(file: Path, text: str, problem: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=problem) as error:
        parse(["--follow", "x"])
    assert str(error.value).isprintable()
    with pytest.raises(SystemExit) as end:
        main(["--help"])  # which helps even then
    assert end.value.code == 0


def test_one_that_cannot_be_read_is_told(file: Path) -> None:
    file.mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*config\.toml: Is a directory"):
        parse(["--follow", "x"])


def test_not_having_one_is_nothing_special(file: Path) -> None:
    assert default_options(file) == []
    assert default_options(file / "x") == []


@given(st.binary())
def test_whatever_it_holds_is_options_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    problem, words = "", []
    try:
        words = default_options(path)
    except MoeLiveError as error:
        problem = str(error)
    assert problem.isprintable()
    assert all(word.startswith("--") for word in words)
