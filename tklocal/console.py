"""What the commands say while a newcomer waits."""

import os
from pathlib import Path

from tklocal import artifacts
from tklocal.waiting import Ending


def fetch_kafka(ending: Ending) -> Path:
    """Fetch Apache Kafka's jars with a progress bar, if any is missing; give their folder.

    TUTORIALKAFKA_OFFLINE=1: the network is left alone. Raises FetchFailed, or SystemExit when the end is asked for.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("Fetching Apache Kafka"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task("jars", total=None)

    def progress(done: int, total: int) -> None:
        ending.check()
        if done < total:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        return artifacts.fetch(progress=progress, offline=os.environ.get("TUTORIALKAFKA_OFFLINE") == "1")
    finally:
        bar.stop()
