"""Where a group begins and goes on: its own position, Kafka's, topics made again or grown, what expired."""

import contextlib
import time
from io import StringIO

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    ResourcePatternType,
    ResourceType,
)
from django.core.management import CommandError, call_command

from tests.integration.consuming import QUICK, database, numbers, running, states, values
from tests.waiting import eventually
from tk.access import Caller
from tkcons import groups
from tkcons.beginning import tell
from tkcons.claims import Claims
from tkcons.groups import Spec
from tkcons.models import Group, Member, Message, Position
from tkcons.sinks import JsonLinesSink
from tkcons.sinks.base import Place
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("quick")]


def test_a_new_runner_goes_on_where_the_last_one_stopped(send, topic, group):
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    send(topic, *range(10, 20))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 20)
    assert values(group) == numbers(20)


def test_the_stored_position_wins_over_kafkas(send, broker, topic, group):
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    (seen,) = consumer.committed([TopicPartition(topic, 0)], timeout=10)
    assert seen.offset == 10  # for lag tools
    consumer.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    consumer.close()
    send(topic, 10)
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 11)
    assert values(group) == numbers(11)


def test_at_first_contact_kafkas_position_counts(send, broker, topic, group, caplog):
    send(topic, *range(10))
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, 7)], asynchronous=False)
    consumer.close()
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 3)
    assert values(group) == ["7", "8", "9"]
    assert "begins at Kafka's offsets" in caplog.messages


@pytest.mark.parametrize("deleted", [False, True])
def test_a_group_whose_positions_are_lost_begins_again_where_it_had_begun(
    send, broker, kafka_admin, topic, group, settings, caplog, deleted
):
    """Its database was restored to a time before the group began: what it has stored since is gone with the positions."""
    settings.TKCONS = {**QUICK, "START": "latest"}
    send(topic, *range(5))
    with running(database(group, topic)):
        eventually(lambda: Position.objects.filter(group=group).exists())
        send(topic, *range(5, 10))
        eventually(lambda: len(values(group)) == 5)
    Message.objects.filter(position__group=group).delete()
    Position.objects.filter(group=group).delete()
    if deleted:
        kafka_admin.delete_records([TopicPartition(topic, 0, 7)])[TopicPartition(topic, 0)].result(10)
    send(topic, 10)
    first = 7 if deleted else 5
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 11 - first)
    assert values(group) == numbers(11 - first, first)
    assert "positions are lost: begins again where it had begun" in caplog.messages


def test_kafka_is_told_where_a_group_began_before_any_message_comes(send, broker, topic, group, settings, monkeypatch):
    """And again until it takes it: what the first commit tells of the partition is more than Kafka keeps."""
    refused = []

    class Refused(Consumer):
        def commit(self, *, offsets, asynchronous):
            if not refused:
                refused.extend(offsets)
                offsets = [TopicPartition(each.topic, each.partition, each.offset, "x" * 5_000) for each in offsets]
            return super().commit(offsets=offsets, asynchronous=asynchronous)

    monkeypatch.setattr("tkcons.session.Consumer", Refused)
    settings.TKCONS = {**QUICK, "START": "latest"}
    send(topic, *range(5))
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    with running(database(group, topic)):
        eventually(lambda: consumer.committed([TopicPartition(topic, 0)], timeout=10)[0].offset == 5)
    consumer.close()
    assert refused
    Position.objects.filter(group=group).delete()
    send(topic, *range(5, 8))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 3)
    assert values(group) == numbers(3, 5)


def test_what_kafka_was_told_of_a_topic_of_before_means_everything_is_unread(send, broker, topic, group):
    send(topic, *range(10))
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    consumer.commit(offsets=[tell(Place(topic, "A" * 22, 0), 9, 7)], asynchronous=False)
    consumer.close()
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)


def test_a_file_that_is_removed_with_its_positions_is_written_again(send, topic, group, tmp_path):
    path = tmp_path / "lines.jsonl"
    spec = Spec(group, (topic,), JsonLinesSink, {"path": path})
    send(topic, *range(10))
    for _ in range(2):
        with running(spec):
            eventually(lambda: path.exists() and path.read_text().count("\n") == 10)
        for each in tmp_path.iterdir():
            each.unlink()


def test_latest_is_resolved_once_and_stored_before_any_message(send, topic, group, settings):
    settings.TKCONS = {**QUICK, "START": "latest"}
    send(topic, *range(5))
    with running(database(group, topic)):
        eventually(lambda: Position.objects.filter(group=group, next_offset=5).exists())
    send(topic, 5, 6)
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 2)
    assert values(group) == ["5", "6"]


def test_partitions_that_the_topic_grows_start_at_their_beginning(send, kafka_admin, topic, group, settings):
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 500}
    settings.TKCONS = {**QUICK, "START": "latest"}
    with running(database(group, topic)):
        eventually(lambda: Position.objects.filter(group=group).exists())
        kafka_admin.create_partitions([NewPartitions(topic, 2)])[topic].result(10)
        send(topic, "grown", partition=1)
        eventually(lambda: values(group) == ["grown"], 30)


@pytest.mark.parametrize("old", [5, 50])
def test_a_topic_made_again_is_read_from_its_start(send, broker, make_topic, kafka_admin, group, settings, old):
    """With fewer messages than before, and with as many: the consumer's offset is outside the new topic, or inside."""
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 500}
    topic = make_topic()
    send(topic, *range(old))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == old)
        kafka_admin.delete_topics([topic])[topic].result(10)
        eventually(lambda: topic not in kafka_admin.list_topics(timeout=10).topics)
        time.sleep(1.5)  # the broker deletes the old one's files
        make_topic(name=topic)
        again = [f"new-{number}" for number in range(20)]
        eventually(lambda: _sent(send, topic, again))
        eventually(lambda: len(values(group)) == old + 20, 40)
    assert values(group) == [*numbers(old), *again]
    assert Position.objects.filter(group=group, topic=topic).count() == 2


def test_a_topic_made_again_while_the_group_pauses_is_read_from_its_start(
    send, make_topic, kafka_admin, group, settings
):
    """Kafka goes on at the old offset without an error, for the new topic has as many messages."""
    settings.KAFKA_CLIENT = {"topic.metadata.refresh.interval.ms": 60_000}  # it does not see the topic go
    settings.TKCONS = {
        **QUICK,
        "SINKS": {"x": {"class": "tkcons.sinks.DatabaseSink", "topics": [topic := make_topic()], "group": group}},
    }
    code = Caller("test", everything=True)
    send(topic, *range(10))
    with running(groups.spec(group)):
        eventually(lambda: len(values(group)) == 10)
        groups.want(Group.State.PAUSED, code, [group])
        eventually(lambda: states(group) == ["paused"])
        kafka_admin.delete_topics([topic])[topic].result(10)
        eventually(lambda: topic not in kafka_admin.list_topics(timeout=10).topics)
        make_topic(name=topic)
        again = [f"new-{number}" for number in range(30)]
        eventually(lambda: _sent(send, topic, again))
        groups.want(Group.State.RUNNING, code, [group])
        eventually(lambda: len(values(group)) == 40, 40)
    assert values(group) == [*numbers(10), *again]


def _sent(send, topic, again) -> bool:
    send(topic, *again)
    return True


def test_messages_that_expired_unread_stop_the_partition_and_alarm(send, kafka_admin, make_topic, group):
    topic = make_topic(2)
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    send(topic, *range(10, 20))
    kafka_admin.delete_records([TopicPartition(topic, 0, 15)])[TopicPartition(topic, 0)].result(10)
    with running(database(group, topic)):
        eventually(lambda: any("expired unread" in member.error for member in Member.objects.all()))
        send(topic, "neighbour", partition=1)
        eventually(lambda: len(values(group)) == 11)
    assert values(group) == [*numbers(10), "neighbour"]


def test_a_position_past_kafkas_end_stops_the_partition_and_alarms(send, make_topic, group):
    """As after an election of a broker that lagged: it lost what the group has stored."""
    topic = make_topic(2)
    send(topic, *range(10))
    with running(database(group, topic)):
        eventually(lambda: len(values(group)) == 10)
    Position.objects.filter(group=group, partition=0).update(next_offset=15)
    with running(database(group, topic)):
        eventually(lambda: any("cut back, and ends at 10" in member.error for member in Member.objects.all()))
        send(topic, *range(10, 20))  # new messages under the offsets of the lost ones
        send(topic, "neighbour", partition=1)
        eventually(lambda: len(values(group)) == 11)
        time.sleep(1)
    assert values(group) == [*numbers(10), "neighbour"]


@pytest.mark.parametrize("kind", ["database", "file"])
def test_a_person_can_go_on_past_what_expired(send, kafka_admin, topic, group, settings, tmp_path, kind):
    sinks = {
        "database": {"class": "tkcons.sinks.DatabaseSink"},
        "file": {"class": "tkcons.sinks.JsonLinesSink", "path": tmp_path / "lines.jsonl"},
    }
    settings.TKCONS = {**QUICK, "SINKS": {"x": {**sinks[kind], "topics": [topic], "group": group}}}

    def stored() -> int:
        path = tmp_path / "lines.jsonl"
        return len(values(group)) if kind == "database" else path.read_text().count("\n") if path.exists() else 0

    send(topic, *range(10))
    with running(groups.spec(group)):
        eventually(lambda: stored() == 10)
        with pytest.raises(CommandError, match="stop it first"):
            call_command("group", "skip", group)
    send(topic, *range(10, 20))
    kafka_admin.delete_records([TopicPartition(topic, 0, 15)])[TopicPartition(topic, 0)].result(10)
    out = StringIO()
    call_command("group", "skip", group, stdout=out)
    assert out.getvalue() == f"{group}: {topic}[0]: offsets 10 to 14 were lost, goes on at 15\n"
    with running(groups.spec(group)):
        eventually(lambda: stored() == 15)


def test_offsets_in_a_transaction_that_is_open_are_waited_for(send, broker, topic, group, settings, monkeypatch):
    """Kafka does not tell them: that is not the same as none committed, or START would count."""
    monkeypatch.setattr("tkcons.claims.ANSWER_SECONDS", 0.5)
    settings.TKCONS = {**QUICK, "START": "latest"}
    send(topic, *range(10))
    consumer = Consumer({"bootstrap.servers": broker, "group.id": group})
    producer = Producer({"bootstrap.servers": broker, "transactional.id": group})
    producer.init_transactions(10)
    producer.begin_transaction()
    producer.send_offsets_to_transaction([TopicPartition(topic, 0, 4)], consumer.consumer_group_metadata(), 10)
    with running(database(group, topic)) as runner:
        eventually(lambda: runner._report()[3])
        assert not Position.objects.filter(group=group).exists()
        producer.commit_transaction(10)
        eventually(lambda: len(values(group)) == 6)
    consumer.close()
    assert values(group) == numbers(6, 4)


def test_offsets_that_kafka_refuses_to_tell_are_no_reason_to_start_anew(tmp_path, settings, group):
    """Each partition has its own answer: here this client may not see the topic for as long as it asks."""
    rules = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer"}
    with Cluster(tmp_path, port=0, options={**rules, "allow.everyone.if.no.acl.found": "true"}) as cluster:
        settings.KAFKA_BROKER_URL, settings.TKCONS = cluster.bootstrap, {**QUICK, "START": "latest"}
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        name = (ResourceType.TOPIC, "sample-topic", ResourcePatternType.LITERAL)
        rule = AclBinding(*name, "User:another", "*", AclOperation.DESCRIBE, AclPermissionType.ALLOW)

        class Refused(Consumer):
            def committed(self, *given, **named):
                def told(*, refused):
                    with contextlib.suppress(KafkaException):  # the group's coordinator begins
                        answer = super(Refused, self).committed(*given, **named)
                        return answer if (answer[0].error is not None) == refused else None

                admin.create_acls([rule])[rule].result(10)
                answer = eventually(lambda: told(refused=True))
                admin.delete_acls([AclBindingFilter(*name, None, None, AclOperation.ANY, AclPermissionType.ANY)])
                eventually(lambda: told(refused=False))
                return answer

        consumer = Refused({"bootstrap.servers": cluster.bootstrap, "group.id": group})
        spec = database(group, "sample-topic")
        sink = spec.sink()
        sink.open()
        with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
            Claims(spec, sink, consumer).take([("sample-topic", 0)])
        consumer.close()
        sink.close()
    assert not Position.objects.filter(group=group).exists()
