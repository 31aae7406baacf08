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
    expansion = tables.of(tables.catalog.find(name))
    verdicts = set()
    for layout in expansion.table.layouts:
        path = tmp_path / f"{layout}.pth"
        torch.save(quick_state_dict(expansion, layout), path)
        (result,) = verify_checkpoints(tables, [Request(path)])
        path.unlink()
        assert result.variant == name
        assert result.layout is not None
        # Where two layouts have the same names, either may be said.
        assert expansion.names(result.layout).keys() == expansion.names(layout).keys()
        assert result.verdict == ("known-deviation" if name in DEVIATING else "pass"), (layout, result.checks)
        verdicts.add(tuple((check.source, check.metric, check.verdict) for check in result.checks if check.source))
    assert len(verdicts) == 1
