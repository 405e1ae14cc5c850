"""A real browser for tests: one headless Chromium, and pages that note what must not happen to them."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One headless Chromium for all tests; tests/conftest.py alone imports it, since Playwright starts once in a
    process and every module that imports a fixture has one of its own."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with driver.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield running
        running.close()


class Opened:
    """A page in the browser, with everything that must not happen to it."""

    def __init__(self, browser: Any, file: Path, html: str, **settings: Any) -> None:
        file.write_text(html, "utf-8")
        self.context = browser.new_context(
            **({"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | settings)
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.troubles: list[str] = []
        self.page.on("console", lambda message: self.troubles.append(message.text))
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.troubles.append(dialog.message), dialog.dismiss()))
        self.page.on("popup", lambda popup: self.troubles.append(f"opened {popup.url}"))
        self.page.on("request", self._asked)
        self.file = file.as_uri()
        self.page.goto(self.file)

    def _asked(self, request: Any) -> None:
        if request.url.split("#")[0].split("?")[0] != self.file and not request.url.startswith("blob:"):
            self.troubles.append(f"asked for {request.url}")

    def __enter__(self) -> Any:
        return self.page

    def __exit__(self, kind: object, *rest: object) -> None:
        self.context.close()
        if kind is None:
            assert self.troubles == []


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Any:
    return functools.partial(Opened, browser, tmp_path / "audit.html")
