"""The pages as people use them, in a real browser."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka import Consumer, TopicPartition
from playwright.sync_api import Browser, Page, expect

from tests.storing import store
from tests.waiting import eventually
from tkcons import web
from tkcons.models import Group, Message

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("path", ["/tkcons/read", "/tkcons/status"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser: Browser, live_server, path, scheme):
    store("x" * 3000, "a long sentence " * 50, key="k" * 100, topic="a-topic-with-a-rather-long-name")
    context = browser.new_context(
        base_url=live_server.url, viewport={"width": 360, "height": 700}, color_scheme=scheme, has_touch=True
    )
    page = context.new_page()
    page.goto(path)
    wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
    assert wide == 0
    assert _contrast(page) >= 4.5
    context.close()


def _contrast(page: Page) -> float:
    """WCAG's contrast of the text with the page behind it."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    style = "getComputedStyle(document.body)"
    pair = sorted(luminance(page.evaluate(f"{style}.{name}")) for name in ("color", "backgroundColor"))
    return (pair[1] + 0.05) / (pair[0] + 0.05)


def test_the_keyboard_reaches_everything(page: Page):
    store(*(f"message {number}" for number in range(101)))
    page.goto("/tkcons/read")
    reached = set()
    for _ in range(130):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim().slice(0, 14)"))
    assert {"Messages", "Consumer", "Older messages"} <= reached


@pytest.mark.kafka
def test_the_tutorials_addresses_in_a_browser(page: Page, broker, topic, settings):
    settings.TK = {"TOPIC": topic}
    settings.TKCONS = {
        "SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic]}},
        "HEARTBEAT_SECONDS": 0.3,
    }
    try:
        page.goto("/tkprod?message=hello")
        assert page.locator("body").inner_text() == "Produced message."
        page.goto("/tkcons")
        assert page.locator("body").inner_text().splitlines()[0] == "Started consumer"
        eventually(lambda: Message.objects.count() == 1)
        page.goto("/tkcons/read")
        expect(page.locator("tbody tr")).to_contain_text("hello")
        page.get_by_role("link", name="Consumer").click()
        expect(page.locator("section")).to_contain_text("wanted: running")
        page.get_by_role("button", name="Stop all").click()
        assert page.locator("body").inner_text().splitlines()[0] == "Stopped consumer"
        page.get_by_role("button", name="Start all").click()
        assert page.locator("body").inner_text().splitlines()[0] == "Started consumer"
    finally:
        web.stop()


@pytest.mark.kafka
def test_another_site_can_neither_produce_nor_start(
    browser: Browser, live_server, broker, topic, settings, kafka_admin
):
    settings.TK = {"TOPIC": topic}
    settings.TKCONS = {"SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic]}}}
    context = browser.new_context()
    page = context.new_page()
    with _evil_site(live_server.url) as address:
        page.goto(address, wait_until="load")  # the image's request is over then
        with page.expect_response("**/tkcons") as answer:
            page.get_by_role("button").click()
    assert answer.value.status == 403
    assert not Group.objects.exists()
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "unused"})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (0, 0)
    consumer.close()
    context.close()


@contextmanager
def _evil_site(target: str) -> Iterator[str]:
    """Another site, whose page has this one's addresses in an image and in a form."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(
                f"<link rel=icon href=data:,><img src='{target}/tkprod?message=evil'>"
                f"<form method=post action='{target}/tkcons'><button>win a prize</button></form>".encode()
            )

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_in_production_every_page_asks_who_you_are(browser: Browser, live_server, settings):
    settings.DEBUG = False
    context = browser.new_context(base_url=live_server.url)
    page = context.new_page()
    for path in ("/tkcons/read", "/tkcons/status"):
        page.goto(path)
        expect(page).to_have_url(re.compile(re.escape(f"/admin/login/?next={path}")))
    context.close()
