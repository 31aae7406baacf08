"""Every variant in every layout, verified without running it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from r2convert.checks.run import Request, verify_checkpoints
from r2convert.mapping.tables import Expansion, Tables
from tests.conftest import DATA

NAMES = sorted(json.loads((DATA / "measured.json").read_text()))
DEVIATING = {"res2net50_w26_s4", "res2next_dla60_w4_s4_c8", "res2net200_vd_w26_s4"}


def quick_state_dict(expansion: Expansion, layout: str) -> Mapping[str, Tensor]:
    """A layout's names and shapes with a few positive values over and over, in half precision: written in no time."""
    values = np.linspace(0.5, 1.5, 997, dtype=np.float16)
    return {
        name: torch.tensor(1)
        if slot.is_counter
        else torch.from_numpy(np.resize(values, expansion.shape_in(layout, slot)))
        for name, slot in expansion.names(layout).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_layout_gets_the_same_verdict(tables: Tables, tmp_path: Path, name: str) -> None:
    found = tables.catalog.find(name)
    expansion = tables.of(found)
    verdicts = set()
    for layout in expansion.table.layouts:
        path = tmp_path / f"{layout}.pth"
        torch.save(quick_state_dict(expansion, layout), path)
        presumed, proven = verify_checkpoints(tables, [Request(path), Request(path, found)])
        path.unlink()
        # Names alone leave open which of the networks with these names it is, and that is no failure.
        assert found.id in presumed.architectures
        assert presumed.verdict != "fail", (layout, presumed.checks)
        assert proven.variant == found.id
        assert proven.layout is not None
        # Where two layouts have the same names, either may be said.
        assert expansion.names(proven.layout).keys() == expansion.names(layout).keys()
        assert proven.verdict == ("known-deviation" if found.id in DEVIATING else "pass"), (layout, proven.checks)
        verdicts.add(tuple((check.source, check.metric, check.verdict) for check in proven.checks if check.source))
    assert len(verdicts) == 1
