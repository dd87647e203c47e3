"""manage.py produce on the real broker: files, pipes, errors by line, Ctrl-C."""

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from django.core.management import CommandError, call_command

from tests.waiting import eventually
from tklocal.kafka import Cluster

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sent(broker):
    """``sent(topic)``: (key, value) of everything in its one partition."""

    def pairs(topic: str) -> list[tuple[bytes | None, bytes]]:
        consumer = Consumer({"bootstrap.servers": broker, "group.id": "unused", "enable.auto.commit": False})
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        consumer.assign([TopicPartition(topic, 0, 0)])
        found = []
        while len(found) < end:
            found += consumer.consume(end - len(found), 5)
        consumer.close()
        return [(message.key(), message.value()) for message in found]

    return pairs


@pytest.fixture
def run(broker, topic, tmp_path):
    """``run(text, *options)``: the command's output, its errors and its exit code, 0 where it ended well."""

    def go(body: bytes, *options: str) -> tuple[str, str, int]:
        (tmp_path / "file").write_bytes(body)
        out, err, code = io.StringIO(), io.StringIO(), 0
        try:
            call_command("produce", topic, str(tmp_path / "file"), *options, stdout=out, stderr=err)
        except CommandError as error:
            code = error.returncode
            err.write(str(error))
        return out.getvalue(), err.getvalue(), code

    return go


def test_lines(run, sent, topic):
    body = b"".join(b"%d\n" % number for number in range(5_000))
    assert run(body) == ("5000 confirmed, 0 failed.\n", "", 0)
    assert sent(topic) == [(None, value) for value in body.split()]


def test_errors_are_listed_by_line(run, sent, topic):
    out, err, code = run(b'{"value":"a","key":"k"}\n\n{"value":1}\nx\n', "--format", "ndjson")
    assert (out, code) == ("2 confirmed, 2 failed.\n", 1)
    assert err.splitlines()[0].startswith("line 2: missing_message")
    assert err.splitlines()[1].startswith("line 4: bad_request")
    assert err.splitlines()[2] == "2 of 4 records failed."
    assert sent(topic) == [(b"k", b"a"), (None, b"1")]


def test_no_more_errors_than_anybody_reads(run):
    out, err, _ = run(b"\n" * 5_000)
    assert out == "0 confirmed, 5000 failed.\n"
    assert len(err.splitlines()) == 22


def test_a_record_that_the_broker_refuses_is_told_by_its_line(broker, make_topic, tmp_path):
    topic = make_topic(partitions=2, max_message_bytes="1000")
    lines = [
        b'{"value":"%s","partition":%d}\n' % (b"x" * (2_000 if number == 3 else 1), number % 2) for number in range(5)
    ]
    (tmp_path / "file").write_bytes(b"".join(lines[:1] + lines[2:3] + lines[3:]))  # the third is alone in partition 1
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="1 of 4 records failed"):
        call_command("produce", topic, str(tmp_path / "file"), "--format", "ndjson", stdout=out, stderr=err)
    assert out.getvalue() == "3 confirmed, 1 failed.\n"
    assert err.getvalue().startswith("line 3: too_large: ")


def test_csv(run, sent, topic):
    body = '\ufeffid,name\n1,"a ""b"""\n2,"two\nlines"\n\n3\n4,"x"y\n5,ü\n'.encode() + b"6,\xff\n7,z"
    out, err, code = run(body, "--format", "csv", "--key-column", "id")
    assert (out, code) == ("4 confirmed, 3 failed.\n", 1)
    assert [line.partition(":")[0] for line in err.splitlines()[:-1]] == ["line 6", "line 7", "line 9"]
    assert sent(topic) == [
        (b"1", b'{"id":"1","name":"a \\"b\\""}'),
        (b"2", b'{"id":"2","name":"two\\nlines"}'),
        (b"5", '{"id":"5","name":"ü"}'.encode()),
        (b"7", b'{"id":"7","name":"z"}'),
    ]


def test_one_column_of_csv(run, sent, topic):
    assert run(b"k,v\n1,a\n2,b\n", "--format", "csv", "--key-column", "k", "--value-column", "v")[2] == 0
    assert sent(topic) == [(b"1", b"a"), (b"2", b"b")]


@pytest.mark.parametrize(
    ("body", "options", "told"),
    [
        (b"a,b\n1,2\n", ["--format", "csv", "--key-column", "c"], "There is no column 'c'"),
        (b"", ["--format", "csv", "--key-column", "c"], "There is no column 'c'"),
        (b'"a"b\n1\n', ["--format", "csv"], "The first line, of names, cannot be read"),
        (b"a", ["--key-column", "a"], "--format csv"),
    ],
)
def test_mistakes_are_told(run, sent, topic, body, options, told):
    _, err, code = run(body, *options)
    assert code == 1
    assert told in err
    assert sent(topic) == []


def test_no_such_topic_and_no_such_file(broker, topic, tmp_path):
    with pytest.raises(CommandError, match="no topic 'no-such'"):
        call_command("produce", "no-such", str(tmp_path))
    with pytest.raises(CommandError, match="No such file"):
        call_command("produce", topic, str(tmp_path / "none"))


def _read(terminal: int, shown: list[bytes]) -> None:
    with contextlib.suppress(OSError):  # Linux says EIO when the last writer has gone
        while piece := os.read(terminal, 65_536):
            shown.append(piece)


def test_ctrl_c_says_what_was_confirmed(broker, topic, sent):
    """A pipe that stays open: what came is sent at once; Ctrl-C ends it. On a terminal there is a bar."""
    master, terminal = pty.openpty()
    command = [sys.executable, "manage.py", "produce", topic]
    env = {**os.environ, "KAFKA_BROKER_URL": broker, "TUTORIALKAFKA_CHECKOUT": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    shown: list[bytes] = []
    reader = threading.Thread(target=_read, args=(master, shown))  # a terminal that nobody reads holds its writer up
    reader.start()
    try:
        process.stdin.write(b"one\ntwo\nthr")
        process.stdin.flush()
        eventually(lambda: len(sent(topic)) == 2, 60)
        process.send_signal(signal.SIGINT)
        out = process.stdout.read().decode()
        assert process.wait(20) == 130
        assert "2 confirmed, 0 failed." in out
        assert len(sent(topic)) == 2
        reader.join(20)
        assert b"records" in b"".join(shown)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
        os.close(master)


def test_a_broker_that_dies_in_the_middle(tmp_path):
    """What was confirmed before is stored; what came after is told as failed, in bounded time."""
    settings = {"DELIVERY_TIMEOUT": 2.0, "REQUEST_TIMEOUT": 3.0}
    with Cluster(tmp_path / "kafka", port=0) as cluster:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "produce", "sample-topic"],
            cwd=ROOT,
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings_server",
                "DATA": str(tmp_path / "data"),
                "DJANGO_DEBUG": "1",
                "KAFKA_BROKER_URL": cluster.bootstrap,
                "TK_SETTINGS": json.dumps(settings),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            process.stdin.write(b"before\n" * 1_000)
            process.stdin.flush()
            eventually(lambda: _end(cluster.bootstrap) == 1_000, 60)
            time.sleep(0.5)  # for the acknowledgement, which comes after the message is there
            cluster.kill()
            out, err = process.communicate(b"after\n" * 1_000, timeout=60)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 1, err
    assert out.decode().strip() == "1000 confirmed, 1000 failed."
    assert re.search(rb"line 1001: (not_sent|outcome_unknown): ", err), err
    assert b"1000 of 2000 records failed." in err


def _end(bootstrap: str) -> int:
    """The offset after the topic's last record."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    try:
        return consumer.get_watermark_offsets(TopicPartition("sample-topic", 0), timeout=10)[1]
    finally:
        consumer.close()
