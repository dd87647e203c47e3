"""Decoders of Avro, JSON Schema and Protobuf for handlers: the other side of tk.schemas.

    @handler("orders", group="billing", decode=avro())
    def bill(message): ...

A message that does not fit becomes a dead letter; while the registry is away, the partition waits.
"""

from collections.abc import Callable
from typing import Any

from tk.errors import RegistryUnavailable
from tk.schemas import Format
from tkcons.errors import SinkUnavailable
from tkcons.received import Decode


def avro(schema: str | None = None, **options: Any) -> Decode:
    """Dicts; `schema`: the reader's (default: the writer's). options: AvroDeserializer's own (from_dict, conf)."""

    def make(client: Any) -> Any:
        from confluent_kafka.schema_registry.avro import AvroDeserializer

        return AvroDeserializer(client, schema, **options)

    return _decode(make)


def json_schema(schema: str | None = None, **options: Any) -> Decode:
    """Dicts, checked against `schema` (default: the writer's). options: JSONDeserializer's own."""

    def make(client: Any) -> Any:
        from confluent_kafka.schema_registry.json_schema import JSONDeserializer

        return JSONDeserializer(schema, schema_registry_client=client, **options)

    return _decode(make)


def protobuf(message: type, **options: Any) -> Decode:
    """Messages of this generated class. options: ProtobufDeserializer's own (conf)."""

    def make(client: Any) -> Any:
        from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer

        return ProtobufDeserializer(message, schema_registry_client=client, **options)

    return _decode(make)


def _decode(make: Callable[[Any], Any]) -> Decode:
    read = Format(make)

    def decode(message: Any) -> Any:
        value = message.value()
        if value is None:
            return None
        try:
            return read(value, message.topic())
        except RegistryUnavailable as error:
            raise SinkUnavailable(str(error)) from error

    return decode
