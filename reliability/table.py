"""Print what the software holds itself to, each row with the figure reached now.

    python -m reliability.table [--short | --quick] [--out docs/reliability.md]

Runs the tests and programs of reliability/guarantees.py. OK: all of them passed; part: they passed, and
something that was asked is known to be missing; no: one failed, or there is none; -: --quick left some out.
A test's own figure is what it records under the property `figure`; where it also records `met` as
False, it passed with a figure short of the one asked, and the verdict is part. Exit code 1 where a row
says no though it has tests. --short has fewer cases and kills, --quick leaves out the slow
tests too: some eight and five minutes, the whole takes half an hour or so.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch

from common.command import run_command
from reliability.guarantees import GUARANTEES, Guarantee

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = {
    "options": ["reliability.fuzz", "options"], "images": ["reliability.fuzz", "images"],
    "checkpoints": ["reliability.fuzz", "checkpoints"], "storm": ["reliability.kill_and_resume"],
}  # fmt: skip
SHORT = {
    "options": ["--count", "1000"], "images": ["--count", "300"], "checkpoints": ["--count", "150"],
    "storm": ["--kills", "4", "--steps", "120"],
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What one test, or one program, showed."""

    passed: bool
    seconds: float
    figure: str = ""
    met: bool = (
        True  # whether the figure is the one asked for: a test may allow more on a busy machine
    )


def run_tests(nodes: Iterable[str], quick: bool) -> dict[str, list[Outcome]]:
    """Run tests; return node id -> the outcomes of its cases, none where it was left out."""
    wanted = sorted(set(nodes))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", *wanted, f"--junitxml={report}",
             "-m", "not gpu and not slow" if quick else "not gpu"],
            cwd=ROOT, stdout=sys.stderr, check=False,
        )  # fmt: skip
        cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
        found: dict[str, list[Outcome]] = {node: [] for node in wanted}
        for case in cases:
            file = case.get("classname", "").replace(".", "/") + ".py"
            node = f"{file}::{case.get('name', '').partition('[')[0]}"
            bad = any(case.find(kind) is not None for kind in ("failure", "error"))
            recorded = {x.get("name"): x.get("value", "") for x in case.iter("property")}
            if node in found and case.find("skipped") is None:
                seconds = float(case.get("time", 0))
                figure, met = recorded.get("figure", ""), recorded.get("met") != "False"
                found[node].append(Outcome(not bad, seconds, figure, met))
    return found


def run_program(name: str, short: bool) -> Outcome:
    """Run a program; its last line is its figure."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *PROGRAMS[name], *(SHORT[name] if short else [])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    summaries = [line for line in lines if line.startswith((name, "storm"))] or lines[-1:]
    return Outcome(not done.returncode, time.monotonic() - began, "; ".join(summaries))


def row(
    claim: Guarantee, tests: Mapping[str, list[Outcome]], programs: Mapping[str, Outcome]
) -> list[str]:
    """Return a claim's cells: id, asked, figure asked, reached, shown by, verdict."""
    outcomes = [outcome for node in claim.tests for outcome in tests[node]]
    passed = sum(outcome.passed for outcome in outcomes)
    figures = [outcome.figure for outcome in outcomes if outcome.figure and outcome.passed]
    reached = [f"{passed} of {len(outcomes)} tests pass"] if claim.tests else []
    left_out = [node for node in claim.tests if not tests[node]]
    ran = [*outcomes, *(programs[name] for name in claim.programs)]
    if not ran or not all(outcome.passed for outcome in ran):
        verdict = "no"
    elif left_out:
        verdict = "-"
    else:
        verdict = "OK" if all(outcome.met for outcome in ran) and not claim.gap else "part"
    programs_said = [
        f"{name} {'ok' if programs[name].passed else 'failed'}" for name in claim.programs
    ]
    gap = [f"missing: {claim.gap}"] if claim.gap else []
    late = [f"{len(left_out)} left out"] if left_out else []
    files = sorted({node.partition("::")[0].removeprefix("tests/") for node in claim.tests})
    return [
        claim.name, claim.target, claim.figure, "; ".join([*figures, *reached, *programs_said, *late, *gap]),
        ", ".join([*files, *claim.programs]), verdict,
    ]  # fmt: skip


def machine() -> str:
    """Return the date and what the figures were reached on."""
    model = platform.processor() or platform.machine()
    for line in (
        Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else ()
    ):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    today = datetime.date.today().isoformat()
    return f"{today}, {model}, {os.cpu_count()} cores, torch {torch.__version__.partition('+')[0]}"


def page(rows: list[list[str]], programs: Mapping[str, Outcome], command: str) -> str:
    """Return the table as Markdown."""
    head = ["", "what is asked", "figure asked", "reached", "shown by", ""]
    lines = [
        "# Reliability", "",
        f"Printed by `{command}` on {machine()}. Every figure was measured by that command.", "",
        *("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)), "",
        "## Programs", "",
        *(f"- {outcome.figure} ({outcome.seconds:.0f} s)" for outcome in programs.values()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; return 1 where a test or program failed."""
    parser = argparse.ArgumentParser(
        prog="table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/reliability.md")
    known = parser.parse_args(arguments)
    tests = run_tests((node for claim in GUARANTEES for node in claim.tests), known.quick)
    programs = {name: run_program(name, known.short or known.quick) for name in PROGRAMS}
    rows = [row(claim, tests, programs) for claim in GUARANTEES]
    kind = " --quick" if known.quick else " --short" if known.short else ""
    command = f"python -m reliability.table{kind}"
    text = page(rows, programs, command)
    known.out.write_text(text, encoding="utf-8")
    print(text)
    return any(cells[-1] == "no" and cells[4] for cells in rows)


if __name__ == "__main__":
    run_command(main)
