"""The table: its rows name tests that exist, and its verdicts follow from what they did."""

import ast

import pytest

from reliability import table
from reliability.guarantees import GUARANTEES, Guarantee
from reliability.table import PROGRAMS, Outcome, page, row
from tests.conftest import ROOT

GOOD, BAD, SHORT = Outcome(True, 1.0, "3 of 3"), Outcome(False, 1.0), Outcome(True, 1.0, met=False)


def test_every_row_is_there_once_and_names_tests_and_programs_that_exist():
    names = [f"{letter}{n + 1}" for letter, count in zip("ABCDEW", (8, 7, 2, 10, 9, 2), strict=True)
             for n in range(count)]  # fmt: skip
    assert [claim.name for claim in GUARANTEES] == names
    for file in {node.partition("::")[0] for claim in GUARANTEES for node in claim.tests}:
        tree = ast.parse((ROOT / file).read_text())
        known = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        wanted = {n.partition("::")[2] for c in GUARANTEES for n in c.tests if n.startswith(file)}
        assert wanted <= known, file
    assert {name for claim in GUARANTEES for name in claim.programs} <= PROGRAMS.keys()


@pytest.mark.parametrize(
    ("claim", "outcomes", "verdict"),
    [
        (Guarantee("X", "", "", ("t",)), [GOOD], "OK"), (Guarantee("X", "", "", ("t",)), [GOOD, BAD], "no"),
        (Guarantee("X", "", "", ("t",)), [], "no"), (Guarantee("X", "", "", ("t",), gap="g"), [GOOD], "part"),
        (Guarantee("X", "", "", ("t",), ("storm",)), [GOOD], "no"), (Guarantee("X", "", "", gap="g"), [], "no"),
        (Guarantee("X", "", "", ("t",), ("options",)), [GOOD], "OK"), (Guarantee("X", "", "", ("t",),
        ("options",)), [], "-"),
    ],
)  # fmt: skip
def test_a_verdict_follows_from_the_outcomes(claim, outcomes, verdict):
    cells = row(claim, {"t": outcomes}, {"storm": BAD, "options": GOOD})
    assert cells[-1] == verdict
    assert ("3 of 3" in cells[3]) == (GOOD in outcomes)


def test_tests_are_run_and_their_figures_read(tmp_path, monkeypatch):
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
    assert [(x.passed, x.figure, x.met) for x in good] == [(True, "7 of 7", False)]
    assert [x.passed for x in half] == [True, False] and left == []


def test_the_page_says_when_and_on_what():
    text = page([["A1", "x", "y", "z", "t", "OK"]], {"storm": GOOD}, "python -m reliability.table")
    assert (
        "| A1 | x | y | z | t | OK |" in text
        and "cores, torch " in text
        and "- 3 of 3 (1 s)" in text
    )
