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
    assert line.split()[-2:] == ["1.1", "2.1"] and "cycle" not in out


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


def stamped(folder, name, directions, **changes):
    path = folder / name / "test"
    path.mkdir(parents=True)
    content = {
        "protocol": PROTOCOL | changes,
        "protocols": {d: {"fingerprint": stamp} for d, stamp in directions.items()},
        "directions": {d: {"images": 4, "swd": 1.0} for d in directions},
    }
    (path / "metrics.json").write_text(json.dumps(content))
    return str(folder / name)


def test_runs_are_compared_in_the_directions_that_they_share(tmp_path, capsys):
    both = stamped(tmp_path, "cyclegan", {"a_to_b": "x", "b_to_a": "y"})
    one = stamped(tmp_path, "cut", {"a_to_b": "x"})
    side_by_side.main([both, one])
    out = capsys.readouterr().out
    assert "a_to_b" in out and "b_to_a" not in out
    other = stamped(tmp_path, "other", {"a_to_b": "z", "b_to_a": "y"})
    error = refusal(side_by_side, both, other)
    assert "a_to_b: fingerprint is x and z" in str(error) and "b_to_a" not in str(error)
    back = stamped(tmp_path, "back", {"b_to_a": "y"})
    assert "no direction in common" in str(refusal(side_by_side, one, back))


def test_another_fit_is_answered_with_the_command_that_makes_runs_comparable(tmp_path):
    one, other = (stamped(tmp_path, fit, {"a_to_b": "x"}, fit=fit) for fit in ("stretch", "crop"))
    error = refusal(side_by_side, one, other)
    assert f"python test.py {other} data.fit=stretch data.load_size=64 data.crop_size=64" in str(
        error
    )
