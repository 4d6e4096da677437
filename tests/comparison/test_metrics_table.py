"""Metrics are printed side by side only if they were measured in the same way."""

import json

import pytest

from comparison import metrics_table as side_by_side
from tests.conftest import refusal

PROTOCOL = {
    "step": 5,
    "weights": "raw",
    "seed": 0,
    "size": 64,
    "fit": "stretch",
    "resize": "bicubic",
}


def run(folder, name, **changes):
    (folder / name / "test").mkdir(parents=True)
    content = {
        "protocol": PROTOCOL | changes,
        "directions": {"a_to_b": {"images": 4, "swd": 0.1 + len(name), "cycle_psnr": None}},
    }
    (folder / name / "test/metrics.json").write_text(json.dumps(content))
    return str(folder / name)


def test_metrics_of_equal_protocols_are_printed_side_by_side(tmp_path, capsys):
    runs = [run(tmp_path, "x", step=7, seed=3), run(tmp_path, "yy", weights="ema")]
    side_by_side.main(runs)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "SWD" in line]
    assert line.split()[-2:] == ["1.1000", "2.1000"] and "cycle" not in out


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 128), ("resize", "bilinear"), ("images", {"a": 3}), ("features", "x")],
)
def test_another_protocol_is_refused_with_the_difference(tmp_path, name, value):
    runs = [run(tmp_path, "x"), run(tmp_path, "y", **{name: value})]
    error = refusal(side_by_side, *runs)
    assert error.path == runs[1] and f"{name} is" in str(error) and "\n" not in str(error)


def test_a_run_without_metrics_or_with_damaged_ones_is_named(tmp_path):
    good, missing = run(tmp_path, "x"), tmp_path / "none"
    error = refusal(side_by_side, good, missing)
    assert error.path == str(missing) and "no such run" in str(error)
    missing.mkdir()
    assert "python test.py" in str(refusal(side_by_side, good, missing))
    damaged = tmp_path / "x/test/metrics.json"
    damaged.write_text("{")
    assert refusal(side_by_side, good, good).path == str(damaged)
    assert "usage" in str(refusal(side_by_side, good))
