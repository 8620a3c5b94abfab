"""Figures as pictures: bars and curves in SVG, which are read on light and on dark pages. Must not know what is measured."""

import math
from xml.sax.saxutils import escape

STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px; fill: #59636e }
.line { stroke: #d1d9e0; fill: none }
.spread { stroke: #1f2328 } .ours { fill: #0969da } .other { fill: #8c959f }
.curve0 { stroke: #0969da; fill: none; stroke-width: 2 } .dot0 { fill: #0969da }
.curve1 { stroke: #bc4c00; fill: none; stroke-width: 2 } .dot1 { fill: #bc4c00 }
.curve2 { stroke: #1a7f37; fill: none; stroke-width: 2 } .dot2 { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .small { fill: #9198a1 } .line { stroke: #3d444d }
.spread { stroke: #f0f6fc } .ours { fill: #4493f8 } .other { fill: #656c76 }
.curve0 { stroke: #4493f8 } .dot0 { fill: #4493f8 } .curve1 { stroke: #db6d28 } .dot1 { fill: #db6d28 }
.curve2 { stroke: #3fb950 } .dot2 { fill: #3fb950 }
}
</style>"""


def short(value):
    """A number as people say it."""
    if value == 0 or value >= 1_000_000:
        return f"{value / 1e6:g}M" if value else "0"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def round_step(most):
    """A quarter of an axis that ends at or above `most`, as people count."""
    ten = 10 ** math.floor(math.log10(most / 4))
    return next(step * ten for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * ten * 4 >= most)


def picture(width, height, title, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img"><title>{escape(title)}</title>')
    return "\n".join([head, STYLE, *parts, "</svg>", ""])


def bars(title, unit, values):
    """One bar for each name; `values` are a value, and the least and the most that was seen. The first is ours."""
    left, right, step = 120, 130, 30
    width, height = 760, 44 + step * len(values)
    most = max(high for _, _, high in values.values())
    parts = [f'<text x="0" y="16">{escape(title)}, {escape(unit)}</text>']
    for number, (name, (value, low, high)) in enumerate(values.items()):
        top = 34 + number * step
        at = lambda amount: left + (width - left - right) * amount / most
        middle = top + 9
        parts += [
            f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{"other" if number else "ours"}" x="{left}" y="{top}" width="{max(at(value) - left, 1):.1f}" height="18"/>',
            f'<path class="spread" d="M{at(low):.1f} {middle}H{at(high):.1f}"/>',
            f'<text x="{at(high) + 8:.1f}" y="{top + 14}">{short(value)}</text>',
        ]
    return picture(width, height, title, parts)


def times(title, across, line):
    """One curve over time."""
    return curves(title, across, "", {title: line}, is_log=False)


def curves(title, across, up, series, is_log=True):
    """Curves over a logarithmic axis, unless over time; `series` are lists of (x, y, least, most) by name. The upper axis
    begins at 0."""
    left, right, top, bottom, width, height = 70, 20, 50, 44, 760, 340
    points = [point for own in series.values() for point in own]
    scale = (lambda value: math.log10(max(value, 1))) if is_log else float
    first, last = (scale(end) for end in (min(p[0] for p in points), max(p[0] for p in points)))
    step = round_step(max(point[3] for point in points) or 1)
    most = 4 * step
    x = lambda value: left + (width - left - right) * ((scale(value) - first) / ((last - first) or 1))
    y = lambda value: height - bottom - (height - top - bottom) * value / most
    parts = [f'<text x="0" y="16">{escape(title)}</text>', f'<text class="small" x="0" y="{top - 12}">{escape(up)}</text>']
    for part in range(5):
        value = step * part
        parts += [f'<path class="line" d="M{left} {y(value):.1f}H{width - right}"/>',
                  f'<text class="small" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{short(value)}</text>']
    marks = sorted({point[0] for point in points}) if is_log else [first + (last - first) * n / 5 for n in range(6)]
    for value in marks:
        parts.append(f'<text class="small" x="{x(value):.1f}" y="{height - bottom + 16}" text-anchor="middle">{short(value)}</text>')
    parts.append(f'<text class="small" x="{(left + width) / 2}" y="{height - 6}" text-anchor="middle">{escape(across)}</text>')
    for number, (name, own) in enumerate(series.items()):
        line = " ".join(f"{'L' if n else 'M'}{x(p[0]):.1f} {y(p[1]):.1f}" for n, p in enumerate(own))
        parts.append(f'<path class="curve{number % 3}" d="{line}"/>')
        for at, value, low, high in own:
            parts += [f'<path class="curve{number % 3}" d="M{x(at):.1f} {y(low):.1f}V{y(high):.1f}"/>',
                      f'<circle class="dot{number % 3}" cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.5"/>']
        parts.append(f'<circle class="dot{number % 3}" cx="{200 + number * 180}" cy="{top - 16}" r="4"/>'
                     f'<text class="small" x="{210 + number * 180}" y="{top - 12}">{escape(name)}</text>')
    return picture(width, height, title, parts)
