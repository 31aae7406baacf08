"""Puts labels beside their points: none covers another label or a point, and each is plainly that of its own point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import cos, hypot, pi, sin

Spot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; y points upwards."""

    left: float
    bottom: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Whether two have an area in common."""
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.bottom < other.bottom + other.height
            and other.bottom < self.bottom + self.height
        )

    def is_inside(self, other: Box) -> bool:
        """Whether it does not stick out of another."""
        return (
            other.left <= self.left
            and self.left + self.width <= other.left + other.width
            and other.bottom <= self.bottom
            and self.bottom + self.height <= other.bottom + other.height
        )

    def nearest_to(self, spot: Spot) -> Spot:
        """The point of it that is nearest to a spot."""
        x, y = spot
        return (
            min(max(x, self.left), self.left + self.width),
            min(max(y, self.bottom), self.bottom + self.height),
        )


@dataclass(frozen=True, slots=True)
class Label:
    """A label to be placed.

    Args:
        points: what it names; it is placed beside the first.
        width: of its text.
        height: of its text.
    """

    points: tuple[Spot, ...]
    width: float
    height: float

    @property
    def spot(self) -> Spot:
        """The point it is placed beside."""
        return self.points[0]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a label goes, and where the line to its point ends if it is too far off to do without one."""

    box: Box
    leader: Spot | None


_NEAREST, _STEP, _FARTHEST = 9, 6, 140
_DIRECTIONS = 24
_WITHOUT_LEADER = 12
_APART = 16
_CLEARANCE = 6
_MISLEADING, _CROSSING = 80, 40
_NO_PLACE = 1_000.0
_ROUNDS = 3


def place_labels(labels: Sequence[Label], obstacles: Sequence[Box], room: Box) -> list[Place | None]:
    """Where to put each label: near to its point, away from others' points, to the right if all else is equal.

    Args:
        labels: all of them.
        obstacles: what must not be covered.
        room: what must not be left.

    Returns:
        A place for each, or ``None`` where there is none.
    """
    # Who chooses first decides much: the best outcome of several orders counts, the first of equals.
    rows = range(len(labels))
    orders = [sorted(rows, key=key) for key in (lambda row: -labels[row].spot[1], lambda row: labels[row].spot[1])]
    orders += [sorted(rows, key=key) for key in (lambda row: -labels[row].spot[0], lambda row: labels[row].spot[0])]
    outcomes = [_place_in_order(order, labels, obstacles, room) for order in orders]
    return min(outcomes, key=lambda outcome: outcome[0])[1]


def _place_in_order(
    order: Sequence[int], labels: Sequence[Label], obstacles: Sequence[Box], room: Box
) -> tuple[float, list[Place | None]]:
    """Have labels choose one after the other and, having seen what others chose, again; with what it all costs."""
    places: list[Place | None] = [None] * len(labels)
    costs = [0.0] * len(labels)
    for _ in range(_ROUNDS):
        for row in order:
            others = [(other, place) for at, (other, place) in enumerate(zip(labels, places, strict=True)) if at != row]
            costs[row], places[row] = _best_place(labels[row], others, obstacles, room)
    return sum(costs), places


def _best_place(
    label: Label, others: Sequence[tuple[Label, Place | None]], obstacles: Sequence[Box], room: Box
) -> tuple[float, Place | None]:
    taken = [*obstacles, *(place.box for _, place in others if place is not None)]
    best, least = None, _NO_PLACE
    for distance, box in _candidates(label, room):
        if distance >= least:
            break  # no place further out costs less
        if not box.is_inside(room) or any(box.overlaps(other) for other in taken):
            continue
        cost = distance + _penalty(label, box, others)
        if cost < least:
            best, least = box, cost
    return least, None if best is None else Place(best, _leader(label, best))


def _candidates(label: Label, room: Box) -> Iterator[tuple[float, Box]]:
    """Places around the point, nearest first, each distance from right to left; moved into the room."""
    rightmost = room.left + room.width - label.width
    for distance in range(_NEAREST, _FARTHEST, _STEP):
        for step in range(_DIRECTIONS + 1):
            # 0, then one to either side in turn, up to half a turn.
            angle = (step + 1) // 2 * (1 if step % 2 else -1) * 2 * pi / _DIRECTIONS
            x, y = label.spot[0] + distance * cos(angle), label.spot[1] + distance * sin(angle)
            # The label touches that spot with the side or corner that faces the point.
            left = min(max(x - label.width * (1 - cos(angle)) / 2, room.left), rightmost)
            yield distance, Box(left, y - label.height * (1 - sin(angle)) / 2, label.width, label.height)


def _leader(label: Label, box: Box) -> Spot | None:
    end = box.nearest_to(label.spot)
    return end if _distance(end, label.spot) > _WITHOUT_LEADER else None


def _penalty(label: Label, box: Box, others: Sequence[tuple[Label, Place | None]]) -> float:
    """What makes a place worse than one that is so many pixels further out."""
    end, leader = box.nearest_to(label.spot), _leader(label, box)
    cost, own = 0.0, _distance(end, label.spot)
    for other, place in others:
        for point in other.points:
            gap = _distance(box.nearest_to(point), point)
            cost += _MISLEADING * (gap < (_APART if leader else own + _CLEARANCE))
            cost += _MISLEADING * (leader is not None and _distance_to_line(point, label.spot, end) < _CLEARANCE)
        if place is not None and leader is not None:
            cost += _CROSSING * _crosses_box(label.spot, leader, place.box)
        if place is not None and place.leader is not None:
            cost += _CROSSING * _crosses_box(other.spot, place.leader, box)
            cost += _CROSSING * (leader is not None and _cross(label.spot, leader, other.spot, place.leader))
    return cost


def _crosses_box(start: Spot, end: Spot, box: Box) -> bool:
    """Whether a line passes through a rectangle, told from its two diagonals."""
    right, top = box.left + box.width, box.bottom + box.height
    rising = _cross(start, end, (box.left, box.bottom), (right, top))
    return rising or _cross(start, end, (box.left, top), (right, box.bottom))


def _distance(one: Spot, other: Spot) -> float:
    return hypot(one[0] - other[0], one[1] - other[1])


def _distance_to_line(spot: Spot, start: Spot, end: Spot) -> float:
    """Distance from a spot to the line between two others."""
    along = (end[0] - start[0], end[1] - start[1])
    length = along[0] ** 2 + along[1] ** 2 or 1.0
    share = ((spot[0] - start[0]) * along[0] + (spot[1] - start[1]) * along[1]) / length
    share = min(max(share, 0.0), 1.0)
    return _distance(spot, (start[0] + share * along[0], start[1] + share * along[1]))


def _cross(a: Spot, b: Spot, c: Spot, d: Spot) -> bool:
    """Whether the line from a to b crosses that from c to d."""
    return _side(a, b, c) != _side(a, b, d) and _side(c, d, a) != _side(c, d, b)


def _side(a: Spot, b: Spot, c: Spot) -> bool:
    return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])
