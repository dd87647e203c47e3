"""Apache Kafka and PostgreSQL on this machine: fetched whole, started, killed, never left behind."""

import io
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from tests.acceptance.newcomer import TERMINAL, free_port
from tests.waiting import eventually
from tklocal import artifacts, kafka
from tklocal.child import Child
from tklocal.errors import FetchFailed, PortTaken, StartFailed
from tklocal.kafka import Cluster
from tklocal.postgres import Postgres
from tklocal.supervisor import Part, Supervisor

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]


# Fetching.


@pytest.fixture(scope="module")
def jars() -> Path:
    return artifacts.fetch()


@pytest.fixture
def three(jars, tmp_path) -> tuple[list[artifacts.Artifact], Path]:
    """The three smallest jars, and a folder that has them."""
    small = sorted(artifacts.locked(), key=lambda a: (jars / a.filename).stat().st_size)[:3]
    folder = tmp_path / "jars"
    folder.mkdir()
    for artifact in small:
        shutil.copy(jars / artifact.filename, folder)
    return small, folder


def test_the_lock_names_every_jar_with_its_hash():
    locked = artifacts.locked()
    assert len(locked) == 45
    assert len({a.filename for a in locked}) == 45
    assert all(len(a.sha256) == 64 for a in locked)
    assert {"kafka_2.13", "scala-library", "slf4j-simple"} <= {a.name for a in locked}


def test_what_is_whole_is_not_fetched_again(three):
    small, folder = three
    seen = []
    artifacts.fetch(folder, small, lambda done, total: seen.append((done, total)), offline=True)
    assert seen == [(3, 3)]


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: data[:-1] + b"x", lambda data: b""])
def test_a_damaged_jar_is_fetched_again(three, damage):
    small, folder = three
    path = folder / small[0].filename
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FetchFailed, match=small[0].filename):
        artifacts.fetch(folder, small, offline=True)
    artifacts.fetch(folder, small)
    assert small[0].is_at(path)


def test_a_fetch_that_was_cut_off_goes_on_with_what_is_missing(three):
    small, folder = three
    (folder / small[0].filename).unlink()
    (folder / "scratch-left-over").mkdir()
    seen = []
    artifacts.fetch(folder, small, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]
    assert not list(folder.glob("scratch-*"))


def test_other_bytes_than_the_lock_says_are_never_used(three):
    small, folder = three
    wrong = artifacts.Artifact(small[0].group, small[0].name, small[0].version, "0" * 64)
    (folder / wrong.filename).unlink()
    with pytest.raises(FetchFailed, match="other bytes"):
        artifacts.fetch(folder, [wrong])
    assert not (folder / wrong.filename).exists()


def test_offline_says_what_to_do(tmp_path):
    with pytest.raises(FetchFailed, match="copy the folder"):
        artifacts.fetch(tmp_path, artifacts.locked()[:1], offline=True)


# The broker.


def test_topics_and_messages_outlive_a_restart(tmp_path):
    with Cluster(tmp_path, port=0) as cluster:
        first, bootstrap = cluster.cluster_id, cluster.bootstrap
        producer = Producer({"bootstrap.servers": bootstrap})
        producer.produce("sample-topic", b"kept")
        assert producer.flush(10) == 0
    with Cluster(tmp_path, port=0) as cluster:
        assert (cluster.cluster_id, cluster.bootstrap) == (first, bootstrap)
        assert kafka.cluster_id_at(bootstrap) == first
        admin = AdminClient({"bootstrap.servers": bootstrap})
        assert "sample-topic" in admin.list_topics(timeout=10).topics
        admin.delete_topics(["sample-topic"])["sample-topic"].result(10)  # topics are deletable


def test_a_cluster_id_is_no_option_of_kafkas_tools(tmp_path, monkeypatch):
    made = iter([uuid.UUID(bytes=b"\xfb" * 16), uuid.UUID(bytes=b"\x01" * 16)])
    monkeypatch.setattr(uuid, "uuid4", lambda: next(made))
    assert Cluster(tmp_path).cluster_id == "AQEBAQEBAQEBAQEBAQEBAQ"


def test_a_taken_port_is_told(tmp_path):
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"Port {port} is taken by another program.*KAFKA_PORT="):
            Cluster(tmp_path, port=port).launch()


def test_another_kafka_on_the_port_is_told(kafka, tmp_path):
    with pytest.raises(PortTaken, match=r"another Kafka.*KAFKA_BROKER_URL="):
        Cluster(tmp_path, port=kafka.ports[0]).launch()


def test_a_full_disk_is_told_and_leaves_nothing_broken(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1))
    with pytest.raises(StartFailed, match="Make room"):
        Cluster(tmp_path / "data", port=0).launch()
    assert list((tmp_path / "data").iterdir()) == []


def _make_run(data: Path) -> str:
    """What a `make run` that does not come up says; it ends by itself."""
    command = [sys.executable, "manage.py", "runall", "--port", str(free_port()), "--kafka-port", str(free_port())]
    env = {**os.environ, "DATA": str(data), "DJANGO_SETTINGS_MODULE": "tutorialkafka.settings"}
    env |= {"TUTORIALKAFKA_CHECKOUT": "1"}
    env.pop("KAFKA_BROKER_URL", None)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1, done.stdout
    assert "within 120 s" not in done.stderr
    return done.stderr


def test_make_run_on_a_full_disk_says_so_once(tmp_path):
    if subprocess.call(["mount", "-t", "tmpfs", "-o", "size=50m", "tmpfs", tmp_path], stderr=subprocess.DEVNULL):
        pytest.skip("mounting a small disk needs root")
    try:
        assert _make_run(tmp_path / "data").count("Make room") == 1
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_make_run_gives_up_on_a_part_that_does_not_come_up(tmp_path):
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "broker-0").touch()  # where the broker's folder should be
    assert "kafka ends each time that it is started" in _make_run(tmp_path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StartFailed, match="cannot be written"):
        Cluster(tmp_path / "file", port=0).launch()


def test_a_killed_broker_is_told(tmp_path):
    with Cluster(tmp_path, port=0) as cluster:
        cluster.kill()
        with pytest.raises(StartFailed, match="killed"):
            cluster.check()


def test_three_brokers_survive_the_loss_of_one(tmp_path):
    with Cluster(tmp_path, brokers=3, port=0) as cluster:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        # Whichever broker is asked: each knows of the topic in its own time.
        seen = eventually(lambda: admin.list_topics("sample-topic", timeout=10).topics["sample-topic"].partitions)
        (partition,) = seen.values()
        assert len(partition.replicas) == 3
        cluster.kill(partition.leader)
        producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all", "delivery.timeout.ms": 30_000})
        errors = []
        producer.produce("sample-topic", b"x", on_delivery=lambda error, _: errors.append(error))
        assert producer.flush(30) == 0
        assert errors == [None]


OWNER = """
import sys, time
from pathlib import Path
from tklocal.kafka import Cluster
cluster = Cluster(Path(sys.argv[1]), port=0)
cluster.start()
print(cluster._children[0].pid, flush=True)
time.sleep(60)
"""


def test_a_broker_does_not_outlive_its_killed_owner(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    broker = psutil.Process(int(owner.stdout.readline()))
    owner.kill()
    owner.communicate()
    eventually(lambda: not broker.is_running(), 10)


FAMILY = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "time.sleep(60)"
)
FAMILY_OWNER = """
import sys, time
from pathlib import Path
from tklocal.child import Child
child = Child([sys.executable, "-c", sys.argv[1]], Path(sys.argv[2]))
print(child.pid, flush=True)
time.sleep(60)
"""


def _family(pid: int) -> list[psutil.Process]:
    return [*eventually(lambda: psutil.Process(pid).children()), psutil.Process(pid)]


def test_nothing_that_a_child_started_outlives_the_killed_owner(tmp_path):
    command = [sys.executable, "-c", FAMILY_OWNER, FAMILY, str(tmp_path / "log")]
    owner = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    family = _family(int(owner.stdout.readline()))
    owner.kill()
    owner.communicate()
    assert psutil.wait_procs(family, 10)[1] == []


def test_nothing_that_a_killed_child_started_is_left(tmp_path):
    child = Child([sys.executable, "-c", FAMILY], tmp_path / "log")
    family = _family(child.pid)
    child.signal(signal.SIGKILL)
    child.wait()
    assert psutil.wait_procs(family, 10)[1] == []


# The supervisor.


def test_a_part_that_dies_starts_again_with_growing_pauses(tmp_path):
    with (tmp_path / "out").open("w") as output:
        supervisor = Supervisor(output)
        supervisor.add(Part("part", [sys.executable, "-c", "import os; print('here', flush=True); os._exit(3)"]))
        starts = []
        deadline = time.monotonic() + 20
        while len(starts) < 4 and time.monotonic() < deadline:
            supervisor.look()
            started = supervisor.parts[0].started
            if started not in starts:
                starts.append(started)
            time.sleep(0.01)
        supervisor.stop()
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert len(pauses) == 3
    assert pauses[0] < pauses[1] < pauses[2]
    text = (tmp_path / "out").read_text()
    assert "    part | here\n" in text
    assert "ended by exit code 3; starts again in 0.5 s" in text


def test_parts_end_in_the_reverse_order(tmp_path):
    ended = tmp_path / "ended"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n open(sys.argv[2], 'a').write(sys.argv[1]); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('ready', flush=True)\ntime.sleep(60)"
    )
    with (tmp_path / "out").open("w") as output:
        supervisor = Supervisor(output)
        for name in "ab":
            supervisor.add(Part(name, [sys.executable, "-c", code, name, str(ended)]))
        eventually(lambda: (tmp_path / "out").read_text().count("ready") == 2)
        supervisor.stop()
    assert ended.read_text() == "ba"


def test_a_closed_terminal_does_not_keep_parts_from_their_end(tmp_path):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    supervisor = Supervisor(Closed())
    for name in "ab":
        supervisor.add(Part(name, [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(60)"]))
    family = [psutil.Process(part.child.pid) for part in supervisor.parts]
    supervisor.stop()
    assert psutil.wait_procs(family, 5)[1] == []


def test_a_terminal_that_is_closed_asks_for_the_end_under_make_too(tmp_path):
    """`make` as the session's leader, as in `ssh -t host make run`: it alone hears of it, and waits."""
    told = tmp_path / "told"
    code = (
        "import sys; from tklocal import terminal; from tklocal.waiting import Ending\n"
        "def tell(text):\n open(sys.argv[1], 'w').write(text)\n"
        "ending = Ending()\n"
        "with terminal.foreground():\n tell('waits'); ending.wait(60); tell(f'asked: {ending.asked}')"
    )
    leader = ["sh", "-c", "trap '' HUP; \"$@\"; exit", "sh", sys.executable, "-c", code, str(told)]
    on_terminal = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *leader],
        env={**os.environ, "MAKELEVEL": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    eventually(lambda: told.exists() and told.read_text() == "waits")
    on_terminal.kill()
    on_terminal.communicate()
    eventually(lambda: told.read_text() == "asked: True")


def test_a_part_that_dies_for_hours_is_still_started(tmp_path):
    with (tmp_path / "out").open("w") as output:
        supervisor = Supervisor(output)
        supervisor.add(Part("part", [sys.executable, "-c", "raise SystemExit(1)"], failures=5_000))
        eventually(lambda: not supervisor.parts[0].child.alive)
        supervisor.look()
        assert 0 < supervisor.parts[0].start_at - time.monotonic() <= 10
        supervisor.stop()


# PostgreSQL.


def test_what_is_committed_outlives_a_crash(tmp_path):
    with Postgres(tmp_path / "pg") as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        port = server.port
        server.kill()
        server.start()
        assert server.port == port
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_an_initdb_that_was_killed_is_done_again(tmp_path):
    half = tmp_path / "pg" / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path / "pg") as server:
        assert server.alive


def test_a_taken_postgres_port_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(PortTaken):
        Postgres(tmp_path / "pg", port=taken.getsockname()[1]).start()


# The commands.


@pytest.mark.parametrize(
    ("command", "ready"), [(("runkafka", "--port", "0"), "ready at"), (("runpostgres", "--port", "0"), "DATABASE_URL")]
)
def test_a_command_runs_until_it_is_asked_to_end(tmp_path, command, ready):
    env = {**os.environ, "DATA": str(tmp_path), "TUTORIALKAFKA_CHECKOUT": "1"}
    process = subprocess.Popen(
        [sys.executable, "manage.py", *command], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    try:
        assert ready in process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert psutil.wait_procs(children, 5)[1] == []
    finally:
        process.kill()
        process.communicate()
