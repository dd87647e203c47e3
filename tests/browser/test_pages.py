"""The pages as people use them, in a real browser."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka import Consumer, TopicPartition
from playwright.sync_api import Browser, Page, expect

from tests.browser.sizes import BOTH
from tests.storing import store
from tests.waiting import eventually
from tkcons import web
from tkcons.models import Group, Message

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("page", **BOTH, indirect=True)


@SIZES
def test_the_keyboard_reaches_everything(page: Page):
    store(*(f"message {number}" for number in range(101)))
    page.goto("/tkcons/read")
    reached = set()
    for _ in range(130):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.textContent.trim().slice(0, 14)"))
    assert {"Messages", "Consumer", "Older messages"} <= reached


@SIZES
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


@SIZES
def test_in_production_every_page_asks_who_you_are(page: Page, settings):
    settings.DEBUG = False
    for path in ("/tkcons/read", "/tkcons/status"):
        page.goto(path)
        expect(page).to_have_url(re.compile(re.escape(f"/admin/login/?next={path}")))
