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
    """A label to be placed: where its point is, and the size of its text."""

    x: float
    y: float
    width: float
    height: float

    @property
    def spot(self) -> Spot:
        """Its point."""
        return self.x, self.y


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
_ROUNDS = 3


def place_labels(
    labels: Sequence[Label], points: Sequence[Spot], obstacles: Sequence[Box], room: Box
) -> list[Place | None]:
    """Where to put each label: near to its point, away from others' points, to the right if all else is equal.

    Args:
        labels: in the order in which they choose; having seen what the others chose, each may choose again.
        points: every point of the chart, those of the labels included.
        obstacles: what must not be covered.
        room: what must not be left.

    Returns:
        A place for each, or ``None`` where there is none.
    """
    places: list[Place | None] = [None] * len(labels)
    for _ in range(_ROUNDS):
        for index, label in enumerate(labels):
            others = [
                (other.spot, place)
                for at, (other, place) in enumerate(zip(labels, places, strict=True))
                if at != index and place is not None
            ]
            places[index] = _best_place(label, points, others, obstacles, room)
    return places


def _best_place(
    label: Label, points: Sequence[Spot], others: Sequence[tuple[Spot, Place]], obstacles: Sequence[Box], room: Box
) -> Place | None:
    taken = [*obstacles, *(place.box for _, place in others)]
    points = [point for point in points if _distance(point, label.spot) > 1]
    best, least = None, float("inf")
    for distance, box in _candidates(label, room):
        if distance >= least:
            break  # no place further out costs less
        if not box.is_inside(room) or any(box.overlaps(other) for other in taken):
            continue
        cost = distance + _penalty(label, box, points, others)
        if cost < least:
            best, least = box, cost
    return None if best is None else Place(best, _leader(label, best))


def _candidates(label: Label, room: Box) -> Iterator[tuple[float, Box]]:
    """Places around the point, nearest first, each distance from right to left; moved into the room."""
    rightmost = room.left + room.width - label.width
    for distance in range(_NEAREST, _FARTHEST, _STEP):
        for step in range(_DIRECTIONS + 1):
            # 0, then one to either side in turn, up to half a turn.
            angle = (step + 1) // 2 * (1 if step % 2 else -1) * 2 * pi / _DIRECTIONS
            x, y = label.x + distance * cos(angle), label.y + distance * sin(angle)
            # The label touches that spot with the side or corner that faces the point.
            left = min(max(x - label.width * (1 - cos(angle)) / 2, room.left), rightmost)
            yield distance, Box(left, y - label.height * (1 - sin(angle)) / 2, label.width, label.height)


def _leader(label: Label, box: Box) -> Spot | None:
    end = box.nearest_to(label.spot)
    return end if _distance(end, label.spot) > _WITHOUT_LEADER else None


def _penalty(label: Label, box: Box, points: Sequence[Spot], others: Sequence[tuple[Spot, Place]]) -> float:
    """What makes a place worse than one that is so many pixels further out."""
    end, leader = box.nearest_to(label.spot), _leader(label, box)
    cost, own = 0.0, _distance(end, label.spot)
    for other in points:
        gap = _distance(box.nearest_to(other), other)
        cost += _MISLEADING * (gap < (_APART if leader else own + _CLEARANCE))
        cost += _CROSSING * (leader is not None and _distance_to_line(other, label.spot, end) < _CLEARANCE)
    for spot, place in others:
        if leader is not None:
            cost += _CROSSING * _crosses_box(label.spot, leader, place.box)
        if place.leader is not None:
            cost += _CROSSING * _crosses_box(spot, place.leader, box)
            cost += _CROSSING * (leader is not None and _cross(label.spot, leader, spot, place.leader))
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
