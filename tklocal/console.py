"""What the commands say while a newcomer waits."""

from pathlib import Path

from tklocal import artifacts


def fetch_kafka() -> Path:
    """Fetch Apache Kafka's jars with a progress bar, if any is missing; give their folder. Raises FetchFailed."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("Fetching Apache Kafka"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task("jars", total=None)

    def progress(done: int, total: int) -> None:
        if done < total:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        return artifacts.fetch(progress=progress)
    finally:
        bar.stop()
