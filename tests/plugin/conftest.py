"""A browser, and the Airflow that it looks at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from plugin_stack import PluginStack, plugin_stack
from running_tasks import is_last_with

# Debian's packages chromium-headless-shell and chromium, and what others call it.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 90_000
SCREENSHOTS = Path(__file__).parents[2] / ".ci" / "artifacts" / "screenshots"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser without a window; only where somebody tests by hand may there be none."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        reason = "no chromium is here: apt-get install chromium-headless-shell"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    # A busy machine may take its time.
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def airflow(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, migrated_database: Path
) -> Iterator[PluginStack]:
    """Airflow with all runs finished that are looked at; the browser comes first, for without it nothing is."""
    with plugin_stack(tmp_path_factory.mktemp("plugin"), migrated_database) as airflow:
        airflow.run_all()
        yield airflow


def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Function | None) -> None:
    """Stop Airflow after the last test that looks at it: until the end it would keep the processor busy."""
    if is_last_with("airflow", item, nextitem):
        item.funcargs["airflow"].stack.stop()


@pytest.fixture
def visit(browser: Browser, airflow: PluginStack) -> Iterator[Callable[..., Page]]:
    """Open a page of Airflow as one of its users; nothing in it may raise an error or a dialog."""
    contexts: list[BrowserContext] = []

    def open_page(user: str, path: str, scheme: str = "light", width: int = 1280) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, timezone_id="Europe/Paris"
        )
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        context.add_cookies(
            [{"name": "_token", "value": airflow.client(user).log_in(), "url": airflow.url, "httpOnly": True}]
        )
        page = context.new_page()
        page.on("dialog", lambda dialog: pytest.fail(f"A dialog opened: {dialog.message}"))
        page.goto(f"{airflow.url}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def keep() -> Callable[[Page, str], None]:
    """Keep a screenshot for people to look at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=SCREENSHOTS / f"{name}.png")
