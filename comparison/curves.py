"""A page with the curves of two runs, one file that needs nothing beside it."""

import html
import math
from collections.abc import Mapping, Sequence
from string import Template

WIDTH, HEIGHT = 320, 120
MAX_POINTS = 600  # points of a curve: more than there are pixels
Curve = Sequence[tuple[int, float]]
PAGE = Template("""\
<!doctype html><html lang="en"><meta charset="utf-8"><title>$title</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --one: #2563eb; --other: #e07b00; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
pre { overflow-x: auto; font-size: 13px; }
main { display: grid; gap: 1.5rem; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); }
figure { margin: 0; } svg { width: 100%; border: 1px solid #8884; }
polyline { fill: none; stroke-width: 1.5; } line { stroke: #c00; stroke-dasharray: 2 3; }
.one { stroke: var(--one); } .other { stroke: var(--other); stroke-dasharray: 5 3; }
b.one { color: var(--one); } b.other { color: var(--other); } small { opacity: .7; }
</style>
<h1>$title</h1><p><b class="one">$one</b> drawn through, <b class="other">$other</b> dashed; where they part
by more than rounding there is a red line.</p><pre>$report</pre><main>$figures</main></html>
""")


def page(
    one: str, other: str, report: str, curves: Mapping[str, tuple[Curve, Curve, int | None]]
) -> str:
    """Return HTML with a figure for each name: the two curves and the step at which they part, if any."""
    return PAGE.substitute(
        title="Was it repeated?",
        one=html.escape(one),
        other=html.escape(other),
        report=html.escape(report),
        figures="\n".join(_figure(name, *found) for name, found in curves.items()),
    )


def _figure(name: str, one: Curve, other: Curve, parts: int | None) -> str:
    points = [point for point in (*one, *other) if math.isfinite(point[1])]
    if not points:
        return f"<figure><figcaption>{html.escape(name)} <small>no number</small></figcaption></figure>"
    first, last = min(step for step, _ in points), max(step for step, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)

    def across(step: int) -> float:
        return (step - first) / max(last - first, 1) * WIDTH

    def drawn(curve: Curve, kind: str) -> str:
        thinned = curve[:: math.ceil(len(curve) / MAX_POINTS)] if curve else []
        places = " ".join(
            f"{across(step):.1f},{HEIGHT - (value - low) / ((high - low) or 1) * HEIGHT:.1f}"
            for step, value in thinned
            if math.isfinite(value)
        )
        return f'<polyline class="{kind}" points="{places}"/>'

    mark = (
        ""
        if parts is None
        else f'<line x1="{across(parts):.1f}" x2="{across(parts):.1f}" y2="{HEIGHT}"/>'
    )
    label = html.escape(name)
    return (
        f'<figure><svg viewBox="-2 -2 {WIDTH + 4} {HEIGHT + 4}" role="img" aria-label="{label}">'
        f"{drawn(one, 'one')}{drawn(other, 'other')}{mark}</svg><figcaption>{label} <small>{low:.4g} to "
        f"{high:.4g}, steps {first} to {last}</small></figcaption></figure>"
    )
