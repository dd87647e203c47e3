"""kafka-python with the project's configuration, for the one question that librdkafka cannot ask.

Whatever says how to be trusted and whom to trust is translated or refused: nothing connects with less than was asked for.
"""

import contextlib
import logging
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tk.client import client_config
from tk.errors import TkError

# librdkafka's names and kafka-python's, where the value is the same.
SAME = {
    "client.id": "client_id",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "sasl.kerberos.service.name": "sasl_kerberos_service_name",
}
TLS = {
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.crl.location",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
}
TRUST = (
    "ssl.",
    "sasl.",
    "oauth",
    "enable.ssl.",
    "enable.sasl.",
    "security.",
)  # options that begin so are never passed by


class OptionUnknown(TkError):
    """An option in KAFKA_CLIENT that kafka-python has nothing for."""


def library() -> Any:
    """kafka-python, loaded. Raises ImportError where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its way to read its own files
        import kafka.admin
        import kafka.net.compat
    if (chatter := logging.getLogger("kafka")).level == logging.NOTSET:
        chatter.setLevel(logging.CRITICAL)  # what fails is raised, and told once
    logging.getLogger("kafka.admin.client").setLevel(logging.INFO)  # at DEBUG it writes passwords into the log
    return kafka


@contextlib.contextmanager
def client(seconds: float) -> Iterator[Any]:
    """A KafkaAdminClient, whose connecting and each of whose questions take at most so long.

    Raises ImportError, OptionUnknown, kafka.errors.KafkaError, RuntimeError, ValueError or OSError. Closed whatever happens:
    where it cannot connect, it would leave its thread behind.
    """
    kafka = library()
    made: list[Any] = []

    def connections(**configuration: Any) -> Any:
        made.append(kafka.net.compat.KafkaNetClient(**configuration))
        return made[0]

    limit = int(seconds * 1_000)
    try:
        yield kafka.admin.KafkaAdminClient(
            kafka_client=connections, bootstrap_timeout_ms=limit, request_timeout_ms=limit, **options()
        )
    finally:
        for each in made:
            each.close()


def options() -> dict[str, Any]:
    """For kafka-python's clients. Raises OptionUnknown, or OSError where a certificate cannot be read."""
    given = client_config()
    known = SAME.keys() | TLS | {"security.protocol"}
    if unknown := sorted(name for name in given.keys() - known if name.startswith(TRUST)):
        raise OptionUnknown(f"kafka-python has nothing for {unknown[0]!r}, which KAFKA_CLIENT sets.")
    protocol = str(given.get("security.protocol", "plaintext")).upper()
    made = {SAME[name]: value for name, value in given.items() if name in SAME}
    made["bootstrap_servers"] = given.get("metadata.broker.list", given["bootstrap.servers"])
    made["security_protocol"] = protocol
    if protocol.endswith("SSL"):
        made["ssl_context"] = _context(given)
    return made


def _context(given: dict[str, Any]) -> ssl.SSLContext:
    """As librdkafka trusts: the system's authorities unless others are named, and the host's name is looked at."""
    place = given.get("ssl.ca.location")
    path = None if place in {None, "probe"} else Path(str(place))
    context = ssl.create_default_context(
        cafile=str(path) if path is not None and not path.is_dir() else None,
        capath=str(path) if path is not None and path.is_dir() else None,
        cadata=given.get("ssl.ca.pem"),
    )
    if str(given.get("ssl.endpoint.identification.algorithm", "https")) == "none":
        context.check_hostname = False
    if str(given.get("enable.ssl.certificate.verification", "true")).lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate := given.get("ssl.certificate.location"):
        context.load_cert_chain(certificate, given.get("ssl.key.location"), given.get("ssl.key.password"))
    if revoked := given.get("ssl.crl.location"):
        context.load_verify_locations(revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if ciphers := given.get("ssl.cipher.suites"):
        context.set_ciphers(ciphers)
    return context
