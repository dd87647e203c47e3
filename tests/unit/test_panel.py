"""The panel's pages and actions: who may, what another site may not, what samples and charts are."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from tk.access import CODE, Caller
from tk.errors import Forbidden, Unauthenticated
from tkcons import bounded, deadletters, groups, samples, web
from tkcons.errors import UnknownLetter
from tkcons.models import DeadLetter, Group, Sample
from tkcons.panel.chart import HEIGHT, WIDTH, draw
from tkcons.panel.payload import CUT, payload
from tkcons.viewer.present import whole

pytestmark = pytest.mark.django_db

HTML = {"Accept": "text/html"}
KEY = "0" * 32
# Address, permission that it needs, whether a POST does something.
PAGES = [
    ("/tkcons/status", "control_consumer", False),
    ("/tkcons/group?name=g", "control_consumer", True),
    ("/tkcons/group/move?name=g&to=earliest", "control_consumer", True),
    ("/tkcons/group/skip?name=g", "control_consumer", True),
    ("/tkcons/topics", "manage_topics", False),
    ("/tkcons/topics/orders", "manage_topics", False),
    ("/tkcons/topics/orders/messages", "view_payload", False),
    ("/tkcons/topics/orders/messages/0/7", "view_payload", False),
    ("/tkcons/topics/orders/delete", "manage_topics", True),
    ("/tkcons/new-topic", "manage_topics", True),
    ("/tkcons/produce", "produce", True),
    ("/tkcons/deadletters", "view_deadletter", False),
    (f"/tkcons/deadletters/{KEY}", "view_deadletter", False),
]
ACTIONS = [address for address, _, acts in PAGES if acts] + [
    "/tkcons",
    "/tkcons/stop",
    "/tkcons/pause",
    "/tkcons/deadletters/settle",
]


@pytest.fixture(autouse=True)
def _group(settings, monkeypatch):
    monkeypatch.setattr(web, "ensure_started", lambda: None)  # no thread of ours in a test's transaction
    settings.KAFKA_BROKER_URL = "localhost:1"
    settings.TK = {"TOPICS": ["orders"]}
    settings.TKCONS = {
        "SINKS": {"s": {"class": "tkcons.sinks.DatabaseSink", "topics": ["orders"], "group": "g"}},
        "RUN_IN_WEB": False,
    }


def letter(key: str = KEY, **fields: object) -> DeadLetter:
    now = timezone.now()
    given = {"group": "g", "topic": "orders", "topic_id": "i", "partition": 0, "offset": 1, "cause": "E", "tries": 1}
    return DeadLetter.objects.create(**{"id": key, "made_at": now, "changed_at": now, **given, **fields})


@pytest.fixture
def ann(django_user_model):
    return django_user_model.objects.create_user("ann")


def grant(user, *names: str):
    user.user_permissions.add(*Permission.objects.filter(codename__in=names))
    return type(user).objects.get(pk=user.pk)


@pytest.mark.parametrize(("address", "permission", "acts"), PAGES)
def test_every_page_wants_its_permission(client, ann, address, permission, acts):
    letter()
    assert client.get(address, headers=HTML).status_code == 302
    assert client.get(address).status_code == 401
    others = {"control_consumer", "view_payload", "produce", "manage_topics", "view_deadletter"} - {permission}
    if "/topics" in address and address.endswith(("/topics", "/orders")):
        others = {"view_deadletter"}  # who may do anything with topics may see which there are
    client.force_login(grant(ann, *others))
    assert client.get(address, headers=HTML).status_code == 403
    client.force_login(grant(ann, permission))
    assert client.get(address, headers=HTML).status_code in {200, 503}  # no broker here


@pytest.mark.parametrize("address", ACTIONS)
def test_no_action_without_permission_and_none_for_another_site(ann, admin_user, address):
    letter()
    form = {"state": "running", "what": "discard", "id": KEY, "sure": "1", "typed": "orders", "name": "orders"}
    checking = Client(enforce_csrf_checks=True)
    assert checking.post(address, form, headers=HTML).status_code == 401
    checking.force_login(ann)
    checking.cookies["csrftoken"] = token = "a" * 32
    assert checking.post(address, form, headers=HTML | {"X-CSRFToken": token}).status_code == 403
    checking.force_login(admin_user)
    checking.cookies["csrftoken"] = token
    without = checking.post(address, form, headers=HTML)
    assert (without.status_code, without["X-Error-Code"]) == (403, "cross_site")
    elsewhere = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "X-CSRFToken": token}
    assert checking.post(address, form, headers=HTML | elsewhere).status_code == 403
    assert not Group.objects.exists()
    assert DeadLetter.objects.get().state == "waiting"


def test_the_services_refuse_by_themselves(ann):
    letter()
    for caller, error in ((Caller("ann", ann), Forbidden), (Caller(""), Unauthenticated)):
        for ask in (deadletters.seen, deadletters.require_settle, lambda c: deadletters.one(c, KEY)):
            with pytest.raises(error):
                ask(caller)
        with pytest.raises(error):
            groups.want(Group.State.PAUSED, caller)
        with pytest.raises(error):
            deadletters.discard([KEY], caller)


@pytest.mark.parametrize("before", ["2026-01-01T00:00:00_a", "0001-01-01T00:00:00%2B23:59_a", "soon_a"])
def test_a_place_in_the_list_that_is_none(admin_client, before):
    assert admin_client.get(f"/tkcons/deadletters?before={before}", headers=HTML).status_code == 400


def test_a_get_never_settles(admin_client):
    letter()
    assert admin_client.get(f"/tkcons/deadletters/settle?id={KEY}&what=discard&sure=1").status_code == 405
    assert DeadLetter.objects.get().state == "waiting"


def test_a_search_that_cannot_be_understood_says_so_and_nothing_of_how_many_letters_there_are(admin_client):
    letter()
    page = admin_client.get("/tkcons/deadletters?since=x", headers=HTML)
    assert (page.status_code, "valid date" in page.content.decode()) == (400, True)
    assert "There is no dead letter" not in page.content.decode()


def test_times_are_in_the_zone_that_is_named_and_said_to_be_so(admin_client, settings):
    settings.TIME_ZONE = "Asia/Tokyo"  # of an adopter's project: what is said to be UTC is, and no field takes another
    letter(made_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    found = "/tkcons/deadletters?since=2026-01-02T03:00&until=2026-01-02T03:30"
    assert KEY in admin_client.get(f"{found}&zone=UTC", headers=HTML).content.decode()
    page = admin_client.get(found, headers=HTML).content.decode()
    assert (KEY in page, '<span class="zone">Asia/Tokyo</span>' in page) == (False, True)
    page = admin_client.get("/tkcons/deadletters?since=2026-01-02T12:00", headers=HTML).content.decode()
    assert "2026-01-02 03:04:05 UTC" in page
    page = admin_client.get(f"{found}&zone=Mars/Dust", headers=HTML)
    assert (page.status_code, "The zone is none that this server knows" in page.content.decode()) == (400, True)


def test_a_letter_is_shown_without_its_message_to_who_may_not_read_messages(client, ann):
    letter(value=b"secret")
    client.force_login(grant(ann, "view_deadletter"))
    page = client.get(f"/tkcons/deadletters/{KEY}", headers=HTML).content.decode()
    assert client.get(f"/tkcons/deadletters/{KEY}?download").status_code == 403
    assert "secret" not in page
    assert "permission to read messages" in page
    client.force_login(grant(ann, "view_payload"))
    assert "secret" in client.get(f"/tkcons/deadletters/{KEY}", headers=HTML).content.decode()
    assert client.get(f"/tkcons/deadletters/{KEY}?download").content == b"secret"


def test_the_admin_shows_it_without_its_message_too(client, ann):
    letter(value=b"secret", headers='[["secret", null]]')
    DeadLetter.objects.update(key=b"secret")
    ann.is_staff = True
    ann.save()
    client.force_login(grant(ann, "view_deadletter"))
    address = f"/admin/tkcons/deadletter/{KEY}/change/"
    found = "/admin/tkcons/deadletter/?q=secret"
    assert b"cause" in client.get(address).content
    assert b"secret" not in client.get(address).content
    assert len(client.get(found).context["cl"].result_list) == 0
    client.force_login(grant(ann, "view_payload"))
    assert client.get(address).content.count(b"secret") == 3
    assert len(client.get(found).context["cl"].result_list) == 1


def test_a_search_that_takes_too_long_is_stopped_and_said(client, admin_user, settings, monkeypatch):
    letter()
    settings.TKCONS = {**settings.TKCONS, "SEARCH_SECONDS": 0}
    monkeypatch.setattr(bounded, "STEPS", 1)
    client.force_login(admin_user)
    page = client.get("/tkcons/deadletters?q=found+nowhere", headers=HTML)
    assert page.status_code == 422
    for text in (b"The search was stopped", b'value="found nowhere"'):
        assert text in page.content
    page = client.get("/admin/tkcons/deadletter/?q=found+nowhere")
    assert page.status_code == 200
    assert b"The search was stopped" in page.content


def test_who_did_what_is_recorded(client, ann):
    letter()
    client.force_login(grant(ann, "control_consumer", "settle_deadletter", "view_deadletter"))
    client.post("/tkcons/pause", headers=HTML)
    client.post("/tkcons/deadletters/settle", {"id": KEY, "what": "discard", "sure": "1"}, headers=HTML)
    assert (Group.objects.get().desired, Group.objects.get().changed_by) == ("paused", "ann")
    assert (DeadLetter.objects.get().state, DeadLetter.objects.get().changed_by) == ("discarded", "ann")
    told = [(entry.user.username, entry.object_id, entry.change_message) for entry in LogEntry.objects.order_by("pk")]
    assert told == [("ann", "g", "wanted paused"), ("ann", KEY, "discarded")]


def test_the_panels_answers_to_clients(admin_client):
    assert admin_client.post("/tkcons/pause").content == b"Paused consumer"
    status = admin_client.get("/tkcons/status").json()["groups"][0]
    assert (status["group"], status["desired"], status["changed_by"], status["lag"]) == ("g", "paused", "admin", None)
    assert admin_client.post("/tkcons/group?name=g", {"state": "flying"}).status_code == 400
    assert admin_client.get("/tkcons/group?name=nobody").status_code == 404


class TestFinding:
    def test_by_everything(self):
        now = timezone.now()
        for number in range(4):
            letter(f"{number:032x}", offset=number, made_at=now - timedelta(hours=number), value=b"n%d" % number)
        letter("f" * 32, group="h", topic="other", state="discarded", made_at=now)
        find = lambda **given: [each.offset for each in deadletters.find(CODE, **given)]  # noqa: E731
        assert find(group="g") == [0, 1, 2, 3]
        assert find(topic="other") == [1]
        assert find(state="discarded") == [1]
        assert find(group="g", since=now - timedelta(hours=2)) == [0, 1, 2]
        assert find(group="g", until=now - timedelta(hours=1)) == [2, 3]
        assert find(text="n2") == [2]

    def test_pages_leave_nothing_out_where_letters_are_of_one_moment(self):
        now = timezone.now()
        keys = {letter(f"{number:032x}", made_at=now).pk for number in range(7)}
        found, before = [], None
        while page := deadletters.find(CODE, before=before, limit=3):
            found += [each.pk for each in page]
            before = (page[-1].made_at, page[-1].pk)
        assert len(found) == 7
        assert set(found) == keys

    def test_a_token_finds_its_own_topics_alone(self):
        letter()
        token = Caller("t", None, frozenset({"tkcons.view_deadletter"}), ("payments",))
        assert deadletters.find(token) == []
        with pytest.raises(UnknownLetter):
            deadletters.one(token, KEY)

    @pytest.mark.parametrize(
        "query", ["before=nonsense", "since=never", "state=flying", "since=0001-01-01T00:00&zone=Asia/Tokyo"]
    )
    def test_what_cannot_be_understood_is_a_400(self, admin_client, query):
        assert admin_client.get(f"/tkcons/deadletters?{query}", headers=HTML).status_code == 400


class TestSamples:
    @pytest.fixture(autouse=True)
    def _clock(self, monkeypatch, settings):
        settings.TKCONS = {**settings.TKCONS, "SAMPLE_SECONDS": 5, "SAMPLES": 4}
        self.now = 1_000_000.0
        monkeypatch.setattr(time, "time", lambda: self.now)

    def test_members_are_added_up_a_slot_and_gaps_stay_gaps(self):
        one, two = samples.Sampler("g", "one"), samples.Sampler("g", "two")
        one.take([{"lag": 7}, {"lag": None}], 10)
        two.take([{"lag": 3}], 0)
        one.take([{"lag": 9}], 11)  # the same slot: its first look counts
        self.now += 10
        one.take([{"lag": 1}], 60)
        self.now += 5
        points = samples.history(["g", "another"])
        assert [(p.lag, p.rate) for p in points["g"]] == [(None, None), (10, 2.0), (None, None), (1, 10.0)]
        assert {p.lag for p in points["another"]} == {None}

    def test_old_ones_go(self):
        sampler = samples.Sampler("g", "one")
        for _ in range(20):
            sampler.take([], 0)
            self.now += 5
        assert Sample.objects.count() == 5

    def test_a_heartbeat_takes_them(self):
        groups.want(Group.State.RUNNING, CODE)
        groups.Heartbeat("g", in_web=False).beat("running", [{"lag": 4}], 0, "")
        assert Sample.objects.get().lag == 4


class TestChart:
    def test_a_line_has_its_gaps(self):
        chart = draw([None, 1.0, 2.0, None, 4.0])
        assert len(chart.lines) == len(chart.areas) == 2
        assert (chart.highest, chart.last) == (4.0, 4.0)
        assert chart.lines[0].startswith(f"{WIDTH / 4:.1f},")
        assert chart.areas[0].endswith(f"{WIDTH / 2:.1f},{HEIGHT:.1f}")

    @pytest.mark.parametrize("values", [[], [None], [0.0, 0.0]])
    def test_nothing_to_draw_is_no_error(self, values):
        assert draw(values).highest == 0


class TestPayload:
    def test_text_binary_null_and_json(self):
        row = DeadLetter(key=None, value=b'{"a":1}', headers='[["h", null], ["b", "/w==", "base64"]]')
        found = whole(row, everything=False)
        assert (found.key, found.value.kind, found.value.text) == (None, "json", '{"a":1}')
        (_, null), (_, binary) = found.headers
        assert null is None
        assert (binary.text, binary.binary) == ("ff", True)
        assert payload(row).headers == found.headers

    def test_what_is_long_is_cut(self):
        row = DeadLetter(key=b"k" * 1_000, value="ü".encode() * 100_000, timestamp=10**18)
        short = payload(row)
        assert (len(short.value.text), short.value.size, short.value.cut) == (CUT // 2, 200_000, True)
        assert len(short.key.text) == CUT // 3
        assert short.time is None  # no time of the calendar
