"""Avro, JSON Schema and Protobuf through confluent-kafka's own Schema Registry client (the extra `schema`).

# shop/schemas.py
order = avro((FOLDER / "order.avsc").read_text())

TK = {"SCHEMA_REGISTRY": "http://localhost:8081", "SERIALIZERS": {"orders.*": "shop.schemas.order"}}
"""

import os
from collections.abc import Callable
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.translation import gettext_noop as _

from tk.conf import settings
from tk.errors import InvalidRecord, RegistryUnavailable

# Seconds and tries of one question to the registry: the answer is awaited within the request.
_BOUNDS = {"timeout": 2, "max.retries": 1}

_registry: tuple[int, Any] | None = None


def registry() -> Any:
    """The process's client of the registry in TK["SCHEMA_REGISTRY"]: a URL, or the client's own options."""
    global _registry
    if _registry is None or _registry[0] != os.getpid():
        from confluent_kafka.schema_registry import SchemaRegistryClient

        given = settings.SCHEMA_REGISTRY
        if not given:
            raise ImproperlyConfigured("TK['SCHEMA_REGISTRY'] names no schema registry.")
        _registry = os.getpid(), SchemaRegistryClient(_BOUNDS | ({"url": given} if isinstance(given, str) else given))
    return _registry[1]


def _forget(setting: str, **kwargs: object) -> None:
    global _registry
    if setting == "TK":
        _registry = None


setting_changed.connect(_forget, dispatch_uid="tk.schemas")


class Format:
    """A serializer or decoder of confluent_kafka, made at its first use in a process. `make` takes the registry."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._made: tuple[Any, Any] | None = None  # of which registry

    def __call__(self, value: Any, topic: str) -> Any:
        """Raises RegistryUnavailable, or InvalidRecord for what does not fit its schema."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError
        from confluent_kafka.serialization import MessageField, SerializationContext

        client = registry()
        try:
            if self._made is None or self._made[0] is not client:
                self._made = client, self._make(client)
            return self._made[1](value, SerializationContext(topic, MessageField.VALUE))
        except SchemaRegistryError as error:
            if error.http_status_code >= 500:
                raise RegistryUnavailable(
                    _("The schema registry answers %(error)s: try again."), error=error
                ) from error
            raise InvalidRecord(_("The schema registry refuses: %(error)s"), error=error) from error
        except Exception as error:
            if _is_transport(error):
                raise RegistryUnavailable from error
            raise InvalidRecord(_("The value does not fit its schema: %(error)s"), error=error) from error


def _is_transport(error: Exception) -> bool:
    """Whether the registry was not reached, as the HTTP library that confluent_kafka has chosen says it."""
    from confluent_kafka.schema_registry.common._httpx_compat import httpx

    return isinstance(error, httpx.TransportError | OSError)


def avro(schema: str, **options: Any) -> Format:
    """A serializer of dicts by this Avro schema; options: AvroSerializer's own (to_dict, conf)."""

    def make(client: Any) -> Any:
        from confluent_kafka.schema_registry.avro import AvroSerializer

        return AvroSerializer(client, schema, **options)

    return Format(make)


def json_schema(schema: str, **options: Any) -> Format:
    """A serializer of dicts by this JSON Schema, which they are checked against; options: JSONSerializer's own."""

    def make(client: Any) -> Any:
        from confluent_kafka.schema_registry.json_schema import JSONSerializer

        return JSONSerializer(schema, client, **options)

    return Format(make)


def protobuf(message: type, **options: Any) -> Format:
    """A serializer of this generated class's messages; options: ProtobufSerializer's own (conf)."""

    def make(client: Any) -> Any:
        from confluent_kafka.schema_registry.protobuf import ProtobufSerializer

        return ProtobufSerializer(message, client, **options)

    return Format(make)
