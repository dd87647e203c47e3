import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser import chromium
from tests.browser.sizes import DESK
from tkcons.viewer import hub

# Playwright's synchronous interface runs an event loop, in which Django would refuse the database.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

expect.set_options(timeout=20_000)  # ms; as long as tests.waiting waits


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for one module: Playwright's event loop is gone before other tests run theirs in this thread."""
    path = chromium.find()
    if path is None:
        text = "no Chromium: apt-get install chromium (Debian), or install Chrome"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
        yield launched
        launched.close()


@pytest.fixture(autouse=True)
def _no_followers(live_server) -> Iterator[None]:
    """The hub's thread stays some seconds after its last follower; here it ends with the test, whose database goes."""
    yield
    made, hub._hub = hub._hub, None
    if made is not None:
        made.close()
        with made._lock:  # one who joins starts the thread under it
            thread = made._thread
        if thread is not None:
            thread.join(10)


@pytest.fixture
def page(browser: Browser, live_server, request) -> Iterator[Page]:
    """A desktop page, or of the size that the test is parametrized with. What the Content-Security-Policy had to stop, or
    a script's error, fails the test."""
    context = browser.new_context(base_url=live_server.url, locale="en", **getattr(request, "param", DESK))
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text) if _matters(message) else None)
    opened.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    yield opened
    context.close()
    assert wrong == []


def _matters(message: ConsoleMessage) -> bool:
    """A page's own status is no error of the page's: many of ours say no. What it loads must be there."""
    refused = message.text.startswith("Failed to load resource: the server responded with a status of")
    return message.type == "error" and not (refused and "/assets/" not in message.location["url"])
