"""A blind comparison of two evaluated runs: python -m comparison.preference RUN RUN [out=page.html].

The page shows an input and two translations of it, in random places; a person clicks the better one, and
saves the answers as a file. `python -m comparison.preference answers.json ...` turns answer files
into scores.
"""

import base64
import html
import io
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from PIL import Image

from common.command import run_command
from common.command_line import parse_words
from common.errors import UserError
from common.files import write_text
from common.user_paths import page_path, parse_path
from comparison.side_by_side import differences, read_metrics
from data.config import DataConfig
from data.folders import files_in, find_split, folder_of
from data.reading import composite_on_white, open_image
from inference.outputs import output_name

PAGE = Template((Path(__file__).parent / "templates/preference.html").read_text(encoding="utf-8"))
MAX_COMPARISONS = 40  # pictures on a page: more tire a person
SIDE = 384  # pixels they are shown with, at most
USAGE = """\
usage: python -m comparison.preference RUN RUN [out=preference.html]
       python -m comparison.preference answers.json ...

The first writes a page for the browser that shows pictures of both runs, which were evaluated by test.py,
without saying whose they are; a person chooses, and saves the answers as a file. The second turns
the answers of any number of people into scores.
"""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    out: str = "preference.html"


def main(arguments: Sequence[str]) -> None:
    """Do what the command line asks for."""
    parsed = parse_words(arguments, Options, USAGE)
    if parsed is None:
        return
    words, options = parsed
    paths = [parse_path(word) for word in words]
    if paths and all(path.suffix == ".json" for path in paths):
        print(scores_table(bradley_terry(read_answers(paths))))
        return
    if len(paths) != 2:
        raise UserError(
            "usage: python -m comparison.preference RUN RUN [out=page.html], or answers.json ..."
        )
    count = write_page(paths[0], paths[1], page_path(options.out))
    print(f"{count} comparisons in {options.out}; open it in a browser, answer, and save")


def write_page(one: Path, other: Path, out: Path, seed: int = 0) -> int:
    """Write a page that compares what two runs made of the same held-out images; return how many."""
    measured = [read_metrics(run) for run in (one, other)]
    found = differences(measured[0]["protocol"], measured[1]["protocol"])
    if found:
        raise UserError(
            f"{one} and {other} were evaluated differently and cannot be compared: {'; '.join(found)}"
        )
    if one.resolve() == other.resolve():
        raise UserError(f"{one} is both of the runs; name two")
    data = data_of(one)
    sources = find_split(data, "test")
    order = random.Random(seed)
    rounds = []
    for direction in sorted(_directions(one) & _directions(other)):
        domain = direction.split("_to_")[0]
        for file in sources.get(domain, []):
            name = output_name(file.relative_to(folder_of(data, "test", domain)))
            fakes = [run / "test" / direction / name for run in (one, other)]
            if all(fake.is_file() for fake in fakes):
                rounds.append((direction, file, fakes))
    if not rounds:
        raise UserError(
            f"{one} and {other} have no translations of the same images; run test.py on both first"
        )
    order.shuffle(rounds)
    questions = []
    for direction, file, fakes in rounds[:MAX_COMPARISONS]:
        sides = [0, 1]
        order.shuffle(sides)
        questions.append({
            "direction": direction, "name": file.name, "real": _picture(file),
            "left": _picture(fakes[sides[0]]), "right": _picture(fakes[sides[1]]), "order": sides,
        })  # fmt: skip
    # What the page knows of the runs is hidden from a glance, not from a determined reader.
    runs = [base64.b64encode(str(run).encode()).decode() for run in (one, other)]
    content = json.dumps({"runs": runs, "questions": questions}).replace("</", "<\\/")
    write_text(
        out, PAGE.substitute(content=content, count=len(questions), title=html.escape(out.stem))
    )
    return len(questions)


def data_of(run: Path) -> DataConfig:
    """Return where the images are that a run was evaluated on."""
    content = json.loads((run / "test" / "metrics.json").read_text(encoding="utf-8"))
    try:
        return DataConfig(**content["data"])
    except (KeyError, TypeError):
        raise UserError(
            f"{run}/test/metrics.json is of another version; run test.py again"
        ) from None


def _directions(run: Path) -> set[str]:
    folder = run / "test"
    if not folder.is_dir():
        raise UserError(f"{run} was not evaluated; run: python test.py {run}")
    return {entry.name for entry in folder.iterdir() if "_to_" in entry.name and files_in(entry)}


def _picture(path: Path) -> str:
    image = composite_on_white(open_image(path)).convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


Wins = Mapping[tuple[str, str], float]
"""(winner, loser) -> how often; a tie counts half for each."""


def read_answers(paths: Sequence[Path]) -> dict[tuple[str, str], float]:
    """Return who won against whom in saved answers; UserError names a file that holds none."""
    wins: dict[tuple[str, str], float] = {}
    for path in paths:
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["answers"]
            for row in rows:
                one, other, choice = str(row["first"]), str(row["second"]), row["choice"]
                share = {"first": 1.0, "second": 0.0, "tie": 0.5}[choice]
                wins[one, other] = wins.get((one, other), 0.0) + share
                wins[other, one] = wins.get((other, one), 0.0) + 1 - share
        except FileNotFoundError:
            raise UserError(f"no such file: {path}") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path}: no answers of a comparison page") from None
    if not wins:
        raise UserError("no answer was given yet")
    return wins


def bradley_terry(wins: Wins, rounds: int = 1000) -> dict[str, tuple[float, float]]:
    """Return run -> (score, standard error): log-odds of being preferred, of mean 0 over the runs.

    Bradley & Terry 1952 (Biometrika 39), by the iteration of Hunter 2004 (Ann. Statist. 32, Eq. 3).
    Half an answer for each of a pair is added, so that a run which won every time has a finite score.
    The error is from the Fisher information's diagonal.
    """
    names = sorted({name for pair in wins for name in pair})
    counts = {pair: count + 0.5 for pair, count in wins.items()}
    strength = dict.fromkeys(names, 1.0)
    for _ in range(rounds):
        for name in names:
            won = sum(c for (winner, _), c in counts.items() if winner == name)
            met = sum(
                (c + counts.get((loser, name), 0.0)) / (strength[name] + strength[loser])
                for (winner, loser), c in counts.items()
                if winner == name
            )
            strength[name] = won / met
        mean = math.exp(sum(math.log(s) for s in strength.values()) / len(names))
        strength = {name: s / mean for name, s in strength.items()}
    found = {}
    for name in names:
        information = 0.0
        for (winner, loser), c in counts.items():
            if winner == name:
                share = strength[name] / (strength[name] + strength[loser])
                information += (c + counts.get((loser, name), 0.0)) * share * (1 - share)
        found[name] = (math.log(strength[name]), 1 / math.sqrt(information))
    return found


def scores_table(scores: Mapping[str, tuple[float, float]]) -> str:
    """Return the scores, the best first."""
    width = max(len(name) for name in scores)
    best = sorted(scores.items(), key=lambda item: -item[1][0])
    return "\n".join(
        f"{name:<{width}}  {score:+.2f} ± {error:.2f}" for name, (score, error) in best
    )


if __name__ == "__main__":
    run_command(main)
