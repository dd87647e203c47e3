import os
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.browser import chromium
from tests.browser.sizes import DESK
from tkcons import web
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
    """That the server says no, or nothing, is no error of the page's: many of ours say no. What it loads must be there."""
    refused = message.text.startswith("Failed to load resource:") and "/assets/" not in message.location["url"]
    told = message.text.startswith(("Response Status Error Code", "htmx:sendError", "htmx:afterRequest"))  # by htmx
    return message.type == "error" and not (refused or told)


@pytest.fixture(autouse=True)
def _debug(settings):
    settings.DEBUG = True
    settings.ALLOWED_HOSTS = ["localhost"]


@pytest.fixture
def opened(browser: Browser, live_server, size):
    """A page of this size; what the policy had to stop, a script's error or a dialog fails the test."""
    context = browser.new_context(base_url=live_server.url, locale="en", **size)
    page, wrong = context.new_page(), []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', e => console.error('CSP ' + e.violatedDirective))"
    )
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def sink(settings, broker, topic) -> Iterator[str]:
    """A database sink's topic; whatever the test starts in this process is stopped after it."""
    settings.TK = {"TOPIC": topic}
    settings.TKCONS = {
        "SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic]}},
        "HEARTBEAT_SECONDS": 0.3,
        "SAMPLE_SECONDS": 1,
    }
    yield topic
    web.stop()


@pytest.fixture
def sink_without_broker(settings) -> Iterator[None]:
    settings.KAFKA_BROKER_URL = "localhost:1"
    settings.TKCONS = {"SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": ["orders"]}}}
    yield
    web.stop()


@pytest.fixture
def produce(broker) -> Iterator[Callable[..., None]]:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 1})

    def go(topic: str, *values: str | bytes | None, **options: object) -> None:
        for value in values:
            producer.produce(topic, value, **options)
        assert producer.flush(20) == 0

    yield go
    producer.close()
