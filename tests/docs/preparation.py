"""The files that a page takes for granted, because its reader has brought them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import r2convert
from r2convert.catalog import load_catalog
from r2convert.checks.standins import write_random_checkpoint
from r2convert.mapping.tables import Tables
from tests.docs.examples import ROOT, blocks
from tests.docs.stage import Stage
from tests.published import VARIANTS

FIRST, V1B = VARIANTS


@dataclass(frozen=True)
class Preparation:
    """Makes the files of one page.

    Args:
        stage: where the page's examples run.
        tables: the tables of the catalogue.
    """

    stage: Stage
    tables: Tables

    def published(self, variant: str) -> Path:
        """The publisher's file of a variant."""
        return self.stage.published.mirror / self.tables.catalog.find(variant).sources[0].file_name

    def state(self, variant: str) -> dict[str, torch.Tensor]:
        """Its tensors."""
        return dict(torch.load(self.published(variant), weights_only=True))

    def save(self, content: object, name: str) -> None:
        """Save something with torch under the name that the page has for it."""
        torch.save(content, self.stage.folder / name)


def mm_file(make: Preparation) -> None:
    """``mm.pth``: the first variant, converted."""
    r2convert.map_checkpoint(make.published(FIRST), make.stage.folder / "mm.pth")


def own_files(make: Preparation) -> None:
    """``ours.pth``: fine-tuned on ten classes; ``other.pth``: a tensor is missing; ``theirs.pth``: of other names."""
    state = make.state(FIRST)
    other = {name: tensor for name, tensor in state.items() if name != "layer4.2.conv3.weight"}
    make.save(other, "other.pth")
    make.save({_theirs(name): tensor for name, tensor in state.items()}, "theirs.pth")
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:10].clone(), state["fc.bias"][:10].clone()
    make.save({"epoch": 90, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, "ours.pth")


def _theirs(name: str) -> str:
    """An official name as a code base that nobody has would write it."""
    module, _, tensor = name.rpartition(".")
    if not module.startswith("layer"):
        return f"{ {'conv1': 'entry.kernel', 'bn1': 'entry.norm', 'fc': 'exit'}[module] }/{tensor}"
    stage, block, part, *number = module.removeprefix("layer").split(".")
    words = {"conv1": "reduce", "bn1": "reduce.norm", "conv3": "expand", "bn3": "expand.norm"}
    if part in ("convs", "bns"):
        words[part] = f"branch{int(number[0]) + 1}" + (".norm" if part == "bns" else "")
    words["downsample"] = "skip" + (".norm" if number == ["1"] else "")
    return f"s{stage}/u{block}/{words[part]}/{tensor}"


def larger_network(make: Preparation) -> None:
    """``PraNet-19.pth``: a v1b backbone under a prefix, beside other layers."""
    backbone = {name: tensor for name, tensor in make.state(V1B).items() if not name.startswith("fc.")}
    others = {"rfb2_1.branch0.0.conv.weight": torch.zeros(32, 512, 1, 1), "agg1.conv5.weight": torch.zeros(1, 96, 1, 1)}
    make.save({**{f"resnet.{name}": tensor for name, tensor in backbone.items()}, **others}, "PraNet-19.pth")


def cached_v1b(make: Preparation) -> None:
    """The v1b file is in the cache."""
    cache = Path(make.stage.variables["R2CONVERT_CACHE"])
    cache.mkdir()
    make.stage.take(make.published(V1B), str(cache / make.published(V1B).name))


def laboratory_file(make: Preparation) -> None:
    """``ours.pth``: the network that the page describes in a variant file of its own."""
    page = ROOT / "docs" / "how-to" / "mapping-files.md"
    (lines,) = (block.lines for block in blocks(page) if any("<<'EOF'" in line for line in block.lines))
    begin = next(index for index, line in enumerate(lines) if "<<'EOF'" in line) + 1
    text = "\n".join(lines[begin : lines.index("EOF")])
    name = tomllib.loads(text)["id"]
    mappings = make.stage.folder.parent / "laboratory"
    (mappings / "architectures").mkdir(parents=True)
    (mappings / "architectures" / f"{name}.toml").write_text(text)
    tables = Tables(load_catalog({"R2CONVERT_MAPPINGS": str(mappings)}))
    write_random_checkpoint(tables, tables.catalog.find(name), make.stage.folder / "ours.pth")


PREPARATIONS: Mapping[str, Callable[[Preparation], None]] = {
    "docs/how-to/own-file.md": own_files,
    "docs/how-to/backbone.md": larger_network,
    "docs/how-to/report.md": mm_file,
    "docs/how-to/accuracy.md": mm_file,
    "docs/how-to/mapping-files.md": laboratory_file,
    "docs/reference/counting.md": mm_file,
    "docs/reference/json.md": mm_file,
    "docs/explanation/mmdet-pool.md": cached_v1b,
}
"""Page -> what it needs; a page that is not here makes everything itself."""
