"""Parity: does an independent implementation compute the same from the same file?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from r2convert.checks.activations import (
    ActivationComparison,
    OutputDifference,
    compare_activations,
    drawn_input,
)
from r2convert.checks.checks import Check
from r2convert.checks.peers import Peer
from r2convert.mapping.identity import Resolution
from r2convert.mapping.tables import Expansion
from r2convert.models.blocks import Classifier


@dataclass(frozen=True, slots=True)
class ParityResult:
    """What came of asking a peer.

    Args:
        peer: its name.
        version: its version.
        comparison: its outputs against the reference network's, if it could be asked.
        incomparable: why it could not be asked, in words, else the empty string.
        refused: what it said if it did not read the file, else the empty string.
    """

    peer: str
    version: str
    comparison: ActivationComparison | None = None
    incomparable: str = ""
    refused: str = ""


def run_parity(peer: Peer, resolution: Resolution, path: Path, reference: Classifier) -> ParityResult:
    """Load a file into a peer's network by the peer's own rules, and compare its outputs with ours.

    Args:
        peer: whom to ask.
        resolution: what the file is.
        path: the file; it has been read by this package's own reader before, which refuses unsafe ones.
        reference: the reference network with the file's weights; it is turned to float64.
    """
    identity, expansion = resolution.identity, resolution.expansion
    network = peer.build(identity.variant, identity.classes)
    if network is None:
        return ParityResult(peer.name, peer.version, incomparable=f"{peer.name} has no {identity.variant.id}")
    if not _reads(expansion, peer.layout, identity.layout):
        reason = f"{peer.name} reads the {peer.layout} layout, and this file has {identity.layout} names: "
        return ParityResult(
            peer.name, peer.version, incomparable=f"{reason}`r2convert map --to {peer.layout}` gives a file it reads"
        )
    try:
        peer.load(network, path)
    except Exception as error:
        # A peer says in a class of its own choosing that a file does not fit.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return ParityResult(peer.name, peer.version, refused=" ".join(lines[:2]) or type(error).__name__)
    names = module_names(expansion, peer.layout, network)
    image = drawn_input(identity.variant)
    return ParityResult(peer.name, peer.version, compare_activations(reference, network, image, names))


def parity_check(result: ParityResult) -> Check:
    """The verdict, with the first stage and layer that differ."""
    source = f"{result.peer} {result.version}"
    if result.incomparable:
        return Check("parity", "not-comparable", source, note=result.incomparable)
    if result.comparison is None:
        return Check("parity", "fail", source, note=f"{result.peer} refuses the file: {result.refused}")
    comparison = result.comparison
    equal = sum(not layer.differs for layer in comparison.layers)
    if comparison.equal:
        worst = max(layer.relative for layer in (*comparison.layers, *comparison.stages))
        note = f"equal up to {worst:.1g} of a layer's largest value" if worst else "equal to the last bit"
        return Check("parity", "pass", source, measured=equal, note=note)
    return Check("parity", "fail", source, measured=equal, note=parting(comparison))


def parting(comparison: ActivationComparison) -> str:
    """Where two networks part, in words."""
    parts = []
    for kind, first in (("layer", comparison.first_layer), ("stage", comparison.first_stage)):
        if first is not None:
            parts.append(f"the first {kind} to differ is {first.name}, by {shown_difference(first)}")
    return "; ".join(parts)


def shown_difference(difference: OutputDifference) -> str:
    """The size of a difference in words."""
    if difference.relative == float("inf"):
        return "its shape, or values that are no numbers"
    return f"{difference.max_abs_diff:.3g} ({100 * difference.relative:.2g} % of its largest value)"


def module_names(expansion: Expansion, layout: str, network: nn.Module) -> dict[str, str]:
    """A peer's module paths -> those of the reference network, told from the table of tensor names.

    Modules without tensors of their own, such as pools and whole stages, follow from those around them.
    """
    names: dict[str, str] = {}
    for tensor, slot in expansion.names(layout).items():
        if slot.canonical is not None:
            _match_upwards(names, tensor.rpartition(".")[0], slot.canonical.rpartition(".")[0])
    for path, _ in network.named_modules():
        parent, _, last = path.rpartition(".")
        if path and path not in names and parent in names:
            names[path] = f"{names[parent]}.{last}"
    return names


def _match_upwards(names: dict[str, str], theirs: str, ours: str) -> None:
    """Note down two modules, and what they lie in as long as both call it the same."""
    while ours:
        names.setdefault(theirs, ours)
        their_parent, _, their_last = theirs.rpartition(".")
        our_parent, _, our_last = ours.rpartition(".")
        if their_last != our_last or not theirs:
            return
        theirs, ours = their_parent, our_parent


def _reads(expansion: Expansion, peer_layout: str, layout: str) -> bool:
    """Whether two layouts have the same names for this variant."""
    if peer_layout not in expansion.table.layouts:
        return False
    return expansion.names(peer_layout).keys() == expansion.names(layout).keys()
