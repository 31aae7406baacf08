"""Stand-ins for what cannot be shipped: a checkpoint without training, and images whose answer is known.

They have the names, shapes, containers and layouts of the real ones, and go through the same code.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from r2convert.catalog.variant import Variant
from r2convert.checkpoint.open import open_checkpoint
from r2convert.evaluation.backends import computing_in, normalise
from r2convert.imagenet.preprocessing import Crop
from r2convert.imagenet.standin import StandInSet, write_standin_set
from r2convert.mapping.identity import resolve
from r2convert.mapping.tables import Expansion, Tables
from r2convert.models.build import load_network
from r2convert.models.standin import standin_values


def standin_state_dict(
    expansion: Expansion, layout: str, *, dtype: torch.dtype = torch.float32, seed: int = 0
) -> OrderedDict[str, Tensor]:
    """A state dict with a layout's names and shapes and drawn weights, in the table's order."""
    state: OrderedDict[str, Tensor] = OrderedDict()
    for name, slot in expansion.names(layout).items():
        transposed = expansion.form_in(layout, slot) == "transposed"
        values = standin_values(name, slot.role, expansion.shape_in(layout, slot), transposed=transposed, seed=seed)
        tensor = torch.from_numpy(values)
        state[name] = tensor if slot.is_counter else tensor.to(dtype)
    return state


def write_standin_checkpoint(
    tables: Tables, variant: Variant, path: Path, *, layout: str = "official", legacy: bool = False, seed: int = 0
) -> None:
    """Write a stand-in with torch itself.

    Args:
        tables: the tables of the catalogue.
        variant: which network.
        path: where to write.
        layout: whose names it gets.
        legacy: as torch wrote files before 1.6, instead of as a zip.
        seed: another seed gives another network.
    """
    state = standin_state_dict(tables.of(variant), layout, seed=seed)
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)


def write_images_for(
    tables: Tables, checkpoint: Path, folder: Path, *, images: int, top1_correct: int, top5_correct: int
) -> StandInSet:
    """Write class folders of drawn pictures on which a checkpoint's score is known by construction.

    Args:
        tables: the tables of the catalogue.
        checkpoint: whose ranking of the classes gives each picture its label.
        folder: where to write the class folders.
        images: how many pictures.
        top1_correct: how many get the class ranked first as their label.
        top5_correct: how many get one of the first five, the former included.

    Raises:
        InputError: the checkpoint cannot be read.
        AccessError: the folder cannot be written.
    """
    with open_checkpoint(checkpoint) as opened:
        network = load_network(opened, resolve(tables, opened))

    def rank(crops: Crop) -> npt.NDArray[np.floating]:
        with computing_in("strict", torch.device("cpu")), torch.inference_mode():
            logits: npt.NDArray[np.floating] = network(normalise(torch.from_numpy(crops))).numpy()
        return logits

    return write_standin_set(folder, rank, images=images, top1_correct=top1_correct, top5_correct=top5_correct)
