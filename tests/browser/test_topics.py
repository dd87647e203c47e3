"""Topics as a person uses them: made, looked into, deleted; the form that produces."""

import uuid

import pytest
from playwright.sync_api import Page, expect

from tests.browser.paneling import click
from tests.browser.sizes import BOTH
from tests.waiting import eventually
from tk import clusters
from tkcons.models import Message

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("page", **BOTH, indirect=True)


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


@SIZES
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
    page.get_by_label("or from time").fill("2026-01-31T12:30:30")
    click(page, "Look")
    expect(rows.first).to_contain_text("value 31")
    page.get_by_role("link", name="31", exact=True).click()
    expect(page.locator("h1")).to_have_text(f"{sink}[0]@31")
    expect(page.locator("pre")).to_have_text("value 31")
    produce(sink, bytes(range(256)), '{"a": {"b": 1}}', "x" * 100_000)
    page.goto(f"/tkcons/topics/{sink}/messages/0/60")
    expect(page.locator("pre")).to_contain_text("00000040  40 41 42")
    page.goto(f"/tkcons/topics/{sink}/messages/0/61")
    expect(page.locator(".json summary").first).to_contain_text("1 field")
    page.goto(f"/tkcons/topics/{sink}/messages/0/62")
    page.get_by_role("link", name="Show all").click()
    expect(page.locator("pre")).to_have_text("x" * 100_000)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == b"x" * 100_000
    page.goto(f"/tkcons/topics/{sink}/messages/0/999")
    expect(page.get_by_text("Kafka has no message at this offset")).to_be_visible()
    assert not Message.objects.exists()


@SIZES
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
    expect(page.locator("dl").last).to_contain_text("shop")
    page.goto(follow)
    expect(page.locator("h1")).to_contain_text(sink)
    expect(page.get_by_text("Not stored yet")).to_be_visible()
    page.goto("/tkcons/produce")
    page.get_by_label("Headers").fill("tk-event-id: 1")
    click(page, "Send")
    expect(page.get_by_role("alert")).to_contain_text("reserved")
    expect(page.get_by_label("Headers")).to_have_value("tk-event-id: 1")  # what was typed is kept
