"""Points and lines of the studio's charts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from headgate.portal.core import Live

MINUTE_S = 60
Values = tuple[tuple[str, Callable[[Live], float | None]], ...]
"""Names of figures, and how each is taken of what a deployment did."""


def points(
    rows: Mapping[str, Iterable[Live]], values: Values
) -> dict[str, list[tuple[int, float | None]]]:
    """(milliseconds, figure) by line: one for each deployment and figure, also where there is
    nothing new."""
    return {
        f"{deployment} {name}".strip(): [
            (round(1000 * row.at), None if (figure := value(row)) is None else round(figure, 3))
            for row in series
        ]
        for deployment, series in rows.items()
        for name, value in values
    }


def metric_lines(
    told: Iterable[Mapping[str, Any]], figure: str
) -> dict[str, list[list[float | None]]]:
    """Metrics of the gateway as lines over time (milliseconds), by what they are split by.

    A minute without a value is unknown, not zero: the line has a gap there.
    """
    lines: dict[str, list[list[float | None]]] = {}
    for metric in told:
        for series in metric.get("timeseries") or ():
            split = [str(each["value"]) for each in series.get("metadatavalues") or ()]
            points = lines.setdefault(" ".join(split) or str(metric["name"]["value"]), [])
            before = None
            for point in series.get("data") or ():
                if point.get(figure) is None:
                    continue
                at = datetime.fromisoformat(point["timeStamp"]).timestamp()
                if before is not None and at - before > MINUTE_S:
                    points.append([1000 * (before + MINUTE_S), None])
                points.append([1000 * at, point[figure]])
                before = at
    return lines


def aligned(lines: Mapping[str, list[list[float | None]]]) -> dict[str, list[list[float]]]:
    """Parts of one count on the same moments: where another part is known, a missing one is 0."""
    known = {name: {at: value for at, value in points if value} for name, points in lines.items()}
    moments = sorted({at for values in known.values() for at in values if at is not None})
    return {name: [[at, of.get(at) or 0.0] for at in moments] for name, of in known.items()}
