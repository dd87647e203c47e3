"""The benchmarks' own tools. No test asserts a time: `make bench QUICK=1` runs every benchmark."""

import importlib

import pytest

from benchmarks.__main__ import ALL
from benchmarks.harness import Bench, write_section


@pytest.mark.parametrize("name", ALL)
def test_each_has_its_name_and_can_be_run(name):
    module = importlib.import_module(f"benchmarks.{name}")
    given, title = module.NAME, module.TITLE
    assert (given, bool(title)) == (name, True)
    assert callable(module.measure)


def test_contenders_are_run_in_turn_and_compared_within_a_round():
    order = []
    figures = {"raw": iter([1.0, 100.0, 200.0]), "own": iter([1.0, 80.0, 100.0])}

    def run(name):
        order.append(name)
        return {"records/s": next(figures[name])}

    bench = Bench("test")
    table = bench.compare(
        "what", {"raw": lambda: run("raw"), "own": lambda: run("own")}, reference="raw", goals={"own": 0.8}, rounds=2
    )
    assert order == ["own", "raw", "raw", "own", "own", "raw"]
    assert table.ratios("own") == [0.8, 0.5]
    assert "| own | 80.0 / 90.0 / 100 | 0.50 / 0.65 / 0.80 | 0.80 |" in bench.parts[0]


def test_a_section_replaces_its_own_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- bench:a -->\nold\n<!-- /bench:a -->\n\nafter\n")
    write_section("a", "new", page)
    write_section("b", "another", page)
    assert page.read_text() == (
        "before\n\n<!-- bench:a -->\nnew\n<!-- /bench:a -->\n\nafter\n\n<!-- bench:b -->\nanother\n<!-- /bench:b -->\n"
    )
