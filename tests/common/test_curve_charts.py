"""Curves become SVG figures: scaled, thinned, escaped, and without values that are not finite."""

import math
import re

from common.curve_charts import MAX_POINTS, curve_chart, thinned


def points_of(chart: str, css_class: str) -> list[tuple[float, float]]:
    found = re.search(rf'<polyline class="{css_class}" points="(.*?)"/>', chart)
    assert found is not None
    return [(float(x), float(y)) for x, y in (point.split(",") for point in found[1].split())]


def test_a_curve_fills_the_chart_with_its_highest_value_on_top():
    chart = curve_chart("loss", {"a": [(10, 2.0), (20, 4.0), (30, 3.0)]}, width=100, height=50)
    assert points_of(chart, "a") == [(0, 50), (50, 0), (100, 25)]
    assert 'viewBox="-2 -2 104 54"' in chart
    assert "<small>2 to 4</small>" in chart


def test_two_curves_share_their_axes():
    chart = curve_chart("loss", {"a": [(0, 0.0), (5, 1.0)], "b": [(5, 3.0), (10, 4.0)]},
                        width=100, height=40)  # fmt: skip
    assert points_of(chart, "a") == [(0, 40), (50, 30)]
    assert points_of(chart, "b") == [(50, 10), (100, 0)]


def test_a_marker_is_a_vertical_line_at_its_x():
    curves = {"a": [(0, 1.0), (10, 2.0)]}
    assert "<line " not in curve_chart("loss", curves)
    chart = curve_chart("loss", curves, marker=5, width=100, height=40)
    assert '<line x1="50.0" x2="50.0" y2="40"/>' in chart


def test_values_that_are_not_finite_are_left_out_and_keep_their_place_on_the_axis():
    curve = [(0, 1.0), (1, math.nan), (2, 2.0), (3, math.inf), (4, -math.inf)]
    chart = curve_chart("loss", {"a": curve}, width=100, height=40)
    assert points_of(chart, "a") == [(0, 40), (50, 0)]
    assert "nan" not in chart and "inf" not in chart
    chart = curve_chart("loss", {"a": [(0, math.nan)], "b": [(0, math.inf)]})
    assert "no finite values" in chart and "<svg" not in chart and "loss" in chart


def test_a_constant_curve_and_a_single_point_are_drawn():
    flat = curve_chart("loss", {"a": [(1, 5.0), (2, 5.0)]}, width=100, height=40)
    assert points_of(flat, "a") == [(0, 40), (100, 40)]
    single = curve_chart("loss", {"a": [(1, 5.0)], "b": []}, width=100, height=40)
    assert points_of(single, "a") == [(0, 40)] and points_of(single, "b") == []


def test_title_and_note_cannot_break_the_page():
    chart = curve_chart('<b>"{0}"', {"a": [(0, 1.0), (1, 2.0)]}, note="<i>last", digits=2)
    assert "<b>" not in chart and "<i>" not in chart
    assert 'aria-label="&lt;b&gt;&quot;{0}&quot;"' in chart
    assert "<small>1 to 2, &lt;i&gt;last</small>" in chart


def test_a_long_curve_is_thinned_and_keeps_its_peaks_and_its_order():
    curve = [(float(x), math.sin(x / 500)) for x in range(10_000)]
    curve[1234], curve[8765] = (1234.0, 50.0), (8765.0, -50.0)
    found = thinned(curve)
    assert 100 < len(found) <= MAX_POINTS
    assert (1234.0, 50.0) in found and (8765.0, -50.0) in found
    assert list(found) == sorted(found) and set(found) <= set(curve)
    assert len(points_of(curve_chart("loss", {"a": curve}), "a")) == len(found)


def test_a_short_curve_is_drawn_whole():
    curve = [(float(x), 0.0) for x in range(MAX_POINTS)]
    assert thinned(curve) == curve
