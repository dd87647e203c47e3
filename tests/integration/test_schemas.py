"""Avro, JSON Schema and Protobuf with confluent_kafka's own client of a schema registry, which speaks HTTP here."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka import Message
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import tk
from tk import errors, schemas
from tk.testing import KafkaOutbox
from tkcons import handler
from tkcons import schemas as decoders
from tkcons.errors import SinkUnavailable
from tkcons.handlers import registry as handlers
from tkcons.testing import run_consumer

AVRO = '{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "int"}]}'
JSON = """{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Order", "type": "object",
 "properties": {"id": {"type": "integer"}}, "required": ["id"]}"""

order = schemas.avro(AVRO)  # named in TK["SERIALIZERS"]


def _message_class():
    """What protoc makes of: message Order { int32 id = 1; }"""
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    file.message_type.add(name="Order").field.add(name="id", number=1, type=5, label=1)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


Order = _message_class()


class Registry(BaseHTTPRequestHandler):
    """As much of a schema registry as serializers ask for."""

    schemas: dict[int, dict] = {}
    status = 200

    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {json.dumps(schema, sort_keys=True): number for number, schema in self.schemas.items()}
        number = known.get(json.dumps(given, sort_keys=True), len(self.schemas) + 1)
        self.schemas[number] = given
        subject = self.path.split("/")[2]
        self.answer({"id": number, "version": 1, "subject": subject, **given})

    def do_GET(self):
        path = self.path.partition("?")[0]
        if not path.startswith("/schemas/ids/"):  # what the newest registries alone have
            self.answer({"error_code": 404, "message": path}, 404)
            return
        self.answer(self.schemas[int(path.rpartition("/")[2])])

    def answer(self, body, status=200):
        if self.status != 200:
            status, body = self.status, {"error_code": self.status, "message": "no"}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(settings, monkeypatch):
    monkeypatch.setattr(Registry, "schemas", {})
    monkeypatch.setattr(Registry, "status", 200)
    made = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    settings.TK = {
        "SCHEMA_REGISTRY": {"url": f"http://127.0.0.1:{made.server_port}", "max.retries": 0},
        "SERIALIZERS": {"orders.*": f"{__name__}.order"},
    }
    yield made
    made.shutdown()
    made.server_close()
    thread.join(10)


@pytest.fixture
def fake():
    with KafkaOutbox() as made:
        yield made


def received(data: bytes) -> Message:
    return Message(topic="orders", partition=0, offset=0, value=data, key=None, headers=[], timestamp=(1, 0))


@pytest.mark.parametrize(
    ("write", "read", "value"),
    [
        (schemas.avro(AVRO), decoders.avro(), {"id": 7}),
        (schemas.avro(AVRO), decoders.avro(AVRO), {"id": 7}),
        (schemas.json_schema(JSON), decoders.json_schema(JSON), {"id": 7}),
        (schemas.json_schema(JSON), decoders.json_schema(), {"id": 7}),
        (schemas.protobuf(Order), decoders.protobuf(Order), Order(id=7)),
    ],
)
def test_there_and_back(server, fake, write, read, value):
    tk.produce("orders", value, serializer=write)
    (message,) = fake.messages
    assert message.value[:1] == b"\0"  # the registry's framing
    assert read(received(message.value)) == value
    assert read(received(None)) is None


@pytest.mark.django_db
def test_a_topics_serializer_is_a_setting(server, fake):
    tk.produce("orders.new", {"id": 1})
    tk.publish("orders.new", {"id": 1})
    tk.produce("orders.new", b"as it is")
    tk.produce("other", {"id": 1})
    first, second, raw, other = (message.value for message in fake.messages)
    assert first == second == b"\0\0\0\0\x01\x02"
    assert (raw, other) == (b"as it is", b'{"id":1}')


@pytest.mark.parametrize("write", [schemas.avro(AVRO), schemas.json_schema(JSON), schemas.protobuf(Order)])
def test_what_does_not_fit_is_refused(server, fake, write):
    with pytest.raises(errors.InvalidRecord):
        tk.produce("orders", {"id": "seven"}, serializer=write)
    fake.assertNothingProduced()


@pytest.mark.parametrize(("status", "error"), [(409, errors.InvalidRecord), (500, errors.RegistryUnavailable)])
def test_what_the_registry_refuses(server, fake, status, error, monkeypatch):
    monkeypatch.setattr(Registry, "status", status)
    with pytest.raises(error):
        tk.produce("orders", {"id": 1}, serializer=schemas.avro(AVRO))


def test_a_registry_that_is_down(settings, fake):
    settings.TK = {"SCHEMA_REGISTRY": "http://127.0.0.1:1"}
    with pytest.raises(errors.NotSent) as raised:
        tk.produce("orders", {"id": 1}, serializer=schemas.avro(AVRO))
    assert (raised.value.code, raised.value.status) == ("registry_unavailable", 503)
    with pytest.raises(SinkUnavailable):
        decoders.avro()(received(b"\0\0\0\0\x01\x02"))


@pytest.mark.django_db
def test_handlers_wait_for_the_registry_and_make_dead_letters_of_what_does_not_fit(server, settings):
    seen = []

    @handler("orders", group="schemas", decode=decoders.avro())
    def take(message):
        seen.append(message.value)

    try:
        data = schemas.avro(AVRO)({"id": 7}, "orders")
        consumed = run_consumer(take, [data, b"no framing"])
        assert (consumed.handled, seen) == (1, [{"id": 7}])
        assert len(consumed.dead_letters) == 1
        settings.TK = {"SCHEMA_REGISTRY": "http://127.0.0.1:1"}
        with pytest.raises(SinkUnavailable):
            run_consumer(take, [data])
    finally:
        del handlers["schemas"]
