"""The table of guarantees names existing tests, and its verdicts follow from their outcomes."""

import ast

import pytest

from reliability import check_guarantees as table
from reliability.check_guarantees import ALL, PROGRAMS, Outcome, page, row
from reliability.guarantees import Guarantee
from tests.conftest import ROOT

GOOD, BAD, SHORT = Outcome(True, 1.0, "3 of 3"), Outcome(False, 1.0), Outcome(True, 1.0, met=False)


def test_every_guarantee_is_listed_once_and_names_existing_tests_and_programs():
    names = [f"{letter}{n + 1}" for letter, count in zip("ABCDEWSF", (8, 7, 2, 10, 9, 2, 10, 6), strict=True)
             for n in range(count)]  # fmt: skip
    assert [guarantee.name for guarantee in ALL] == names
    for file in {node.partition("::")[0] for guarantee in ALL for node in guarantee.tests}:
        tree = ast.parse((ROOT / file).read_text())
        existing = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        named = {n.partition("::")[2] for g in ALL for n in g.tests if n.startswith(file)}
        assert named <= existing, file
    assert {name for guarantee in ALL for name in guarantee.programs} <= PROGRAMS.keys()


@pytest.mark.parametrize(
    ("guarantee", "outcomes", "verdict"),
    [
        (Guarantee("X", "", "", ("t",)), [GOOD], "OK"),
        (Guarantee("X", "", "", ("t",)), [GOOD, BAD], "no"),
        (Guarantee("X", "", "", ("t",)), [], "no"),
        (Guarantee("X", "", "", ("t",), gap="g"), [GOOD], "part"),
        (Guarantee("X", "", "", ("t",), ("kill_and_resume",)), [GOOD], "no"),
        (Guarantee("X", "", "", gap="g"), [], "no"),
        (Guarantee("X", "", "", ("t",), ("options",)), [GOOD], "OK"),
        (Guarantee("X", "", "", ("t",), ("options",)), [], "-"),
    ],
)
def test_a_verdict_follows_from_the_outcomes(guarantee, outcomes, verdict):
    cells = row(guarantee, {"t": outcomes}, {"kill_and_resume": BAD, "options": GOOD})
    assert cells[-1] == verdict
    assert ("3 of 3" in cells[3]) == (GOOD in outcomes)


def test_tests_are_run_and_their_measured_values_are_read(tmp_path, monkeypatch):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_x.py").write_text(
        "import pytest\n"
        "def test_good(record_property):\n    record_property('figure', '7 of 7')\n"
        "    record_property('met', 7 > 8)\n"
        "@pytest.mark.parametrize('n', [1, 2])\ndef test_half(n):\n    assert n == 1\n"
        "@pytest.mark.skip\ndef test_left():\n    pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\njunit_family = xunit1\n")
    monkeypatch.setattr(table, "ROOT", tmp_path)
    nodes = [f"tests/test_x.py::test_{name}" for name in ("good", "half", "left")]
    good, half, left = table.run_tests(nodes, quick=True).values()
    assert [(x.passed, x.measured, x.met) for x in good] == [(True, "7 of 7", False)]
    assert [x.passed for x in half] == [True, False] and left == []


def test_the_page_names_the_command_and_the_machine():
    text = page(
        [["A1", "x", "y", "z", "t", "OK"]],
        {"kill_and_resume": GOOD},
        "python -m reliability.check_guarantees",
    )
    assert "| A1 | x | y | z | t | OK |" in text
    assert "`python -m reliability.check_guarantees`" in text and "cores, torch " in text
    assert "- 3 of 3 (1 s)" in text
