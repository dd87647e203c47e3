"""POST /tkprod with many records, on the real broker: what is answered, and what is then in the topic."""

import json
import threading
import time
from collections import Counter

import pytest
from confluent_kafka import Consumer, TopicPartition
from django.test import Client

import tk
from tests.waiting import eventually
from tk import access, batch, errors, pipeline, producer, transactions
from tk.models import Token
from tk.record import EVENT_ID_HEADER
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]

NDJSON = "application/x-ndjson"


def read(bootstrap: str, topic: str, partition: int = 0) -> list:
    """Everything that readers who read committed see in a partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    consumer.assign([TopicPartition(topic, partition, 0)])
    found, deadline = [], time.monotonic() + 30
    while time.monotonic() < deadline:
        for message in consumer.consume(1_000, 1):
            if message.error() is not None:
                consumer.close()
                return found
            found.append(message)
    raise AssertionError("the end was not reached")


def values(bootstrap: str, topic: str, partition: int = 0) -> list[bytes]:
    return [message.value() for message in read(bootstrap, topic, partition)]


@pytest.fixture
def local(settings, broker, topic):
    settings.DEBUG = True
    settings.TK = {"TOPIC": topic}
    return Client()


def post(client: Client, query: str, body: bytes, kind: str = NDJSON, **headers):
    return client.generic("POST", f"/tkprod{query}", body, content_type=kind, headers=headers)


def told(answer) -> list[dict]:
    assert answer.status_code == 200, answer.content
    return [json.loads(line) for line in b"".join(answer).splitlines()]


def ndjson(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def test_an_answer_for_each_record_in_order(local, broker, make_topic):
    topic = make_topic(3)
    body = ndjson(
        {"value": "a", "key": "k", "headers": {"x": "y", "n": None}, "partition": 2, "timestamp": 1_700_000_000_000},
        {"value": {"id": 1}, "partition": 1},
        {"value": "bad", "partition": 3},
        {"valu": "bad"},
        {"value": None, "key": "gone", "partition": 0},
    )
    *answers, last = told(post(local, f"?topic={topic}", body + b"nonsense\n"))
    assert answers[0] == {"topic": topic, "partition": 2, "offset": 0, "timestamp": 1_700_000_000_000}
    assert [(a.get("partition"), a.get("code")) for a in answers[1:]] == [
        (1, None),
        (None, "invalid_partition"),
        (None, "bad_request"),
        (0, None),
        (None, "bad_request"),
    ]
    codes = {"invalid_partition": 1, "bad_request": 2}
    assert last == {"summary": {"records": 6, "produced": 3, "failed": 3, "codes": codes}}
    (first,) = read(broker, topic, 2)
    assert (first.key(), first.value(), first.headers()) == (b"k", b"a", [("x", b"y"), ("n", None)])
    assert first.timestamp() == (1, 1_700_000_000_000)
    assert values(broker, topic, 1) == [b'{"id":1}']
    assert [(m.key(), m.value()) for m in read(broker, topic)] == [(b"gone", None)]


@pytest.mark.parametrize("zero", ["", "\0"])
@pytest.mark.parametrize("query", ["", "?summary=1", "?atomic=1"])
def test_text_arrives_byte_for_byte(local, broker, topic, query, zero):
    """The client encodes it, and would end a header's text at a zero."""
    headers = {"ß": "ü\U0001f600", "n": None, "e": "", "z": f"a{zero}b"}
    assert told(post(local, query, ndjson({"value": "ü\U0001f600", "key": "", "headers": headers}, {"value": "b"})))
    first, second = read(broker, topic)
    assert (first.key(), first.value()) == (b"", "ü\U0001f600".encode())
    sent = [(name, text if text is None else text.encode()) for name, text in headers.items()]
    assert first.headers() == sent
    assert (second.key(), second.value(), second.headers()) == (None, b"b", None)


@pytest.mark.parametrize("path", ["/tkprod", "/tkprod/"])
def test_lines_of_text_and_their_counts(local, broker, topic, path):
    body = "\n".join(f"grüße {number}" for number in range(5_000)).encode()
    answer = local.generic("POST", f"{path}?lines=1&summary=1", body, content_type="text/plain; charset=utf-8")
    assert answer["Content-Type"] == "application/json"
    assert told(answer) == [{"records": 5_000, "produced": 5_000, "failed": 0}]
    assert values(broker, topic) == body.split(b"\n")


def test_the_offsets_told_are_those_of_the_records(local, broker, topic):
    body = ndjson(
        *(
            {"value": str(number), "headers": {"a": "b"}} if number % 2 else {"value": str(number)}
            for number in range(4_500)
        )
    )
    *answers, _ = told(post(local, "", body))
    stored = {message.offset(): message.value() for message in read(broker, topic)}
    assert [stored[answer["offset"]] for answer in answers] == [b"%d" % number for number in range(4_500)]
    assert sorted(answer["offset"] for answer in answers) == [answer["offset"] for answer in answers]


@pytest.mark.parametrize("query", ["", "?summary=1", "?atomic=1"])
def test_each_record_goes_to_the_partition_it_names(local, broker, make_topic, settings, query):
    """With nothing else beside the value: produce_batch looks at no message's partition."""
    topic = make_topic(partitions=3)
    settings.TK = {"TOPIC": topic}
    given = ndjson(*({"value": str(number), "partition": number % 3} for number in range(300)))
    assert told(post(local, query, given))
    for partition in range(3):
        assert values(broker, topic, partition) == [b"%d" % number for number in range(partition, 300, 3)]


def test_a_json_array(local, broker, topic):
    body = json.dumps([{"value": "a"}, 7, {"value": "]["}], indent=1).encode()
    *answers, last = told(post(local, "", body, "application/json"))
    assert [answer.get("code") for answer in answers] == [None, "bad_request", None]
    assert last["summary"]["produced"] == 2
    assert values(broker, topic) == [b"a", b"]["]
    assert post(local, "", b'{"message": "one"}', "application/json").content == b"Produced message."


def test_a_body_that_breaks_off_says_where(local, broker, topic):
    (last,) = told(post(local, "?summary=1", b'[{"value": "a"}, {"value"', "application/json"))
    assert (last["produced"], last["code"]) == (1, "bad_request")
    assert values(broker, topic) == [b"a"]


@pytest.mark.parametrize(
    ("query", "kind", "body", "headers", "status", "code"),
    [
        ("?lines=1", "application/octet-stream", b"a", {}, 415, "unsupported_media_type"),
        ("?lines=1", NDJSON, b"a", {}, 415, "unsupported_media_type"),
        ("?lines=2", "text/plain", b"a", {}, 400, "bad_request"),
        ("?atomic=yes", NDJSON, b"a", {}, 400, "bad_request"),
        ("?key=k", NDJSON, b"a", {}, 400, "bad_request"),
        ("?lines=1", "text/plain; charset=latin-1", b"a", {}, 415, "unsupported_media_type"),
        ("", NDJSON, b"a", {"content-encoding": "gzip"}, 415, "unsupported_media_type"),
        ("", NDJSON, b"\n" * 0, {}, 400, "missing_message"),
        ("", "application/json", b"[]", {}, 400, "missing_message"),
        ("", "application/json", b"[", {}, 400, "bad_request"),
        ("?topic=no-such", NDJSON, b"a", {}, 404, "unknown_topic"),
        ("?topic=a/b", NDJSON, b"a", {}, 400, "invalid_topic"),
        ("?atomic=1", NDJSON, b'{"value":"a"}\n{"value":""}\n', {}, 400, "missing_message"),
        ("?atomic=1", NDJSON, b'{"value":"a"}\n{"value":"b","partition":1}\n', {}, 400, "invalid_partition"),
        ("?atomic=1", "application/json", b'[{"value":"a"}', {}, 400, "bad_request"),
        ("", NDJSON, b'{"value":"a"}', {"sec-fetch-site": "cross-site"}, 403, "cross_site"),
    ],
)
def test_bad_input_gets_a_code_and_sends_nothing(local, broker, topic, query, kind, body, headers, status, code):
    answer = post(local, query, body, kind, **headers)
    assert (answer.status_code, answer["X-Error-Code"]) == (status, code)
    assert values(broker, topic) == []


def test_the_event_ids_header_is_reserved(local, broker, topic):
    *answers, _ = told(post(local, "", ndjson({"value": "a", "headers": {EVENT_ID_HEADER: "x"}}, {"value": "b"})))
    assert [answer.get("code") for answer in answers] == ["invalid_header", None]
    assert values(broker, topic) == [b"b"]


def test_limits_of_one_request(local, broker, topic, settings):
    settings.TK = {**settings.TK, "MAX_BATCH_RECORDS": 3, "MAX_BATCH_BYTES": 1_000, "MAX_ATOMIC_BYTES": 100}
    (last,) = told(post(local, "?lines=1&summary=1", b"a\nb\nc\nd\n", "text/plain"))
    assert (last["records"], last["code"]) == (3, "too_large")
    assert values(broker, topic) == [b"a", b"b", b"c"]
    assert post(local, "?lines=1", b"a\n" * 501, "text/plain").status_code == 413
    assert post(local, "?lines=1&atomic=1", b"a\n" * 51, "text/plain").status_code == 413
    assert len(values(broker, topic)) == 3


def test_who_may(broker, topic, settings):
    settings.TK = {"TOPIC": topic, "TOPICS": ["*"]}
    text, digest = access.new_token()
    Token.objects.create(name="t", digest=digest, scopes=["tk.produce"], topics=["other-*"])
    body = ndjson({"value": "a"})
    assert post(Client(), "", body).status_code == 401
    answer = post(Client(), "", body, authorization=f"Bearer {text}")
    assert (answer.status_code, answer["X-Error-Code"]) == (403, "forbidden")
    Token.objects.update(topics=[topic])
    access._believed.clear()
    assert told(post(Client(), "", body, authorization=f"Bearer {text}"))[-1]["summary"]["produced"] == 1
    assert values(broker, topic) == [b"a"]


def test_a_full_queue_is_waited_for(local, broker, topic, settings):
    settings.TK = {"TOPIC": topic, "QUEUE_MESSAGES": 50}
    body = b"".join(b"%d\n" % number for number in range(3_000))
    last = told(post(local, "?lines=1", body, "text/plain"))[-1]
    assert last["summary"] == {"records": 3_000, "produced": 3_000, "failed": 0}
    assert values(broker, topic) == body.split()
    headed = ndjson(*({"value": str(number), "headers": {"a": "b"}} for number in range(1_000)))
    assert told(post(local, "?summary=1", headed))[0]["produced"] == 1_000
    assert values(broker, topic)[3_000:] == [b"%d" % number for number in range(1_000)]


def test_a_record_that_the_client_refuses_fails_alone(local, broker, topic, settings):
    """The queue's own limit of bytes is below this value: librdkafka takes what is before and after it."""
    settings.TK = {"TOPIC": topic, "MAX_VALUE_BYTES": 2_000_000}
    body = b"a\n" + b"x" * 1_900_000 + b"\nb\n"
    *answers, _ = told(post(local, "?lines=1", body, "text/plain"))
    assert [answer.get("code") for answer in answers] == [None, "too_large", None]
    assert values(broker, topic) == [b"a", b"b"]


def test_all_or_none(local, broker, topic):
    body = ndjson(*({"value": str(number), "key": "k", "headers": {"a": "b"}} for number in range(3_000)))
    *answers, last = told(post(local, "?atomic=1", body))
    assert last["summary"] == {"records": 3_000, "produced": 3_000, "failed": 0}
    stored = {message.offset(): message.value() for message in read(broker, topic)}
    assert [stored[answer["offset"]] for answer in answers] == [b"%d" % number for number in range(3_000)]
    assert told(post(local, "?atomic=1&summary=1&lines=1", b"x\ny", "text/plain"))[0]["produced"] == 2
    assert len(values(broker, topic)) == 3_002


def test_an_atomic_batch_is_read_through_before_its_transaction_begins(local, monkeypatch):
    monkeypatch.delattr(transactions.pool.__class__, "transaction")
    answer = post(local, "?atomic=1", ndjson({"value": "a"}, {"value": ""}))
    assert (answer.status_code, answer["X-Error-Code"]) == (400, "missing_message")


def test_a_record_that_the_broker_refuses_takes_the_others_with_it(local, broker, topic, settings):
    settings.TK = {"TOPIC": topic, "MAX_VALUE_BYTES": 2_000_000, "DELIVERY_TIMEOUT": 3.0, "REQUEST_TIMEOUT": 5.0}
    answer = post(local, "?lines=1&atomic=1", b"a\n" + b"x" * 1_900_000 + b"\nb\n", "text/plain")
    assert (answer.status_code, answer["X-Error-Code"]) == (413, "too_large")
    assert values(broker, topic) == []
    assert told(post(local, "?lines=1&atomic=1&summary=1", b"c", "text/plain"))[0]["produced"] == 1
    assert values(broker, topic) == [b"c"]


def test_a_fenced_producer_is_rebuilt(local, broker, topic):
    """Somebody took its transactional id: the batch under way is not there, the next one is."""
    body = b"a\nb\n"
    assert told(post(local, "?lines=1&atomic=1&summary=1", body, "text/plain"))[0]["produced"] == 2
    (slot,) = transactions.pool._free
    thief = producer.Producer({"transactional.id": slot.id, "delivery.timeout.ms": 5_000})
    thief.client.init_transactions(10)
    answer = post(local, "?lines=1&atomic=1", b"c\nd\n", "text/plain")
    assert (answer.status_code, answer["X-Error-Code"]) in {(503, "not_sent"), (504, "outcome_unknown")}
    assert told(post(local, "?lines=1&atomic=1&summary=1", b"e", "text/plain"))[0]["produced"] == 1
    assert values(broker, topic) == [b"a", b"b", b"e"]
    thief.close(1)


def test_atomic_batches_wait_for_a_free_producer(local, broker, topic, settings):
    settings.TK = {"TOPIC": topic, "TRANSACTIONS": 1, "REQUEST_TIMEOUT": 0.5, "DELIVERY_TIMEOUT": 0.4}
    with transactions.pool.transaction():
        answer = post(local, "?lines=1&atomic=1", b"a", "text/plain")
    assert (answer.status_code, answer["X-Error-Code"]) == (503, "queue_full")
    assert answer["Retry-After"]
    settings.TK = {"TOPIC": topic, "TRANSACTIONS": 1}
    assert told(post(local, "?lines=1&atomic=1&summary=1", b"b", "text/plain"))[0]["produced"] == 1
    assert values(broker, topic) == [b"b"]


def test_many_from_django_code(broker, make_topic):
    one, two = make_topic(), make_topic()
    records = [tk.Record(one if number % 3 else two, b"%d" % number) for number in range(2_500)]
    records[7] = tk.Record("no-such", b"x")
    records[8] = tk.Record(one, None)
    receipts = tk.produce_many(iter(records))
    assert len(receipts) == 2_500
    assert isinstance(receipts[7], errors.UnknownTopic)
    assert isinstance(receipts[8], errors.MissingMessage)
    stored = {(topic, m.offset()): m.value() for topic in (one, two) for m in read(broker, topic)}
    sent = {
        (r.topic, r.offset): records[number].value for number, r in enumerate(receipts) if isinstance(r, tk.Receipt)
    }
    assert stored == sent
    assert len(sent) == 2_498


@pytest.mark.parametrize("headers", [(), (("a", b"b"),)])
def test_every_answer_is_true_when_the_broker_dies_in_the_middle(settings, tmp_path, headers):
    settings.TK = {"DELIVERY_TIMEOUT": 3.0, "REQUEST_TIMEOUT": 5.0}
    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap
        dead = threading.Event()

        def windows():
            for number in range(50):
                if number == 20:
                    cluster.kill()
                    dead.set()
                yield [tk.Record("sample-topic", b"%d" % (100 * number + each), headers=headers) for each in range(100)]
                if dead.is_set():
                    time.sleep(0.1)

        outcomes = [outcome for flight in pipeline.sending(windows()) for outcome in flight.outcomes]
        assert len(outcomes) == 5_000
        cluster.restart()
        cluster.wait()
        stored = [int(value) for value in values(cluster.bootstrap, "sample-topic")]
        _are_true(outcomes, stored)
        assert sum(isinstance(outcome, tk.Receipt) for outcome in outcomes) >= 1_000
        assert any(isinstance(outcome, errors.NotSent) for outcome in outcomes)
        eventually(lambda: isinstance(tk.produce_many([tk.Record("sample-topic", b"9999")])[0], tk.Receipt), 30)


def _are_true(outcomes: list, stored: list[int]) -> None:
    """Confirmed: there once; not sent: not there; unknown: at most once."""
    for number, outcome in enumerate(outcomes):
        count = stored.count(number)
        if isinstance(outcome, tk.Receipt):
            assert count == 1, number
        elif isinstance(outcome, errors.NotSent):
            assert count == 0, number
        else:
            assert isinstance(outcome, errors.OutcomeUnknown)
            assert count <= 1, number


def test_an_atomic_batch_is_there_whole_or_not_at_all_when_the_broker_dies(settings, tmp_path, monkeypatch):
    """With its first records acknowledged; and with all of them, before the commit is asked for."""
    monkeypatch.setattr(transactions, "TRANSACTION_SECONDS", 4.0)
    settings.DEBUG = True
    settings.TK = {"DELIVERY_TIMEOUT": 3.0, "REQUEST_TIMEOUT": 5.0}
    client, sound, commit = Client(), batch._sound, transactions._commit
    with Cluster(tmp_path, port=0) as cluster:
        settings.KAFKA_BROKER_URL = cluster.bootstrap

        def dies_after_the_first(sent):
            yield next(flights := sound(sent))
            cluster.kill()
            yield from flights

        def dies_before_commit(slot, made):
            cluster.kill()
            commit(slot, made)

        def send(number: int) -> int:
            answer = post(client, "?lines=1&atomic=1&summary=1", b"%d\n" % number * 20_000, "text/plain")
            answer.close()
            if not cluster.alive:
                cluster.restart()
                cluster.wait()
                eventually(lambda: client.get("/tkprod?message=-1").status_code == 200, 30)
            return answer.status_code

        statuses = [send(0)]
        with monkeypatch.context() as dying:
            dying.setattr(batch, "_sound", dies_after_the_first)
            statuses.append(send(1))
        statuses.append(send(2))
        with monkeypatch.context() as dying:
            dying.setattr(transactions, "_commit", dies_before_commit)
            statuses.append(send(3))
        statuses.append(send(4))
        stored = Counter(int(value) for value in _settled(cluster.bootstrap))
    assert statuses[:3] == [200, 503, 200]
    assert (statuses[3], statuses[4]) in {(503, 200), (504, 200)}
    assert [stored[number] for number in (0, 1, 2, 4)] == [20_000, 0, 20_000, 20_000]
    assert stored[3] in {503: {0}, 504: {0, 20_000}}[statuses[3]]


def _settled(bootstrap: str) -> list[bytes]:
    """What is there once no transaction is open any more: the coordinator ends it after TRANSACTION_SECONDS."""
    producer.send(tk.Record("sample-topic", b"-2"))
    return eventually(lambda: (found := values(bootstrap, "sample-topic")) and found[-1] == b"-2" and found, 30)


def test_down_from_the_first_record_on(settings):
    settings.KAFKA_BROKER_URL = "localhost:1"
    settings.DEBUG = True
    for query in ("?lines=1", "?lines=1&atomic=1"):
        began = time.monotonic()
        answer = post(Client(), query, b"a\nb", "text/plain")
        assert (answer.status_code, answer["X-Error-Code"]) == (503, "not_sent")
        assert time.monotonic() - began < 8
