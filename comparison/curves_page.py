"""Write the logged curves of two runs as one self-contained HTML page."""

import html
from collections.abc import Mapping
from string import Template

from common.curve_charts import Curve, curve_chart

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
<h1>$title</h1><p>Solid: <b class="one">$one</b>. Dashed: <b class="other">$other</b>. A red line
marks the first step at which the two differ by more than rounding.</p>
<pre>$report</pre><main>$charts</main></html>
""")


def curves_page(
    one: str, other: str, report: str, curves: Mapping[str, tuple[Curve, Curve, int | None]]
) -> str:
    """Return an HTML page with the report and a chart for each logged value of two runs.

    `one` and `other` are the names of the runs; `curves` maps the name of a value to its curve in
    each run and the first step at which they differ by more than rounding, or None.
    """
    charts = []
    for name, (first, second, difference) in curves.items():
        steps = [step for step, _ in (*first, *second)]
        note = f"steps {min(steps)} to {max(steps)}"
        charts.append(curve_chart(name, {"one": first, "other": second}, note, difference))
    return PAGE.substitute(
        title="Are these runs equal?",
        one=html.escape(one),
        other=html.escape(other),
        report=html.escape(report),
        charts="\n".join(charts),
    )
