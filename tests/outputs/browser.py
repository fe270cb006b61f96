"""A real browser for tests of the page: Debian's chromium, started afresh for a module of tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (on Debian: apt install chromium)"
)

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of a module."""
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        yield running
        running.close()


@dataclass
class Watched:
    """A page in the browser, and all that must not happen there.

    Attributes:
        page: what is shown.
        requests: addresses of all requests.
        complaints: messages of the console and errors of the script.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def _asked(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        self.complaints.append(f"{message.type}: {message.text}")

    def _failed(self, error: Error) -> None:
        self.complaints.append(f"error: {error}")

    def watch(self) -> None:
        """From now on."""
        self.page.on("request", self._asked)
        self.page.on("console", self._said)
        self.page.on("pageerror", self._failed)


def opened(
    browser: Browser,
    address: str,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    password: str | None = None,
) -> Watched:
    """The page at an address, with its figures; closed with the browser."""
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        http_credentials=None if password is None else {"username": "anybody", "password": password},
    )
    watched = Watched(page)
    watched.watch()
    page.goto(address)
    page.locator("#tool").filter(has_text="moe-live").wait_for()
    return watched
