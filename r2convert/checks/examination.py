"""Everything that is checked of one file without a labelled image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from r2convert.catalog.variant import IMAGENET_CLASSES, Variant
from r2convert.checkpoint.open import Checkpoint, open_checkpoint
from r2convert.checks.accuracy_claims import Origin, origin_of
from r2convert.checks.checks import Check
from r2convert.checks.counting import IMAGENET_INPUT, require_input_size
from r2convert.checks.parity import ParityResult, parity_check, run_parity
from r2convert.checks.peers import Peer
from r2convert.checks.pictures import Pictures
from r2convert.checks.receipts import receipt_check
from r2convert.checks.results import CheckpointResult
from r2convert.checks.static import file_checks, file_numbers
from r2convert.checks.wiring_check import WiringResult, run_wiring, wiring_check
from r2convert.errors import MappingError
from r2convert.mapping.conversion import content_hash_of
from r2convert.mapping.identity import Resolution, resolve
from r2convert.mapping.receipt import Receipt, read_receipt
from r2convert.mapping.tables import Tables
from r2convert.models.blocks import Classifier
from r2convert.models.build import load_network


@dataclass(frozen=True, slots=True)
class Request:
    """A checkpoint to verify.

    Args:
        path: the file.
        variant: what it is said to hold, if anything.
        layout: whose names it is said to have, if anything.
        key: which of several state dicts in it.
        prefix: only the tensors under this prefix.
    """

    path: Path
    variant: Variant | None = None
    layout: str | None = None
    key: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Probes:
    """What to do with every network besides reading its file.

    Args:
        input_size: height and width of the image to count operations for.
        wiring: pictures for the wiring check.
        peer: an independent implementation to compare with.
        device: where the wiring check runs.
    """

    input_size: tuple[int, int] = IMAGENET_INPUT
    wiring: Pictures | None = None
    peer: Peer | None = None
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class Examined:
    """One file, examined.

    Args:
        variant: which network.
        result: what was found so far.
        origin: whose file it is.
        network: the network with its weights, if it was asked for.
    """

    variant: Variant
    result: CheckpointResult
    origin: Origin
    network: Classifier | None

    def require_network(self) -> Classifier:
        """The network, for a caller who asked for it."""
        assert self.network is not None  # noqa: S101 - loaded whenever there are images
        return self.network


def examine(tables: Tables, request: Request, probes: Probes, *, load: bool) -> Examined:
    """Check one file.

    Args:
        tables: the tables of the catalogue.
        request: the file and what is said of it.
        probes: what to do with its network.
        load: keep the network, to be measured on ImageNet.

    Raises:
        InputError: the file cannot be read, is none of the known networks, or cannot be measured on ImageNet.
        AccessError: the file is not there.
        UsageError: the network cannot be shown images of the input size.
    """
    with open_checkpoint(request.path, key=request.key, prefix=request.prefix) as checkpoint:
        # On a thread of its own, while the names are read and the layers counted.
        checkpoint.begin_sha256()
        resolution = resolve(tables, checkpoint, request.variant, request.layout)
        identity = resolution.identity
        require_input_size(identity.variant, probes.input_size)
        if load:
            _require_imagenet_classifier(request.path, resolution)
        numbers = file_numbers(checkpoint, resolution, probes.input_size)
        claims, operations = numbers.checks(), numbers.operations_of(identity.layout)
        checks = file_checks(checkpoint, resolution)
        content = content_hash_of(checkpoint, resolution)
        sha256 = checkpoint.sha256()
        receipt = read_receipt(request.path)
        if receipt is not None:
            checks.insert(0, receipt_check(receipt, resolution, sha256=sha256, content_hash=content))
        wiring, parity = _probe(checkpoint, resolution, probes, checks)
        network = load_network(checkpoint, resolution) if load else None
    result = CheckpointResult(
        identity.variant.id,
        str(request.path),
        sha256,
        content,
        identity.layout,
        (*checks, *claims),
        input_size=probes.input_size,
        operations=operations,
        wiring=wiring,
        parity=parity,
    )
    origin = origin_of(identity.variant, identity.layout, _digests(sha256, receipt))
    return Examined(identity.variant, result, origin, network)


def _probe(
    checkpoint: Checkpoint, resolution: Resolution, probes: Probes, checks: list[Check]
) -> tuple[WiringResult | None, ParityResult | None]:
    """Run what was asked for, each on a network of its own, and add its check."""
    if probes.wiring is None and probes.peer is None:
        return None, None
    if not resolution.identity.has_classifier:
        note = "a backbone: the network cannot be run without its classifier"
        checks += [Check("wiring", "not-comparable", note=note)] if probes.wiring is not None else []
        checks += [Check("parity", "not-comparable", note=note)] if probes.peer is not None else []
        return None, None
    wiring, parity = None, None
    if probes.wiring is not None:
        wiring = run_wiring(load_network(checkpoint, resolution), probes.wiring, torch.device(probes.device))
        checks.append(wiring_check(wiring))
    if probes.peer is not None:
        parity = run_parity(probes.peer, resolution, checkpoint.path, load_network(checkpoint, resolution))
        checks.append(parity_check(parity))
    return wiring, parity


def _digests(sha256: str, receipt: Receipt | None) -> tuple[str, ...]:
    # A receipt speaks for a file only if it is about these very bytes.
    if receipt is None or receipt.output_sha256 != sha256:
        return (sha256,)
    return sha256, receipt.source_sha256


def _require_imagenet_classifier(path: Path, resolution: Resolution) -> None:
    identity = resolution.identity
    if not identity.has_classifier or identity.classes != IMAGENET_CLASSES:
        raise MappingError(
            "this file cannot be measured on ImageNet",
            where=str(path),
            expected=f"a classifier of {IMAGENET_CLASSES} classes",
            got=f"{identity.classes} classes" if identity.has_classifier else "a backbone without classifier",
            next_step="leave out --imagenet to check the rest",
        )
