"""Child processes: those that die at once are started again, with pauses that grow."""

import itertools
import sys
import threading

from tests.waiting import eventually
from tkcons.processes import Children

NOTE = "import sys, time; open(sys.argv[1], 'a').write(f'{time.time()}\\n')"


def test_a_child_that_dies_is_started_again_with_growing_pauses(settings, tmp_path, monkeypatch):
    settings.TKCONS = {"RETRY_SECONDS": (0.2, 1.0), "STOP_SECONDS": 1.0}
    monkeypatch.setattr("signal.signal", lambda *_: None)  # only the main thread may
    log = tmp_path / "starts"
    children = Children(
        [[sys.executable, "-c", NOTE, str(log)], [sys.executable, "-c", "import time; time.sleep(600)"]]
    )
    thread = threading.Thread(target=children.run)
    thread.start()
    try:
        eventually(lambda: log.exists() and len(log.read_text().splitlines()) == 4, 60)
        steady = children._children[1].process
        assert steady is not None
        assert steady.poll() is None  # the other one's death is not its own
    finally:
        children._end()
        thread.join(20)
    starts = [float(line) for line in log.read_text().splitlines()]
    pauses = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert [pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=True)] == [True] * 3
    assert steady.poll() is not None
