"""What a drawn figure shows where, for the report: points under the pointer, and lines that can be hidden."""

import re
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from dpft.analysis.style import Look, others


def hover_points(figure: Figure) -> list[dict[str, Any]]:
    """For each panel its title, axes and series of points.

    A point is [left, top, x, y]: its place as shares of the figure's width and height, and its values as text.
    """
    labels = {kind: [getattr(axis, f"get_{kind}label")() for axis in figure.axes] for kind in "xy"}
    shared = {kind: next(filter(None, found), kind) for kind, found in labels.items()}  # only outer panels are labelled
    return [
        {"title": axis.get_title(), "x": x or shared["x"], "y": y or shared["y"], "series": _series(axis)}
        for axis, x, y in zip(figure.axes, labels["x"], labels["y"], strict=True)
    ]


def _series(axis: Axes) -> list[dict[str, Any]]:
    """Lines and dots of an axis that stand at values, not at shares of the axis as its dashed levels do."""
    drawn: list[tuple[Artist, np.ndarray]] = [
        (line, np.asarray(line.get_xydata(), float))
        for line in axis.get_lines()
        if line.get_transform().contains_branch(axis.transData)
    ]
    drawn += [
        (dots, np.asarray(dots.get_offsets(), float)) for dots in axis.collections if isinstance(dots, PathCollection)
    ]
    found = []
    for artist, values in drawn:
        values = values[np.isfinite(values).all(axis=1)]
        places = axis.transData.transform(values)
        inside = [axis.bbox.padded(1).contains(*place) for place in places]
        shares = places / axis.figure.bbox.size
        label = str(artist.get_label())
        points = [
            [round(float(left), 5), round(float(1 - up), 5), _text(x), _text(y)]
            for (left, up), (x, y), seen in zip(shares, values, inside, strict=True)
            if seen
        ]
        if points:
            found.append({"name": artist.get_gid() or ("" if label.startswith("_") else label), "points": points})
    return found


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def toggles(figure: Figure, look: Look) -> list[dict[str, Any]]:
    """What a reader may hide: label, colour and the ids of its lines in the SVG; of many settings the others as one."""
    grey = others(look)
    found: dict[str, dict[str, Any]] = {}
    for axis in figure.axes:
        for line in axis.get_lines():
            if gid := line.get_gid():
                name = re.sub(r", seed -?\d+$", "", gid)
                label = "other settings" if name in grey else name
                entry = found.setdefault(label, {"label": label, "colour": to_hex(line.get_color()), "ids": {}})
                entry["ids"] |= {gid: None, name: None}
    order = {label: i for i, label in enumerate([*look, "other settings"])}
    entries = sorted(found.values(), key=lambda entry: order.get(entry["label"], len(order)))
    return [entry | {"ids": list(entry["ids"])} for entry in entries] if len(entries) > 1 else []
