"""Reading the recorded names and shapes."""

from __future__ import annotations

from pathlib import Path


def read_manifest(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor name -> shape, as recorded from a publisher's own implementation."""
    shapes = {}
    for line in path.read_text().splitlines():
        name, shape = line.split(" ")
        shapes[name] = () if shape == "scalar" else tuple(int(length) for length in shape.split("x"))
    return shapes


def recorded(data: Path) -> list[tuple[str, str, dict[str, tuple[int, ...]]]]:
    """Variant, layout and shapes of every recorded manifest."""
    found = []
    for path in sorted((data / "manifests").glob("*.txt")):
        variant, layout = path.stem.split(".")
        found.append((variant, layout, read_manifest(path)))
    return found
