"""Figures stand side by side only where they were measured alike."""

import json

import pytest

from common.errors import UserError
from comparison import side_by_side

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


def test_equal_protocols_are_set_side_by_side(tmp_path, capsys):
    runs = [run(tmp_path, "x", step=7, seed=3), run(tmp_path, "yy", weights="ema")]
    side_by_side.main(runs)
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "SWD" in line]
    assert line.split()[-2:] == ["1.1000", "2.1000"] and "cycle" not in out


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 128), ("resize", "bilinear"), ("images", {"a": 3}), ("features", "x")],
)
def test_another_stamp_is_refused_with_what_differs(tmp_path, name, value):
    runs = [run(tmp_path, "x"), run(tmp_path, "y", **{name: value})]
    with pytest.raises(UserError, match=f"measured differently.*{name} is") as caught:
        side_by_side.main(runs)
    assert "\n" not in str(caught.value)


def test_a_run_without_or_with_damaged_figures_is_named(tmp_path):
    good = run(tmp_path, "x")
    with pytest.raises(UserError, match="python test.py"):
        side_by_side.main([good, str(tmp_path / "none")])
    (tmp_path / "x/test/metrics.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        side_by_side.main([good, good])
    with pytest.raises(UserError, match="usage"):
        side_by_side.main([good])
