"""Bytes on the brokers' disks, as the brokers themselves have them; asked with and without the right to know."""

import contextlib
import gc
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from django.core.management import call_command
from django.template.defaultfilters import filesizeformat

from tests.waiting import eventually
from tk import clusters, purepython, sizes
from tk.clusters import Described, Partition
from tk.errors import NotSent
from tk.sizes import Why
from tklocal.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.django_db]

ALONE = (Partition(0, 0, (0,), (0,)),)


def on_disk(kafka: Cluster, topic: str, partition: int) -> int:
    """What lies in the broker's folder."""
    (folder,) = kafka.data.glob(f"broker-*/data/{topic}-{partition}")
    return sum(path.stat().st_size for path in folder.glob("*.log"))


def filled(broker: str, topic: str, partition: int = 0, **options: object) -> None:
    producer = Producer({"bootstrap.servers": broker, "linger.ms": 20, **options})
    for _ in range(100):
        producer.produce(topic, b"a" * 1_000, partition=partition)
    assert producer.flush(20) == 0


def measured(topic: str, why: Why | None) -> Described | None:
    """The topic with its sizes, once they are known or not known for this reason."""
    try:
        (found,), told = sizes.measure(clusters.describe([topic]))
    except NotSent:  # a connection that is being made
        return None
    return found if told == why else None


def test_a_topic_is_as_large_as_its_files(broker, kafka, make_topic):
    topic, compressed = make_topic(2), make_topic()
    filled(broker, topic, 1)
    filled(broker, compressed, **{"compression.type": "gzip"})
    found, why = sizes.measure(clusters.describe([topic, compressed]))
    assert why is None
    plain, zipped = found
    assert [p.size for p in plain.partitions] == [0, on_disk(kafka, topic, 1)]
    assert 100_000 < (plain.size or 0) < 110_000
    assert zipped.size == on_disk(kafka, compressed, 0)
    assert 0 < (zipped.size or 0) < 10_000
    assert (plain.copies, zipped.copies) == (plain.size, zipped.size)


def test_the_pages_and_the_command_show_it(admin_client, broker, kafka, topic, capsys, settings):
    settings.TK = {"TOPICS": ["test-*"]}
    filled(broker, topic)
    size = on_disk(kafka, topic, 0)
    for path, times in (("/tkcons/topics?q=" + topic, 1), ("/tkcons/topics/" + topic, 2)):
        assert admin_client.get(path).content.decode().count(f">{filesizeformat(size)}<") == times, path
    call_command("topics", "list", topic)
    told = capsys.readouterr()
    assert told.out.count(f" {size} bytes") == 2
    assert told.err == ""


def test_a_topic_that_is_not_there_has_no_size(broker):
    gone = Described("test-nobody-made-this", "", internal=False, partitions=ALONE)
    (found,), why = sizes.measure([gone])
    assert (found.size, found.copies, why) == (None, None, Why.REFUSED)
    assert sizes.measure([]) == ([], None)


def test_without_kafka_python(admin_client, broker, topic, monkeypatch, settings):
    settings.TK = {"TOPICS": ["test-*"]}
    monkeypatch.setitem(sys.modules, "kafka.admin", None)
    for path in ("/tkcons/topics?q=" + topic, "/tkcons/topics/" + topic):
        answer = admin_client.get(path)
        assert answer.status_code == 200
        assert "kafka-python is not installed" in answer.content.decode()


def test_an_option_that_is_not_understood_is_no_lesser_trust(broker, settings, topic, caplog):
    found = clusters.describe([topic])
    settings.KAFKA_CLIENT = {"ssl.providers": "default"}
    assert sizes.measure(found) == (found, Why.OPTION)
    assert "ssl.providers" in caplog.text or "ssl.providers" in str(caplog.records[-1].__dict__)


def test_a_broker_that_is_silent_or_away_is_waited_for_a_bounded_time(settings):
    topics = [Described("any", "", internal=False, partitions=ALONE)]
    before = threading.active_count()
    with socket.create_server(("localhost", 0)) as silent:
        for port in (silent.getsockname()[1], 1):
            settings.KAFKA_BROKER_URL = f"localhost:{port}"
            began = time.monotonic()
            (found,), why = sizes.measure(topics)
            assert time.monotonic() - began < 8
            assert (found.size, why) == (None, Why.NO_ANSWER)
    eventually(lambda: threading.active_count() == before)  # nothing is left running
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # kafka-python leaves sockets of failed attempts to this
        gc.collect()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and a certificate for localhost, which is its own authority."""
    path = tmp_path_factory.mktemp("certificate") / "broker.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subject = ["-addext", "subjectAltName=DNS:localhost", "-keyout", path, "-out", path.with_suffix(".crt")]
    subprocess.run([*command, *subject], check=True, capture_output=True)
    with path.open("a") as file:
        file.write(path.with_suffix(".crt").read_text())
    return path


@pytest.fixture(scope="module")
def secured(certificate, tmp_path_factory) -> Iterator[tuple[str, Cluster]]:
    """The address of a broker that wants TLS and a password, and the cluster of it.

    `owner` may do everything, `reader` may see topics alone.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(3)]
        plain, controller, port = (each.getsockname()[1] for each in sockets)
    data = tmp_path_factory.mktemp("secured")
    (data / "ports").write_text(f"{plain} {controller}")
    listeners = f"PLAINTEXT://localhost:{plain},SECURED://localhost:{port}"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    options = {
        "listeners": f"{listeners},CONTROLLER://localhost:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL",
        "listener.name.secured.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.secured.plain.sasl.jaas.config": f'{login} user_owner="of all" user_reader="of some";',
        "listener.name.secured.ssl.keystore.type": "PEM",
        "listener.name.secured.ssl.keystore.location": certificate,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:owner",
    }
    with Cluster(data, port=0, options=options) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        see = (ResourceType.TOPIC, "*", ResourcePatternType.LITERAL, "User:reader", "*", AclOperation.DESCRIBE)
        for made in admin.create_acls([AclBinding(*see, AclPermissionType.ALLOW)]).values():
            made.result(10)
        yield f"localhost:{port}", cluster


def test_over_tls_with_a_password_as_the_other_clients(secured, certificate, settings):
    settings.KAFKA_BROKER_URL, cluster = secured
    trusted = {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "PLAIN",
        "ssl.ca.location": str(certificate.with_suffix(".crt")),
    }
    owner = {"sasl.username": "owner", "sasl.password": "of all"}
    filled(cluster.bootstrap, "sample-topic")
    settings.KAFKA_CLIENT = trusted | owner
    found = eventually(lambda: measured("sample-topic", None))
    assert found.size == on_disk(cluster, "sample-topic", 0)

    settings.KAFKA_CLIENT = trusted | {"sasl.username": "reader", "sasl.password": "of some"}
    found = eventually(lambda: measured("sample-topic", Why.REFUSED))
    assert (found.records, found.size) == (100, None)

    settings.KAFKA_CLIENT = trusted | owner | {"ssl.ca.location": "probe"}  # nobody vouches for the broker
    host, port = settings.KAFKA_BROKER_URL.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw, pytest.raises(ssl.SSLCertVerificationError):
        purepython.options()["ssl_context"].wrap_socket(raw, server_hostname=host)
