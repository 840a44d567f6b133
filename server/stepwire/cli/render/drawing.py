"""A workflow's graph as a page for a browser: steps in layers from left to right, events as arrows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from stepwire.client import EventRole, WorkflowInfo

__all__ = ["graph_page"]

_WIDTH, _HEIGHT = 180, 44
_GAP_X, _GAP_Y, _PAD = 130, 34, 20
"""Pixels."""
_STYLE: Final = """
body { font: 14px system-ui, sans-serif; margin: 24px; color: #1a1f29; background: #fff; }
h1 { font-size: 20px; } p { color: #566072; }
rect { fill: #f6f7f9; stroke: #566072; } .outside rect { fill: none; stroke-dasharray: 4 3; }
.question rect { fill: #fdf0d5; stroke: #7d4c00; } text { text-anchor: middle; }
.label { font-size: 12px; fill: #566072; }
path { fill: none; stroke: #566072; } marker path { fill: #566072; }
"""


class _Arrow(NamedTuple):
    source: str
    target: str
    label: str


def graph_page(info: WorkflowInfo) -> str:
    """Return a page that holds the graph and needs nothing else: no script, no network."""
    roles = {item.name: item.role for item in info.types}
    steps = {f"s {step.name}": step.name for step in info.steps}
    outside: dict[str, str] = {}
    arrows: dict[_Arrow, None] = {}
    for edge in info.edges:
        source, target = f"s {edge.source}", f"s {edge.target}"
        if not edge.source:  # what comes from outside is a node, and so is what leaves
            source = f"< {edge.event_type}"
            outside[source] = edge.event_type
        if not edge.target:
            target = f"> {edge.event_type}"
            outside[target] = edge.event_type
        arrows[_Arrow(source, target, edge.event_type if edge.source and edge.target else "")] = None
    layers = _layers([*steps, *outside], list(arrows))
    places = {
        node: (_PAD + column * (_WIDTH + _GAP_X), _PAD + row * (_HEIGHT + _GAP_Y))
        for column, layer in enumerate(layers)
        for row, node in enumerate(layer)
    }
    width = 2 * _PAD + len(layers) * (_WIDTH + _GAP_X)
    height = 3 * _PAD + max(map(len, layers), default=1) * (_HEIGHT + _GAP_Y)
    asked = (EventRole.INPUT_REQUIRED, EventRole.HUMAN_RESPONSE)
    boxes = [_box(places[node], name, "step", 6) for node, name in steps.items()]
    boxes += [
        _box(places[node], name, "question" if roles.get(name) in asked else "outside", 22)
        for node, name in outside.items()
    ]
    lines = [_line(places, arrow) for arrow in arrows]
    title = escape(info.name)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{escape(info.description)}</p>"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img" aria-label="Graph">'
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z"/></marker></defs>{"".join(lines)}{"".join(boxes)}</svg></html>\n'
    )


def _layers(nodes: Sequence[str], arrows: Sequence[_Arrow]) -> list[list[str]]:
    """Order nodes into layers: each stands right of those that lead to it, except over arrows that close a circle."""
    after: dict[str, list[str]] = {node: [] for node in nodes}
    before: dict[str, int] = dict.fromkeys(nodes, 0)
    for arrow in arrows:
        if arrow.source != arrow.target:
            after[arrow.source].append(arrow.target)
            before[arrow.target] += 1
    depth: dict[str, int] = {}
    left = dict.fromkeys(nodes)
    while left:
        # A node that nothing open leads to; in a circle the one with the fewest.
        node = min(left, key=lambda each: (before[each], not each.startswith("<")))
        del left[node]
        depth.setdefault(node, 0)
        for target in after[node]:
            before[target] -= 1
            if target in left:
                depth[target] = max(depth.get(target, 0), depth[node] + 1)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in nodes:
        layers[depth[node]].append(node)
    return layers


def _box(place: tuple[int, int], name: str, kind: str, radius: int) -> str:
    x, y = place
    shown = escape(name if len(name) <= 24 else f"{name[:23]}…")
    return (
        f'<g class="{kind}"><title>{escape(name)}</title><rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}"'
        f' rx="{radius}"/><text x="{x + _WIDTH // 2}" y="{y + _HEIGHT // 2 + 5}">{shown}</text></g>'
    )


def _line(places: Mapping[str, tuple[int, int]], arrow: _Arrow) -> str:
    (from_x, from_y), (to_x, to_y) = places[arrow.source], places[arrow.target]
    if to_x > from_x:
        start, end = (from_x + _WIDTH, from_y + _HEIGHT // 2), (to_x, to_y + _HEIGHT // 2)
        bend = _GAP_X // 2
        path = f"M{start[0]},{start[1]} C{start[0] + bend},{start[1]} {end[0] - bend},{end[1]} {end[0]},{end[1]}"
        middle = ((start[0] + end[0]) // 2, (start[1] + end[1]) // 2 - 6)
    else:
        low = max(from_y, to_y) + _HEIGHT + 26
        start, end = (from_x + _WIDTH // 2, from_y + _HEIGHT), (to_x + _WIDTH // 2 + 12, to_y + _HEIGHT)
        path = f"M{start[0]},{start[1]} C{start[0]},{low} {end[0]},{low} {end[0]},{end[1]}"
        middle = ((start[0] + end[0]) // 2, low - 2)
    label = f'<text class="label" x="{middle[0]}" y="{middle[1]}">{escape(arrow.label)}</text>' if arrow.label else ""
    return f'<path d="{path}" marker-end="url(#a)"/>{label}'
