"""Draw curves as small SVG line charts for HTML pages."""

import html
import math
from collections.abc import Mapping, Sequence

MAX_POINTS = 600  # of one drawn line: about two for each pixel of a chart

Curve = Sequence[tuple[float, float]]
"""Points (x, y) in ascending order of x, such as step and loss."""


def curve_chart(
    title: str, curves: Mapping[str, Curve], note: str = "", marker: float | None = None,
    width: int = 320, height: int = 120, digits: int = 4,
) -> str:  # fmt: skip
    """Return an HTML figure: the curves on common axes, with the title and range of y below.

    `curves` maps the CSS class of a line to its points; at least one has a point. Points whose y is
    NaN or infinite are not drawn; where no y is finite, the figure is its caption alone. `marker`
    is the x of a vertical line. `width` and `height` are in units of the SVG; `digits` is the
    number of significant digits of the range, which `note` follows. Title and note may be any text.
    """
    label = html.escape(title)
    values = [y for curve in curves.values() for _, y in curve if math.isfinite(y)]
    if not values:
        return f"<figure><figcaption>{label} <small>no finite values</small></figcaption></figure>"
    positions = [x for curve in curves.values() for x, _ in curve]
    left, bottom = min(positions), min(values)
    x_scale = width / ((max(positions) - left) or 1)
    y_scale = height / ((max(values) - bottom) or 1)
    lines = []
    for css_class, curve in curves.items():
        points = " ".join(
            f"{(x - left) * x_scale:.1f},{height - (y - bottom) * y_scale:.1f}"
            for x, y in thinned([point for point in curve if math.isfinite(point[1])])
        )
        lines.append(f'<polyline class="{css_class}" points="{points}"/>')
    if marker is not None:
        x = (marker - left) * x_scale
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y2="{height}"/>')
    y_range = f"{bottom:.{digits}g} to {max(values):.{digits}g}"
    details = f"{y_range}, {html.escape(note)}" if note else y_range
    return (
        f'<figure><svg viewBox="-2 -2 {width + 4} {height + 4}" role="img" aria-label="{label}">'
        f"{''.join(lines)}</svg><figcaption>{label} <small>{details}</small></figcaption></figure>"
    )


def thinned(curve: Curve, max_points: int = MAX_POINTS) -> Curve:
    """Return at most `max_points` points (an even number) of a curve, its peaks among them.

    A long curve is cut into parts of equal length; the lowest and the highest point of each remain.
    """
    if len(curve) <= max_points:
        return curve
    length = math.ceil(len(curve) / (max_points // 2))
    points = []
    for start in range(0, len(curve), length):
        part = range(start, min(start + length, len(curve)))
        extremes = {min(part, key=lambda i: curve[i][1]), max(part, key=lambda i: curve[i][1])}
        points += [curve[i] for i in sorted(extremes)]
    return points
