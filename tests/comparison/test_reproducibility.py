"""Two training runs are compared by what they recorded."""

import json
import math
import shutil

import pytest

import train
from comparison import reproducibility
from comparison.reproducibility import differences, first_differences, relative_difference, verdict
from comparison.training_log import read_training_log
from tests.conftest import TINY, call, refusal, written


@pytest.fixture
def twins(trained, tmp_path):
    """Two copies of a run, to be altered."""
    for name in ("one", "other"):
        shutil.copytree(trained, tmp_path / name, ignore=shutil.ignore_patterns("checkpoints"))
    return tmp_path / "one", tmp_path / "other"


def alter(run, step, name, change):
    lines = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["step"] == step:
            row[name] = change(row[name])
        lines.append(json.dumps(row))
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def compared(twins, capsys, *words):
    code = reproducibility.main([*map(str, twins), f"out={twins[0].parent / 'page.html'}", *words])
    return code, capsys.readouterr().out


def test_a_repeated_run_is_equal_bit_for_bit(trained, tmp_path, capsys):
    assert call(train, trained, f"run={tmp_path / 'again'}") == (0, "")
    code, out = compared((trained, tmp_path / "again"), capsys)
    assert code == 0
    assert "the same experiment: identical bit for bit at all 5 logged steps" in out


def test_a_rounding_difference_is_distinguished_from_a_larger_one(twins, capsys):
    alter(twins[1], 4, "cycle_a", lambda value: value * (1 + 1e-7))
    code, out = compared(twins, capsys)
    assert code == 0
    assert "identical before step 4, equal within 1e-05 relative from step 4 on" in out
    alter(twins[1], 6, "cycle_b", lambda value: value * 1.001)
    code, out = compared(twins, capsys)
    assert code == 1
    assert "identical before step 4, equal within 1e-05 relative before step 6" in out
    assert ", different from step 6 on" in out
    (line,) = [line for line in out.splitlines() if line.startswith("cycle_b")]
    assert line.split() == ["cycle_b", "5", "0.001", "6", "6", "6"]
    code, out = compared(twins, capsys, "tolerance=0.01")
    assert code == 0 and "equal within 0.01 relative from step 4 on" in out


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(1.0, 1.0, 0.0), (2.0, 1.0, 0.5), (-1.0, 1.0, 2.0), (0.0, 0.0, 0.0), (math.nan, math.nan, 0.0),
     (math.nan, 1.0, math.inf), (math.inf, math.inf, 0.0), (math.inf, 1.0, math.inf)],
)  # fmt: skip
def test_a_difference_is_relative_to_the_larger_value(one, other, expected):
    assert relative_difference(one, other) == expected


def test_another_seed_is_another_experiment_and_differs_at_once(photos, trained, tmp_path, capsys):
    assert call(train, trained, f"run={tmp_path / 'seeded'}", "seed=1") == (0, "")
    code, out = compared((trained, tmp_path / "seeded"), capsys)
    assert code == 1 and "seed 0 -> 1" in out
    assert "another experiment (not the same: options): different from step 1 on" in out


@pytest.mark.parametrize(
    ("file", "path", "value", "part"),
    [
        ("provenance.json", ("sessions", 0, "code"), "0" * 16, "code"),
        ("provenance.json", ("sessions", 0, "data_fingerprint", "train"), "0" * 16, "images"),
        ("provenance.json", ("sessions", 0, "packages", "torch"), "1.0", "versions"),
        ("provenance.json", ("sessions", 0, "processor"), "abacus", "machine"),
    ],
)
def test_the_part_that_differs_is_named(twins, file, path, value, part):
    content = json.loads((twins[1] / file).read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (twins[1] / file).write_text(json.dumps(content))
    found = differences(*map(read_training_log, twins))
    assert [name for name, lines in found.items() if lines] == [part]


def test_the_location_of_the_images_does_not_matter_but_their_content_does(twins):
    text = (twins[1] / "options.yaml").read_text()
    lines = ["  root: /elsewhere" if x.startswith("  root: ") else x for x in text.splitlines()]
    (twins[1] / "options.yaml").write_text("\n".join(lines) + "\n")
    one, other = map(read_training_log, twins)
    assert other.options["data.root"] == "/elsewhere" and not differences(one, other)["options"]
    (twins[1] / "provenance.json").unlink()
    found = differences(one, read_training_log(twins[1]))
    assert found["images"] and found["options"] and found["code"]


def test_an_offline_run_is_compared_with_its_own_folder(photos, tmp_path, capsys):
    run = tmp_path / "run"
    words = [word for word in TINY if "wandb" not in word]
    assert call(train, "cyclegan", f"data.root={photos}", f"run={run}", "duration=3 steps", *words,
                "log.every=1", "log.wandb=offline") == (0, "")  # fmt: skip
    written()
    (folder,) = (run / "wandb").glob("offline-run-*")
    code, out = compared((run, folder), capsys)
    assert code == 0 and "the same experiment: identical bit for bit at all 3 logged steps" in out
    assert len(read_training_log(folder).rows) == 3
    assert {p.name for p in first_differences(*map(read_training_log, (run, folder)))} >= {
        "cycle_a", "gradients/generators", "score/swd"}  # fmt: skip


def test_the_page_shows_every_curve_and_the_first_difference_and_loads_nothing(twins, capsys):
    alter(twins[1], 4, "cycle_a", lambda value: value * 2)
    compared(twins, capsys)
    page = (twins[0].parent / "page.html").read_text()
    assert page.count("<polyline") == 2 * page.count("<svg") > 10
    assert page.count("<line ") == 1 and "http" not in page and "<script" not in page


def test_only_steps_that_both_logged_are_compared(twins):
    lines = (twins[1] / "metrics.jsonl").read_text().splitlines()
    (twins[1] / "metrics.jsonl").write_text("\n".join(lines[:2]) + '\n{"step": 9, "cyc')
    one, other = map(read_training_log, twins)
    found = first_differences(one, other)
    assert {p.steps for p in found} == {2}
    assert verdict(one, other, found).endswith("identical bit for bit at all 2 logged steps")


def test_mistakes_name_the_option_or_the_path(twins, tmp_path):
    (tmp_path / "empty").mkdir()
    one, other = twins
    assert "usage" in str(refusal(reproducibility, one))
    for path in (tmp_path / "none", tmp_path / "empty"):
        assert refusal(reproducibility, one, path).path == str(path)
    for tolerance in ("-1", "x"):
        assert refusal(reproducibility, one, one, f"tolerance={tolerance}").option == "tolerance"
    (other / "metrics.jsonl").write_text('{"step": 1000, "cycle_a": 1}\n')
    error = refusal(reproducibility, one, other)
    assert error.path == str(other) and "no logged step in common" in str(error)
    (other / "metrics.jsonl").write_text("{")
    assert refusal(reproducibility, one, other).path == str(other / "metrics.jsonl")
