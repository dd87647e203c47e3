"""Topics on the real broker: looked at, made, deleted, by those who may."""

import uuid
from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command

from tests.waiting import eventually
from tk import clusters
from tk.access import CODE, Caller
from tk.errors import (
    Forbidden,
    InvalidConfig,
    InvalidPartition,
    InvalidReplication,
    InvalidTopic,
    NotSent,
    OutcomeUnknown,
    TopicExists,
    Unauthenticated,
    UnknownTopic,
)

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]


@pytest.fixture
def name(broker, kafka_admin) -> Iterator[str]:
    """A name that no topic has yet; what is made under it is deleted after the test."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    yield name
    if name in kafka_admin.list_topics(timeout=10).topics:
        kafka_admin.delete_topics([name])


def test_a_topic_is_made_as_asked_described_and_deleted(name, send):
    made = clusters.create(
        name, CODE, partitions=3, replication=1, config={"retention.ms": "60000", "cleanup.policy": ""}
    )
    assert (made.name, len(made.partitions), made.replication) == (name, 3, 1)
    send(name, "a", "b", partition=2)
    (seen,) = clusters.describe([name, "test-nobody-made-this"])
    assert [(p.low, p.high, p.records) for p in seen.partitions] == [(0, 0, 0), (0, 0, 0), (0, 2, 2)]
    assert (seen.records, seen.under_replicated, seen.internal) == (2, 0, False)
    assert [(o.name, o.value) for o in clusters.configuration(name) if o.own] == [("retention.ms", "60000")]
    assert name in clusters.names()
    clusters.delete(name, CODE)
    eventually(lambda: name not in clusters.names())
    with pytest.raises(UnknownTopic):
        clusters.configuration(name)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"partitions": 0}, InvalidPartition),
        ({"partitions": 1_001}, InvalidPartition),
        ({"replication": 9}, InvalidReplication),
        ({"replication": 0}, InvalidReplication),
        ({"config": {"retention.ms": "soon"}}, InvalidConfig),
        ({"config": {"unclean.leader.election.enable": "true"}}, InvalidConfig),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(name, options, error):
    with pytest.raises(error):
        clusters.create(name, CODE, **options)
    assert name not in clusters.names()


def test_a_name_that_is_taken_or_impossible(broker, topic):
    with pytest.raises(TopicExists):
        clusters.create(topic, CODE)
    with pytest.raises(InvalidTopic):
        clusters.create("no spaces", CODE)
    with pytest.raises(UnknownTopic):
        clusters.delete("test-nobody-made-this", CODE)


def test_only_who_may_and_only_what_requests_may_name(name, topic, settings, django_user_model):
    user = django_user_model.objects.create_user("ann")
    for change in (clusters.create, clusters.delete):
        with pytest.raises(Unauthenticated):
            change(topic, Caller(""))
        with pytest.raises(Forbidden, match=r"tk\.manage_topics"):
            change(topic, Caller("ann", user))
    user.user_permissions.add(Permission.objects.get(codename="manage_topics"))
    ann = Caller("ann", django_user_model.objects.get(pk=user.pk))
    with pytest.raises(Forbidden, match="TOPICS"):
        clusters.delete(topic, ann)
    settings.TK = {"TOPICS": ["*"]}
    with pytest.raises(Forbidden, match="internal"):
        clusters.delete("__consumer_offsets", ann)
    clusters.create(name, ann)
    clusters.delete(name, ann)
    told = [(entry.user_id, entry.object_repr, entry.action_flag) for entry in LogEntry.objects.order_by("pk")]
    assert told == [(user.pk, f"topic {name}", 1), (user.pk, f"topic {name}", 3)]


def test_a_broker_that_is_down_is_told_of(settings):
    settings.KAFKA_BROKER_URL = "localhost:1"
    with pytest.raises(NotSent):
        clusters.names()
    with pytest.raises(NotSent):
        clusters.describe(["orders"])


def test_whether_a_change_happened_is_not_guessed(settings, monkeypatch):
    settings.KAFKA_BROKER_URL = "localhost:1"
    monkeypatch.setattr(clusters, "CHANGE_SECONDS", 0.5)
    with pytest.raises(OutcomeUnknown, match="not known"):
        clusters.create("orders", CODE)


class TestCommand:
    def test_from_making_to_deleting(self, name, capsys, monkeypatch):
        call_command("topics", "create", name, "--partitions", "2", "--config", "cleanup.policy=compact")
        call_command("topics", "list", name)
        told = capsys.readouterr().out
        assert f"{name}: 2 partitions, replication 1, at most 0 messages" in told
        assert "cleanup.policy=compact" in told
        monkeypatch.setattr("builtins.input", lambda _: "another")
        with pytest.raises(CommandError, match="not deleted"):
            call_command("topics", "delete", name)
        call_command("topics", "delete", name, "--no-input")
        eventually(lambda: name not in clusters.names())
        call_command("topics", "list")
        assert name not in capsys.readouterr().out.splitlines()

    @pytest.mark.parametrize(
        "arguments",
        [["create"], ["list", "test-nobody-made-this"], ["create", "x", "--config", "nonsense"], ["delete", "a b"]],
    )
    def test_what_is_wrong_is_said(self, broker, arguments):
        with pytest.raises(CommandError):
            call_command("topics", *arguments, "--no-input")
