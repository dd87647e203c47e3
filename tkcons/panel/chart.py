"""A line over time as SVG: its points alone; colours and texts are the page's."""

from collections.abc import Sequence

import msgspec

WIDTH, HEIGHT = 600, 100  # of the view box, which is stretched to the page's
HEADROOM = 1.05  # the highest point stays below the edge


class Chart(msgspec.Struct, frozen=True):
    """lines, areas: `points` of polylines and polygons, one for each stretch without a gap. last: None if not known now."""

    lines: list[str]
    areas: list[str]
    highest: float
    last: float | None
    width: int = WIDTH
    height: int = HEIGHT


def draw(values: Sequence[float | None]) -> Chart:
    """The line through these values, which are equally far apart in time; None is a gap."""
    highest = max((value for value in values if value is not None), default=0.0)
    scale = HEIGHT / (highest * HEADROOM or 1.0)
    step = WIDTH / max(1, len(values) - 1)
    stretches: list[list[tuple[float, float]]] = [[]]
    for number, value in enumerate(values):
        if value is not None:
            stretches[-1].append((number * step, HEIGHT - value * scale))
        elif stretches[-1]:
            stretches.append([])
    drawn = [_seen(stretch, step) for stretch in stretches if stretch]
    areas = [[(line[0][0], float(HEIGHT)), *line, (line[-1][0], float(HEIGHT))] for line in drawn]
    return Chart(list(map(_points, drawn)), list(map(_points, areas)), highest, values[-1] if values else None)


def _seen(stretch: list[tuple[float, float]], step: float) -> list[tuple[float, float]]:
    """A single point would be no line: it gets half a step to the left."""
    if len(stretch) > 1:
        return stretch
    x, y = stretch[0]
    return [(max(0.0, x - step / 2), y), (x, y)]


def _points(line: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
