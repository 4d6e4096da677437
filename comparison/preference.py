"""Compare two evaluated runs by blind votes: python -m comparison.preference RUN RUN [out=FILE].

The page shows an input and its translations by both runs in random order; a person clicks the
better one, and saves the answers as a file. `python -m comparison.preference answers.json ...`
computes Bradley-Terry scores from such files.
"""

import base64
import html
import io
import json
import math
import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from common.command_line import parse_words
from common.errors import UserError
from common.files import read_json, write_text
from common.run_main import run_command
from common.user_paths import page_path, parse_path
from comparison.metrics_table import check_comparable, read_metrics
from data.config import DataConfig
from data.folders import files_in, find_split, folder_of
from data.reading import composite_on_white, open_image, read_pixels
from data.values.value_range import DomainFormat
from engine.upgrade_format_1 import upgrade_options
from inference.outputs import lossless_names

PAGE = Template((Path(__file__).parent / "templates/preference.html").read_text(encoding="utf-8"))
MAX_QUESTIONS = 40  # of one page: more tire a person
MAX_SIDE = 384  # pixels of the longer side of an image on the page
USAGE = """\
usage: python -m comparison.preference RUN RUN [out=preference.html]
       python -m comparison.preference answers.json ...

The first form writes a web page that shows translations by two runs, which test.py has evaluated,
without the names of the runs; a person chooses, and saves the answers as a file. The second form
computes scores from the answers of any number of people.
"""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    out: str = "preference.html"


def main(arguments: Sequence[str]) -> None:
    """Run the command."""
    parsed = parse_words(arguments, Options, USAGE)
    if parsed is None:
        return
    words, options = parsed
    paths = [parse_path(word) for word in words]
    if paths and all(path.suffix == ".json" for path in paths):
        print(scores_table(bradley_terry(read_wins(paths))))
        return
    if len(paths) != 2:
        raise UserError(
            "usage: python -m comparison.preference RUN RUN [out=page.html], or answers.json ..."
        )
    count = write_page(paths[0], paths[1], page_path(options.out))
    print(f"{count} comparisons in {options.out}; open it in a browser, answer, and save")


def write_page(one: Path, other: Path, out: Path, seed: int = 0) -> int:
    """Write a page that compares two runs' translations of the same held-out images.

    Return the number of questions, at most 40. `seed` orders the questions and their two sides.
    UserError where a run was not evaluated, both are one run, their protocols differ, or they have
    no translations of the same images.
    """
    measured = [read_metrics(run) for run in (one, other)]
    shared = [name for name in measured[0]["directions"] if name in measured[1]["directions"]]
    check_comparable(str(one), measured[0], str(other), measured[1], shared)
    if one.resolve() == other.resolve():
        raise UserError(f"{one} is named twice; name two different runs", path=one)
    data = evaluated_data(one)
    sources, forms = find_split(data, "test"), data.formats()
    random_order = random.Random(seed)
    comparisons = []
    known = {f"{source}_to_{target}" for source in forms for target in forms}
    for direction in sorted(_directions(one) & _directions(other) & known):
        domain, target = direction.split("_to_")
        files = sources.get(domain, [])
        names = (
            lossless_names(files, folder_of(data, "test", domain), forms[target]) if files else {}
        )
        for file in files:
            fakes = [run / "test" / direction / names[file] for run in (one, other)]
            if all(fake.is_file() for fake in fakes):
                comparisons.append((direction, file, fakes))
    if not comparisons:
        raise UserError(
            f"{one} and {other} have no translations of the same images; run test.py on both first",
            path=other,
        )
    random_order.shuffle(comparisons)
    questions = []
    for direction, file, fakes in comparisons[:MAX_QUESTIONS]:
        sides = [0, 1]
        random_order.shuffle(sides)
        source, target = (forms[domain] for domain in direction.split("_to_"))
        questions.append({
            "direction": direction, "name": file.name, "real": _data_url(file, source),
            "left": _data_url(fakes[sides[0]], target),
            "right": _data_url(fakes[sides[1]], target), "order": sides,
        })  # fmt: skip
    # Base64 hides the runs' names from a glance at the page's source, not from a determined reader.
    runs = [base64.b64encode(str(run).encode()).decode() for run in (one, other)]
    content = json.dumps({"runs": runs, "questions": questions}).replace("<", "\\u003c")
    write_text(
        out, PAGE.substitute(content=content, count=len(questions), title=html.escape(out.stem))
    )
    return len(questions)


def _kinds(default: object) -> tuple[type, ...]:
    """Return the types that an option may have, given its default."""
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    return (int, float) if is_number else (type(default),)


def evaluated_data(run: Path) -> DataConfig:
    """Return the data options that a run was evaluated with; UserError if they are outdated."""
    path = run / "test" / "metrics.json"
    content = read_json(path)
    try:
        old = {f"data.{name}": value for name, value in content["data"].items()}
        values = {name.removeprefix("data."): value for name, value in upgrade_options(old).items()}
        defaults = DataConfig()
        if any(not isinstance(x, _kinds(getattr(defaults, name))) for name, x in values.items()):
            raise TypeError
        return DataConfig(**values)
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} was written by another version; run test.py again", path=path
        ) from None


def _directions(run: Path) -> set[str]:
    folder = run / "test"
    if not folder.is_dir():
        raise UserError(
            f"{run} was not evaluated; run: python test.py {shlex.quote(str(run))}", path=run
        )
    folders = [entry for entry in folder.iterdir() if "_to_" in entry.name and entry.is_dir()]
    return {entry.name for entry in folders if files_in(entry)}


def _data_url(path: Path, form: DomainFormat) -> str:
    """Return an image file as a JPEG data URL, its longer side at most MAX_SIDE pixels.

    Of a domain with a range, the first one or three bands are shown.
    """
    if form.has_range:
        unit = read_pixels(path, form)
        unit = unit[..., : 3 if unit.shape[2] >= 3 else 1]
        shown = np.rint(255 * unit).astype(np.uint8)
        image = Image.fromarray(shown[..., 0] if shown.shape[2] == 1 else shown).convert("RGB")
    else:
        image = composite_on_white(open_image(path)).convert("RGB")
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()


Wins = Mapping[tuple[str, str], float]
"""(winner, loser) -> number of wins; a tie counts as half a win for each."""


def read_wins(paths: Sequence[Path]) -> dict[tuple[str, str], float]:
    """Return the wins in saved answer files.

    UserError where a file is missing or is not an answer file, or where no file has an answer.
    """
    wins: dict[tuple[str, str], float] = {}
    for path in paths:
        try:
            rows = read_json(path)["answers"]
            for row in rows:
                one, other, choice = str(row["first"]), str(row["second"]), row["choice"]
                share = {"first": 1.0, "second": 0.0, "tie": 0.5}[choice]
                wins[one, other] = wins.get((one, other), 0.0) + share
                wins[other, one] = wins.get((other, one), 0.0) + 1 - share
        except FileNotFoundError:
            raise UserError(f"no such file: {path}", path=path) from None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{path}: not an answer file; save one on the page of comparison.preference",
                path=path,
            ) from None
    if not wins:
        raise UserError(
            f"{paths[0]} has no answers; answer questions on the page, and save again",
            path=paths[0],
        )
    return wins


def bradley_terry(wins: Wins, iterations: int = 1000) -> dict[str, tuple[float, float]]:
    """Return run -> (score, standard error): the log-odds of being preferred, with mean 0.

    Bradley & Terry 1952 (Biometrika 39), by the iteration of Hunter 2004 (Ann. Statist. 32, Eq. 3).
    Half a win is added for each run of a pair, so that a run that won every time has a finite
    score. The error is from the Fisher information's diagonal.
    """
    names = sorted({name for pair in wins for name in pair})
    counts = {pair: count + 0.5 for pair, count in wins.items()}
    strength = dict.fromkeys(names, 1.0)
    for _ in range(iterations):
        for name in names:
            won = sum(c for (winner, _), c in counts.items() if winner == name)
            weighted_comparisons = sum(
                (c + counts.get((loser, name), 0.0)) / (strength[name] + strength[loser])
                for (winner, loser), c in counts.items()
                if winner == name
            )
            strength[name] = won / weighted_comparisons  # Eq. 3
        mean = math.exp(sum(math.log(s) for s in strength.values()) / len(names))
        strength = {name: s / mean for name, s in strength.items()}
    scores = {}
    for name in names:
        information = 0.0
        for (winner, loser), c in counts.items():
            if winner == name:
                share = strength[name] / (strength[name] + strength[loser])
                information += (c + counts.get((loser, name), 0.0)) * share * (1 - share)
        scores[name] = (math.log(strength[name]), 1 / math.sqrt(information))
    return scores


def scores_table(scores: Mapping[str, tuple[float, float]]) -> str:
    """Return the scores as lines of text, the best run first."""
    width = max(len(name) for name in scores)
    best = sorted(scores.items(), key=lambda item: -item[1][0])
    return "\n".join(
        f"{name:<{width}}  {score:+.2f} ± {error:.2f}" for name, (score, error) in best
    )


if __name__ == "__main__":
    run_command(main)
