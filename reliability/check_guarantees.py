"""Check every guarantee of the software and print the results as a table.

    python -m reliability.check_guarantees [--short | --quick] [--out docs/reliability.md]

The program runs the tests and programs that reliability/guarantees.py, waits.py and hostile_inputs.py
name. A verdict is one of:

    OK    all tests and programs passed
    part  all passed, but a part of the guarantee is known to be missing or a target was not reached
    no    a test or program failed, or the guarantee has none
    -     all that ran passed, but --quick skipped some tests

A test records the value that it measured as the property `figure`. If it also records `met` as
False, it passed although the value missed the target. The exit code is 1 if a guarantee with tests
has the verdict no. --short runs fewer fuzz cases and kills; --quick also skips the slow tests. They
take about eight and five minutes, a full run about half an hour.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import torch

from common.run_main import run_command
from reliability.guarantees import GUARANTEES, Guarantee
from reliability.hostile_inputs import HOSTILE_INPUTS
from reliability.waits import WAITS

ROOT = Path(__file__).resolve().parents[1]
ALL = (*GUARANTEES, *WAITS, *HOSTILE_INPUTS)
PROGRAMS = {
    "options": ["reliability.fuzz", "options"], "images": ["reliability.fuzz", "images"],
    "checkpoints": ["reliability.fuzz", "checkpoints"],
    "kill_and_resume": ["reliability.kill_and_resume"],
    "write_faults": ["reliability.write_faults"],
    **{
        f"hostile_{kind}": ["reliability.hostile", kind]
        for kind in ("checkpoints", "places", "names", "downloads")
    },
}  # fmt: skip
SHORT = {
    "options": ["--count", "1000"], "images": ["--count", "300"], "checkpoints": ["--count", "150"],
    "kill_and_resume": ["--kills", "4", "--steps", "120"],
    "write_faults": ["--points", "24"],
    "hostile_checkpoints": ["--count", "60"], "hostile_places": ["--count", "60"],
    "hostile_names": [], "hostile_downloads": [],
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """The result of one test or program."""

    passed: bool
    seconds: float
    measured: str = ""
    met: bool = True  # whether the value reached the target; a busy machine may miss it


def run_tests(nodes: Iterable[str], quick: bool) -> dict[str, list[Outcome]]:
    """Run tests; return node id -> the outcomes of its cases, an empty list if it was skipped."""
    node_ids = sorted(set(nodes))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        subprocess.run(
            [sys.executable, "-m", "pytest", *node_ids, f"--junitxml={report}",
             "-m", "not gpu and not slow" if quick else "not gpu"],
            cwd=ROOT, stdout=sys.stderr, check=False,
        )  # fmt: skip
        cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
        outcomes: dict[str, list[Outcome]] = {node: [] for node in node_ids}
        for case in cases:
            file = case.get("classname", "").replace(".", "/") + ".py"
            node = f"{file}::{case.get('name', '').partition('[')[0]}"
            failed = any(case.find(kind) is not None for kind in ("failure", "error"))
            recorded = {x.get("name"): x.get("value", "") for x in case.iter("property")}
            if node in outcomes and case.find("skipped") is None:
                seconds = float(case.get("time", 0))
                measured, met = recorded.get("figure", ""), recorded.get("met") != "False"
                outcomes[node].append(Outcome(not failed, seconds, measured, met))
    return outcomes


def run_program(name: str, short: bool) -> Outcome:
    """Run a program; its summary lines are what it measured."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *PROGRAMS[name], *(SHORT[name] if short else [])],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]]
    summaries = [line for line in lines if line.startswith(name)] or lines[-1:]
    return Outcome(not done.returncode, time.monotonic() - began, "; ".join(summaries))


def row(
    guarantee: Guarantee, tests: Mapping[str, list[Outcome]], programs: Mapping[str, Outcome]
) -> list[str]:
    """Return the cells of a guarantee: name, promise, target, measured, shown by, verdict."""
    outcomes = [outcome for node in guarantee.tests for outcome in tests[node]]
    passed = sum(outcome.passed for outcome in outcomes)
    measured = [x.measured for x in outcomes if x.measured and x.passed]
    passes = [f"{passed} of {len(outcomes)} tests pass"] if guarantee.tests else []
    skipped = [node for node in guarantee.tests if not tests[node]]
    ran = [*outcomes, *(programs[name] for name in guarantee.programs)]
    if not ran or not all(outcome.passed for outcome in ran):
        verdict = "no"
    elif skipped:
        verdict = "-"
    else:
        verdict = "OK" if all(outcome.met for outcome in ran) and not guarantee.gap else "part"
    program_results = [
        f"{name} {'ok' if programs[name].passed else 'failed'}" for name in guarantee.programs
    ]
    gap = [f"missing: {guarantee.gap}"] if guarantee.gap else []
    skips = [f"{len(skipped)} skipped"] if skipped else []
    files = sorted({node.partition("::")[0].removeprefix("tests/") for node in guarantee.tests})
    return [
        guarantee.name,
        guarantee.promise,
        guarantee.target,
        "; ".join([*measured, *passes, *program_results, *skips, *gap]),
        ", ".join([*files, *guarantee.programs]),
        verdict,
    ]


def describe_machine() -> str:
    """Return the date, the processor, its cores and the version of torch."""
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
    head = ["", "guarantee", "target", "measured", "shown by", "verdict"]
    lines = [
        "# Reliability", "",
        f"Printed by `{command}` on {describe_machine()}.", "That command measured every value.", "",
        *("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)), "",
        "## Programs", "",
    ]  # fmt: skip
    for outcome in programs.values():
        text = f"- {outcome.measured} ({outcome.seconds:.0f} s)"
        lines += textwrap.wrap(text, 120, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Parse the command line and run; return 1 if a test or program failed."""
    parser = argparse.ArgumentParser(
        prog="check_guarantees",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="fewer fuzz cases and kills")
    parser.add_argument("--quick", action="store_true", help="--short without slow tests")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/reliability.md")
    args = parser.parse_args(arguments)
    tests = run_tests((node for guarantee in ALL for node in guarantee.tests), args.quick)
    programs = {name: run_program(name, args.short or args.quick) for name in PROGRAMS}
    rows = [row(guarantee, tests, programs) for guarantee in ALL]
    kind = " --quick" if args.quick else " --short" if args.short else ""
    command = f"python -m reliability.check_guarantees{kind}"
    text = page(rows, programs, command)
    args.out.write_text(text, encoding="utf-8")
    print(text)
    return any(cells[-1] == "no" and cells[4] for cells in rows)


if __name__ == "__main__":
    run_command(main)
