"""The panel as a person uses it: groups steered and moved, topics, the form that produces, dead letters."""

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from confluent_kafka import Producer
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from tests.browser.hostile import HOSTILE
from tests.browser.sizes import BOTH
from tests.waiting import eventually
from tk import clusters
from tk.clusters import Option
from tkcons import web
from tkcons.models import DeadLetter, Group, Member, Message, Position

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("page", **BOTH, indirect=True)
GROUP = "tkcons.database"


@pytest.fixture(autouse=True)
def _debug(settings):
    settings.DEBUG = True
    settings.ALLOWED_HOSTS = ["localhost"]


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
def produce(broker) -> Iterator[Callable[..., None]]:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 1})

    def go(topic: str, *values: str | bytes | None, **options: object) -> None:
        for value in values:
            producer.produce(topic, value, **options)
        assert producer.flush(20) == 0

    yield go
    producer.close()


def write_letter(number: int = 1, **fields: object) -> DeadLetter:
    made = timezone.now() - timedelta(minutes=number)
    given = {
        "id": f"{number:032x}",
        "group": GROUP,
        "topic": "orders",
        "topic_id": "i",
        "partition": 0,
        "offset": number,
        "key": b"the key",
        "value": b'{"total": -3}',
        "headers": '[["source", "shop"]]',
        "cause": f"ValueError: negative total {number}",
        "traceback": "Traceback (most recent call last): here",
        "tries": 5,
        "made_at": made,
        "changed_at": made,
    }
    return DeadLetter.objects.create(**given | fields)


def card(page: Page):
    return page.locator("section.group").filter(has_text=GROUP)


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


@SIZES
@pytest.mark.kafka
def test_a_group_is_started_paused_and_stopped_and_the_page_tells_by_itself(page: Page, sink, produce):
    page.goto("/tkcons/status")
    expect(card(page).locator(".badge")).to_have_text("stopped")
    click(page, f"Start {GROUP}")
    expect(card(page).locator(".badge")).to_have_text("running")
    assert (Group.objects.get().desired, Group.objects.get().changed_by) == ("running", "local")
    produce(sink, "a", "b")
    eventually(lambda: Message.objects.count() == 2)
    expect(card(page).locator("polyline").first).to_be_attached()
    click(page, f"Pause {GROUP}")
    expect(card(page).locator(".badge")).to_have_text("paused")
    click(page, f"Stop {GROUP}")
    expect(card(page).locator(".badge")).to_have_text("stopped")
    expect(card(page)).to_contain_text("0 processes")


@pytest.mark.kafka
def test_the_groups_page_shows_processes_partitions_and_lag(page: Page, sink, produce):
    produce(sink, *"abc")
    page.goto("/tkcons")
    eventually(lambda: Message.objects.count() == 3)
    page.get_by_role("link", name=GROUP).click()
    expect(page.locator("#processes tbody tr")).to_contain_text("in the web server")
    row = page.locator("#partitions tbody tr")
    expect(row).to_contain_text(sink)
    produce(sink, "d")
    expect(row.locator("[data-label=Position]")).to_have_text("4")  # refreshed without a click
    expect(row.locator("[data-label=Lag]")).to_have_text("0")
    click(page, f"Stop {GROUP}")
    expect(page.get_by_text("No process runs this group.")).to_be_visible()
    produce(sink, "e", "f")
    expect(page.locator("#partitions [data-label=Lag]")).to_have_text("2")  # as Kafka tells it


@pytest.mark.kafka
def test_moving_is_refused_while_the_group_runs_and_done_when_it_is_stopped(page: Page, sink, produce):
    produce(sink, *"abc")
    page.goto("/tkcons")
    eventually(lambda: Message.objects.count() == 3)
    page.goto(f"/tkcons/group?name={GROUP}")
    click(page, "Move…")
    expect(page.locator("h1")).to_have_text(f"Move {GROUP} to the beginning?")
    click(page, "Move")
    expect(page.get_by_role("alert")).to_contain_text(f"{GROUP} is running: stop it first")
    assert Message.objects.count() == 3
    page.get_by_role("link", name="Cancel").click()
    click(page, f"Stop {GROUP}")
    eventually(lambda: not Member.objects.exists())
    page.get_by_label("To", exact=True).select_option("offset")
    page.get_by_label("Offset").fill("1")
    click(page, "Move…")
    click(page, "Move")
    cells = page.locator("tbody td").all_inner_texts()
    assert cells == [sink, "0", "3", "1"]
    assert Message.objects.count() == 1
    assert Position.objects.get().next_offset == 1
    page.get_by_role("link", name="Back to the group").click()
    expect(page.locator("h1")).to_have_text(GROUP)


@pytest.mark.kafka
def test_where_to_move_must_be_said(page: Page, sink):
    page.goto(f"/tkcons/group?name={GROUP}")
    page.get_by_label("To", exact=True).select_option("time")
    click(page, "Move…")
    expect(page.get_by_role("alert")).to_have_text("Say which.")


@pytest.mark.kafka
def test_what_expired_is_skipped_after_a_question(page: Page, sink, produce, kafka_admin):
    produce(sink, "a")
    page.goto(f"/tkcons/group?name={GROUP}")
    page.get_by_role("link", name="Go on past what expired unread…").click()
    click(page, "Go on without them")
    expect(page.get_by_text("Nothing had expired unread.")).to_be_visible()


@SIZES
@pytest.mark.kafka
def test_a_topic_from_making_to_deleting(page: Page, broker):
    name = f"test-{uuid.uuid4().hex[:8]}"
    page.goto("/tkcons/topics")
    page.get_by_role("link", name="New topic").click()
    page.get_by_label("Name", exact=True).fill("no spaces allowed")
    click(page, "Create")
    expect(page.get_by_role("alert")).to_contain_text("A topic's name has")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Partitions").fill("3")
    page.get_by_label("retention.ms").fill("60000")
    page.get_by_label("cleanup.policy").select_option("compact")
    click(page, "Create")
    expect(page.locator("h1")).to_have_text(name)
    expect(page.get_by_text("retention.ms").first).to_be_visible()
    expect(page.locator("tbody").first.locator("tr")).to_have_count(3)
    page.goto(f"/tkcons/topics?q={name[3:]}")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_role("link", name=name).click()
    page.get_by_role("link", name="Delete…").click()
    page.get_by_label("Type").fill("another")
    click(page, "Delete the topic")
    expect(page.get_by_role("alert")).to_contain_text("nothing was deleted")
    assert name in clusters.names()
    page.get_by_label("Type").fill(name)
    click(page, "Delete the topic")
    expect(page.locator("h1")).to_have_text("Topics")
    eventually(lambda: name not in clusters.names())


@pytest.mark.kafka
def test_a_partition_is_looked_into_by_offset_and_by_time(page: Page, sink, produce):
    for number in range(60):
        produce(sink, f"value {number}", timestamp=1_769_860_800_000 + number * 60_000)  # 2026-01-31 12:00
    page.goto(f"/tkcons/topics/{sink}")
    page.get_by_role("link", name="Look into it").click()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    expect(rows.last).to_contain_text("value 59")
    page.get_by_role("link", name="Older").click()
    expect(rows.first).to_contain_text("value 0")
    expect(rows).to_have_count(10)
    page.get_by_role("link", name="Newer").click()
    expect(rows.first).to_contain_text("value 10")
    page.get_by_label("From offset").fill("42")
    click(page, "Look")
    expect(rows.first).to_contain_text("value 42")
    page.get_by_label("From offset").fill("")
    page.get_by_label("or from time (UTC)").fill("2026-01-31T12:30:30")
    click(page, "Look")
    expect(rows.first).to_contain_text("value 31")
    page.get_by_role("link", name="31", exact=True).click()
    expect(page.locator("h1")).to_have_text(f"{sink}[0]@31")
    expect(page.locator("pre")).to_have_text("value 31")
    page.goto(f"/tkcons/topics/{sink}/messages/0/999")
    expect(page.get_by_text("Kafka has no message at this offset")).to_be_visible()
    assert not Message.objects.exists()


def test_a_broker_that_is_down_is_told_of(page: Page, settings):
    settings.KAFKA_BROKER_URL = "localhost:1"
    for path in ("/tkcons/topics", "/tkcons/topics/orders/messages"):
        page.goto(path)
        expect(page.get_by_role("alert")).to_contain_text("Kafka does not answer")
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


@SIZES
@pytest.mark.kafka
def test_the_form_produces_as_often_as_asked(page: Page, sink, produce):
    page.goto(f"/tkcons/topics/{sink}")
    page.get_by_role("link", name="Produce").last.click()
    expect(page.get_by_label("Topic")).to_have_value(sink)
    page.get_by_label("Key").fill("k")
    page.get_by_label("Value", exact=True).fill('{"a": 1}')
    page.get_by_label("Headers").fill("source: shop\nempty:")
    page.get_by_label("How often").fill("3")
    click(page, "Send")
    expect(page.get_by_role("status")).to_contain_text("3 messages are in Kafka")
    assert page.locator("tbody td:nth-child(3)").all_inner_texts() == ["0", "1", "2"]
    follow = page.get_by_role("link", name="Follow").first.get_attribute("href") or ""
    page.get_by_role("link", name="2", exact=True).click()
    expect(page.locator("pre")).to_contain_text('"a": 1')
    expect(page.locator("dl")).to_contain_text("shop")
    page.goto(follow)
    expect(page.locator("h1")).to_contain_text(sink)
    expect(page.get_by_text("Not stored yet")).to_be_visible()
    page.goto("/tkcons/produce")
    page.get_by_label("Headers").fill("tk-event-id: 1")
    click(page, "Send")
    expect(page.get_by_role("alert")).to_contain_text("reserved")
    expect(page.get_by_label("Headers")).to_have_value("tk-event-id: 1")  # what was typed is kept


@SIZES
def test_a_dead_letter_is_found_looked_at_and_discarded(page: Page):
    for number in range(60):
        write_letter(number, group="billing" if number == 7 else GROUP)
    page.goto("/tkcons/deadletters")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(rows).to_have_count(10)
    page.get_by_label("Group").fill("billing")
    page.get_by_label("State").select_option("waiting")
    click(page, "Find")
    expect(rows).to_have_count(1)
    rows.first.get_by_role("link").click()
    for text in ("negative total 7", "the key", "source", "shop", '"total": -3'):
        expect(page.locator("main")).to_contain_text(text)
    page.get_by_text("Traceback", exact=True).click()
    expect(page.get_by_text("Traceback (most recent call last): here")).to_be_visible()
    click(page, "Discard…")
    assert DeadLetter.objects.get(group="billing").state == "waiting"
    click(page, "Discard")
    expect(page.locator(".badge").first).to_have_text("discarded")
    settled = DeadLetter.objects.get(group="billing")
    assert (settled.state, settled.changed_by) == ("discarded", "local")


def test_several_dead_letters_are_handled_again_after_one_question(page: Page):
    for number in range(3):
        write_letter(number)
    page.goto("/tkcons/deadletters")
    for box in page.get_by_role("checkbox").all()[:2]:
        box.check()
    click(page, "Handle the selected again…")
    expect(page.locator("h1")).to_have_text("Handle 2 dead letters again?")
    page.get_by_role("link", name="Cancel").click()
    assert DeadLetter.objects.filter(state="requested").count() == 0
    for box in page.get_by_role("checkbox").all()[:2]:
        box.check()
    click(page, "Handle the selected again…")
    click(page, "Handle again")
    expect(page.locator(".badge.warn")).to_have_count(2)
    assert DeadLetter.objects.filter(state="requested").count() == 2


@pytest.mark.kafka
def test_everything_works_without_javascript(browser: Browser, live_server, sink):
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False, locale="en")
    page = context.new_page()
    write_letter()
    page.goto("/tkcons/status")
    click(page, f"Start {GROUP}")
    assert Group.objects.get().desired == "running"
    page.goto("/tkcons/produce")
    page.get_by_label("Value", exact=True).fill("hello")
    click(page, "Send")
    expect(page.get_by_role("status")).to_contain_text("1 message is in Kafka")
    page.goto("/tkcons/deadletters")
    page.get_by_role("checkbox").check()
    click(page, "Discard the selected…")
    click(page, "Discard")
    assert DeadLetter.objects.get().state == "discarded"
    context.close()


PATHS = (
    "/tkcons/status",
    f"/tkcons/group?name={GROUP}",
    f"/tkcons/group/move?name={GROUP}&to=earliest",
    "/tkcons/topics",
    "/tkcons/topics/{topic}",
    "/tkcons/topics/{topic}/messages",
    "/tkcons/topics/{topic}/messages/0/0",
    "/tkcons/topics/{topic}/delete",
    "/tkcons/new-topic",
    "/tkcons/produce",
    "/tkcons/deadletters",
    "/tkcons/deadletters/00000000000000000000000000000001",
)


@pytest.mark.kafka
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_a_phone(browser: Browser, live_server, sink, produce, scheme):
    produce(sink, "x" * 3000, key="k" * 100, headers=[("h" * 200, "v" * 500)])
    write_letter(cause="E" * 2000, traceback="t" * 3000, value=b"v" * 3000)
    context = browser.new_context(
        base_url=live_server.url, viewport={"width": 360, "height": 700}, color_scheme=scheme, locale="en"
    )
    page = context.new_page()
    for path in PATHS:
        page.goto(path.format(topic=sink))
        assert page.locator("h1").count() == 1, path
        wide = page.evaluate("document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth")
        assert wide == 0, path
    context.close()


@pytest.mark.kafka
def test_a_group_is_started_with_the_keyboard_alone(page: Page, sink):
    page.goto("/tkcons/status")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Start {GROUP}":
            break
    page.keyboard.press("Enter")
    expect(card(page).locator(".badge")).to_have_text("running")


@pytest.mark.kafka
def test_a_strangers_text_stays_text(page: Page, sink, produce, monkeypatch):
    """In a message, a letter, a topic's configuration, and in what a process tells of itself and who steered it."""
    group, now = Group.objects.create(name=GROUP, changed_by=HOSTILE[0]), timezone.now()
    for number, text in enumerate(HOSTILE):
        produce(sink, text, key=text, headers=[(text, text)])
        hostile = dict.fromkeys(("group", "topic", "cause", "traceback", "changed_by"), text)
        write_letter(number + 1, **hostile, key=text.encode(), value=text.encode(), headers=None)
        told = {"name": text, "host": text, "error": text, "state": text[:20]}
        shown = [{"topic": sink, "partition": 0, "position": 1, "end": 2, "lag": 1}]
        Member.objects.create(group=group, pid=number, partitions=shown, started_at=now, seen_at=now, **told)
    later = now + timedelta(minutes=5)  # they are alive, however long the test takes
    Member.objects.update(seen_at=later)
    monkeypatch.setattr(clusters, "configuration", lambda name: [Option(text, text, own=True) for text in HOSTILE])
    letters = [f"/tkcons/deadletters/{number + 1:032x}" for number in range(len(HOSTILE))]
    peeks = [f"/tkcons/topics/{sink}/messages/0/{number}" for number in range(len(HOSTILE))]
    pages = [path.format(topic=sink) for path in PATHS]
    for path in [*pages, *letters, *peeks, "/tkcons/deadletters?q=x&group="]:
        page.goto(path)
        assert page.locator("main :is(script, img, iframe, style, math, svg[onload], a[hx-get])").count() == 0, path
    for path, times in (
        (f"/tkcons/topics/{sink}/messages", 3),
        (f"/tkcons/topics/{sink}", 2),
        ("/tkcons/deadletters", 3),
        (f"/tkcons/group?name={GROUP}", 2),
    ):
        page.goto(path)
        whole = page.locator("main").text_content() or ""
        assert [text for text in HOSTILE if whole.count(text) < times] == [], path
    for text in (HOSTILE[0], HOSTILE[2]):
        page.goto("/tkcons/topics")
        page.get_by_label("Part of the name").fill(text)
        click(page, "Find")
        expect(page.get_by_label("Part of the name")).to_have_value(text)


def test_the_page_says_who_did_what(page: Page, settings, sink_without_broker, admin_client, live_server):
    settings.DEBUG = False
    cookie = admin_client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    page.goto(f"/tkcons/group?name={GROUP}")
    click(page, f"Pause {GROUP}")
    expect(page.get_by_role("heading", name="Who did what")).to_be_visible()
    expect(page.locator(".entries li")).to_have_text(re.compile("admin: wanted paused"))


def test_a_tab_that_nobody_sees_asks_for_nothing(page: Page, sink_without_broker):
    page.clock.install()
    page.goto("/tkcons/status")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_response("**/tkcons/status"):
        page.clock.run_for(2_500)  # it refreshes itself
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    asked.clear()
    page.clock.run_for(10_000)
    assert asked == []
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false})")
    with page.expect_response("**/tkcons/status"):
        page.clock.run_for(2_500)


@pytest.fixture
def sink_without_broker(settings) -> Iterator[None]:
    settings.KAFKA_BROKER_URL = "localhost:1"
    settings.TKCONS = {"SINKS": {"database": {"class": "tkcons.sinks.DatabaseSink", "topics": ["orders"]}}}
    yield
    web.stop()
