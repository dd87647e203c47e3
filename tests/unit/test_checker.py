"""The fault suite's checker finds each fault, and imports nothing of what it judges."""

import json
import subprocess
import sys
from pathlib import Path

from tests.faults.checker import Journal, Request, Stored, compare, in_json_lines, in_text, read_journal

ROOT = Path(__file__).parents[2]


def journal(*outcomes: str, **marks: float) -> Journal:
    """Requests r0, r1, ... of one client, sent at the times 0, 1, ..."""
    made = {f"r{n}": Request("client", n, float(n), outcome, 200, "", 0.1) for n, outcome in enumerate(outcomes)}
    return Journal(made, {name.replace("_", " "): at for name, at in marks.items()})


def stored(*values: str, partition: int = 0) -> list[Stored]:
    return [Stored(value, partition, offset, 10.0) for offset, value in enumerate(values)]


def test_it_shares_no_code_with_the_product():
    code = (
        "import sys; sys.path.insert(0, '.'); import tests.faults.checker;"
        "sys.exit(any(name.split('.')[0] in {'tk', 'tkcons', 'tkrest', 'tklocal', 'django'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_all_is_well():
    report = compare(journal("confirmed", "unknown", "refused", "unknown"), stored("r0", "r1"), "database")
    assert (report.sent, report.confirmed, report.unknown, report.refused, report.stored) == (4, 1, 2, 1, 2)
    assert report.faults() == []


def test_each_fault_is_found():
    asked = journal("confirmed", "confirmed", "refused", "unknown")
    assert compare(asked, stored("r0"), "").faults() == ["missing"]
    assert compare(asked, stored("r0", "r1", "r3", "r3"), "").faults() == ["duplicates"]
    assert compare(asked, stored("r0", "r1", "r2"), "").faults() == ["denied"]
    assert compare(asked, stored("r0", "r1", "half of r1"), "").faults() == ["strangers"]
    assert compare(asked, stored("r1", "r0"), "").faults() == ["misordered"]
    assert compare(asked, stored("r0", "r1")[::-1], "").misordered == 2  # by offset, and by the client's number
    assert compare(asked, stored("r0", "r1"), "", torn=1).faults() == ["torn"]


def test_what_was_confirmed_by_a_deleted_topic_is_counted_apart():
    asked = journal("confirmed", "confirmed", "confirmed", "confirmed")
    asked.remade = [(1.0, 1.5)]
    report = compare(asked, stored("r1"), "")
    assert (report.apart, report.missing) == (0, ["r0", "r2", "r3"])
    report = compare(asked, stored("r0"), "")
    assert (report.apart, report.missing) == (1, ["r2", "r3"])
    asked.remade = [(0.0, 1.5), (2.5, 3.5)]
    report = compare(asked, [], "")
    assert (report.apart, report.missing) == (3, ["r2"])


def test_recovery_is_from_the_faults_end_to_a_message_sent_after_it():
    asked = journal("confirmed", "confirmed", "confirmed", fault_ended=0.5)
    assert compare(asked, stored("r0", "r1", "r2"), "").recovery == 9.5
    assert compare(asked, stored("r0"), "").recovery is None


def test_a_journal_is_read_as_it_was_written(tmp_path):
    rows = [
        {"value": "a", "client": "c", "number": 0, "at": 1.0},
        {"value": "b", "client": "c", "number": 1, "at": 2.0},
        {"value": "a", "outcome": "confirmed", "status": 200, "code": "", "at": 1.5},
        {"mark": "topic made again", "at": 3.0},
        {"mark": "all stored", "at": 4.0},
        {"mark": "topic made again", "at": 5.0},
    ]
    (tmp_path / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_journal(tmp_path)
    assert read.requests["a"] == Request("c", 0, 1.0, "confirmed", 200, "", 0.5)
    assert read.requests["b"].outcome == "unknown"  # no answer came
    assert read.marks == {"topic made again": 5.0, "all stored": 4.0}
    assert read.remade == [(0.0, 3.0), (4.0, 5.0)]


def test_files_are_read_whole_lines_alone(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"value": "x", "topic": "t", "partition": 1, "offset": 2}\nhalf {"value"\n{"value": "unfin'
    )
    assert in_json_lines(tmp_path / "a.jsonl") == ([Stored("x", 1, 2, None, "t")], 1)
    line = "ConsumerRecord(topic='t', partition=1, offset=2, timestamp=3, value=b'x', headers=[], checksum=None)<br>"
    (tmp_path / "a.txt").write_text(f"{line}\nConsumerRecord(topic='t', part{line}\n")
    assert in_text(tmp_path / "a.txt") == ([Stored("x", 1, 2, None, "t")], 1)
