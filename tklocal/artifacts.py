"""Apache Kafka's jars: named and hashed in kafka.lock, fetched once, kept in the user's cache.

jgo is the downloader alone: it enforces no checksum and takes a truncated file from its own cache, so each file goes to
a scratch folder, is hashed, and only then renamed into place. What is in place is therefore whole.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tklocal.errors import FetchFailed

logger = logging.getLogger(__name__)

LOCK = Path(__file__).with_name("kafka.lock")
THREADS = 8  # of small files over one connection each; more gained nothing
TRIES = 3

Progress = Callable[[int, int], None]  # (files in place, files in all)


@dataclass(frozen=True)
class Artifact:
    """One jar: its Maven coordinates and the SHA-256 of its bytes."""

    group: str
    name: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether these very bytes are at `path`."""
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def locked(lock: Path = LOCK) -> list[Artifact]:
    """The artifacts in the lock: lines of `sha256 group:name:version`."""
    made = []
    for line in lock.read_text().splitlines():
        sha256, coordinates = line.split()
        group, name, version = coordinates.split(":")
        made.append(Artifact(group, name, version, sha256))
    return made


def cache() -> Path:
    """TUTORIALKAFKA_CACHE, or `tutorialkafka` in the user's cache folder."""
    if given := os.environ.get("TUTORIALKAFKA_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutorialkafka"


def fetch(
    folder: Path | None = None,
    artifacts: list[Artifact] | None = None,
    progress: Progress = lambda done, total: None,
    *,
    offline: bool = False,
) -> Path:
    """Make sure that every jar is in the folder (default: by version in the cache), whole; give the folder.

    A fetch that was cut off goes on with the files that are missing. A second process waits for the first one.
    Raises FetchFailed when a file cannot be had or has other bytes than the lock says.
    """
    artifacts = locked() if artifacts is None else artifacts
    if folder is None:
        version = next(a.version for a in artifacts if a.group == "org.apache.kafka")
        folder = cache() / f"kafka-{version}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _complete(folder, artifacts, progress, offline=offline)
    except OSError as error:
        raise FetchFailed(
            f"Apache Kafka could not be written to {folder}: {error.strerror}. "
            "Make room there, or name another folder in TUTORIALKAFKA_CACHE."
        ) from error
    return folder


def _complete(folder: Path, artifacts: list[Artifact], progress: Progress, *, offline: bool) -> None:
    """Fetch what is missing or damaged. Every jar is hashed at each start: 43 MB take 30 ms."""
    missing = [a for a in artifacts if not a.is_at(folder / a.filename)]
    done = len(artifacts) - len(missing)
    progress(done, len(artifacts))
    if not missing:
        return
    for left_over in folder.glob("scratch-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix="scratch-", dir=folder) as scratch,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        tasks = [pool.submit(_download, a, Path(scratch), folder, offline=offline) for a in missing]
        try:
            for task in as_completed(tasks):
                task.result()
                done += 1
                progress(done, len(artifacts))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _download(artifact: Artifact, scratch: Path, folder: Path, *, offline: bool) -> None:
    from jgo.maven import MavenContext  # half a second to import, needed on the first start alone
    from requests import RequestException

    last: Exception | str = "other bytes came than the lock says"
    for attempt in range(TRIES):
        context = MavenContext(repo_cache=scratch / f"{artifact.name}-{attempt}", timeout=30, offline=offline)
        component = context.project(artifact.group, artifact.name).at_version(artifact.version)
        try:
            path = component.artifact().resolve()
        except (RuntimeError, RequestException, ConnectionError, TimeoutError) as error:
            last = error
            if offline:
                break
            continue
        if artifact.is_at(path):
            path.replace(folder / artifact.filename)
            return
    raise FetchFailed(
        f"Apache Kafka could not be fetched: {artifact.filename}: {last}. "
        "The first start needs a way to the Maven repository; try again when there is one: "
        "what has arrived is kept. On a machine without one, copy the folder "
        f"{folder} from a machine that has it."
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    import fcntl

    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given up by the kernel when the process ends, however it ends
        yield


def relock(version: str) -> Iterator[str]:
    """The lines of a new lock for this version of Kafka: its broker and all that it needs at run time."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(repo_cache=Path(scratch))
        component = context.project("org.apache.kafka", "kafka_2.13").at_version(version)
        _, nodes = context.pom_dependency_list(component.pom())
        needed = [node.dep.artifact for node in nodes if node.dep.scope in {"compile", "runtime", None}]
        # The broker logs through SLF4J; this binding writes to standard error and needs no configuration file.
        api = next(artifact for artifact in needed if artifact.artifactId == "slf4j-api")
        simple = context.project("org.slf4j", "slf4j-simple").at_version(api.version).artifact()
        for artifact in [component.artifact(), *needed, simple]:
            digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
            yield f"{digest} {artifact.groupId}:{artifact.artifactId}:{artifact.version}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python -m tklocal.artifacts VERSION   writes kafka.lock for this version of Apache Kafka")
    LOCK.write_text("".join(f"{line}\n" for line in relock(sys.argv[1])))
