"""The results of `inspect`, `layout`, `map` and `compare`.

A new field needs a default, so that older documents can still be read.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from r2convert.results.verdicts import Count, Digest, Number
from r2convert.results.verification import ActivationComparison

Container = Literal[
    "torch-zip", "torch-legacy", "torch-tar", "torch-hub-zip", "safetensors", "pdparams", "paddle-static", "mindspore"
]  # fmt: skip


class TensorEntry(Struct, frozen=True):
    """One tensor of a file.

    Args:
        name: as stored
        dtype: element type
        shape: its sizes
    """

    name: str
    dtype: str
    shape: tuple[Count, ...]


class AccountedTensor(Struct, frozen=True):
    """A tensor that is left out of a network, or that only one side of a conversion has.

    Args:
        name: the tensor
        reason: why
    """

    name: str
    reason: str


class Inspection(Struct, frozen=True, kw_only=True):
    """What a file is.

    Args:
        path: the file
        size: bytes
        container: how tensors are stored
        layout: whose names the tensors have; null if unknown
        variant: the network that is proven, or else presumed from the layout; null if unknown
        architectures: every network with these names and shapes, that one first
        weights: id of the weights it holds; null where that is not proven
        evidence: why it is believed to be this network
        classes: outputs of the classifier; null without one
        tensors: number of tensors
        parameters: learned elements
        dtypes: element type to number of tensors
        wrapper: the key that the state dict was stored under
        prefix_removed: the prefix that was removed from every name
        left_out: tensors beside the network
        unread: tensors of kinds whose elements are not read, to the kind
        opaque: dotted names of classes and functions in the file, which are never imported
        metadata: plain values found around the tensors
        sha256: of the file; null with --no-digest
        content_hash: of the network; null with --no-digest
        warnings: what is odd about the file, one sentence each
        tensor_list: every tensor, with --tensors
    """

    path: str
    size: Count
    container: Container
    layout: str | None
    variant: str | None
    architectures: tuple[str, ...] | UnsetType = UNSET
    weights: str | UnsetType | None = UNSET
    evidence: str | UnsetType | None = UNSET
    classes: Count | None
    tensors: Count
    parameters: Count
    dtypes: dict[str, Count]
    wrapper: str | None
    prefix_removed: str | None
    left_out: tuple[AccountedTensor, ...] = ()
    unread: dict[str, str] = {}
    opaque: tuple[str, ...] = ()
    metadata: dict[str, Any]
    sha256: Digest | None
    content_hash: Digest | None
    warnings: tuple[str, ...]
    tensor_list: tuple[TensorEntry, ...] | UnsetType = UNSET


class LearnedModule(Struct, frozen=True):
    """One row of a family's table with the name that an unknown code base has for it.

    Args:
        module: the reference network's name, as a template
        name: the file's name, as a template
        evidence: what identifies its modules: a shape that no other has, shapes and numbers in names, or an order alone
        alternatives: the other names that shapes and numbers allow
        count: modules it stands for
    """

    module: str
    name: str
    evidence: Literal["shape", "names", "order"]
    alternatives: tuple[str, ...]
    count: Count


class LearnedLayout(Struct, frozen=True, kw_only=True):
    """The names of an unknown code base, matched to an architecture.

    Args:
        path: the file
        architecture: what it was matched to
        layout: what the layout is called
        family: the table that the names are a column of
        known_as: the layout of the catalogue that has these names already; null if none has
        modules: the column, row by row
        suffixes: kind of module to role of a tensor to the suffix of its name
        roles_by_order: roles of BatchNorm tensors whose names say nothing: their order in the file decided
        linear: how the classifier weight is stored, if not as (classes, features)
        undecided: modules that only rising numbers or their order in the file tell apart, in groups that could be
            swapped
        doubts: what else could not be determined, one sentence each
        reordered: places where the file departs from the network's order
        files: the draft: path in a mappings folder to the lines of that file
        folder: where the draft was written; null if it was not
    """

    path: str
    architecture: str
    layout: str
    family: str
    known_as: str | None
    modules: tuple[LearnedModule, ...]
    suffixes: dict[str, dict[str, str]]
    roles_by_order: tuple[str, ...]
    linear: str | None
    undecided: tuple[tuple[str, ...], ...]
    doubts: tuple[str, ...]
    reordered: Count
    files: dict[str, tuple[str, ...]]
    folder: str | None


class ConversionSummary(Struct, frozen=True, kw_only=True, rename={"source_layout": "from", "target_layout": "to"}):
    """What a conversion did, or with --dry-run would do.

    Args:
        src: the source
        dst: the output; null for a dry run
        variant: the network that is proven, or else presumed from the source's layout
        architectures: every network with these names and shapes, that one first
        weights: id of the weights it holds; null where that is not proven
        evidence: why it is believed to be this network
        from: the source's layout
        to: the output's layout
        renamed: tensors that were carried over
        dropped: tensors of the source that the output does not have
        filled: tensors of the output that the source does not have
        warnings: caveats, although the conversion is sound
        src_sha256: of the source; null if none was computed
        dst_sha256: of the output; null if none was computed
        content_hash: of the network that both hold; null if none was computed
        receipt: where the receipt is
    """

    src: str
    dst: str | None
    variant: str
    architectures: tuple[str, ...] | UnsetType = UNSET
    weights: str | UnsetType | None = UNSET
    evidence: str | UnsetType | None = UNSET
    source_layout: str
    target_layout: str
    renamed: Count
    dropped: tuple[AccountedTensor, ...]
    filled: tuple[AccountedTensor, ...]
    warnings: tuple[str, ...]
    src_sha256: Digest | None
    dst_sha256: Digest | None
    content_hash: Digest | None
    receipt: str | None


class BothSides(Struct, frozen=True):
    """One text for each of two sides.

    Args:
        a: of A
        b: of B
    """

    a: str
    b: str


class DifferingTensor(Struct, frozen=True):
    """A tensor of both files that differs.

    Args:
        name: its name, in the mm layout if both files are known variants
        reason: how it differs, in words
        max_abs_diff: the largest difference of two elements; null where they cannot be subtracted
        mean_abs_diff: the mean difference of two elements; null likewise
    """

    name: str
    reason: str
    max_abs_diff: Number | None = None
    mean_abs_diff: Number | None = None


class Identified(Struct, frozen=True):
    """What a file was found to be.

    Args:
        variant: which network
        layout: whose names it has
    """

    variant: str
    layout: str


class Comparison(Struct, frozen=True, kw_only=True):
    """How two checkpoints differ. Names are in the mm layout if both files are known variants.

    Args:
        equal: whether both hold the same network
        content_hash: digests of the networks
        differing: tensors of both that differ, the largest difference first
        only_in_a: names that only A has
        only_in_b: names that only B has
        common: how many tensors both have
        identities: what A and B are; null where they were compared by their own names
        warnings: what else a file holds, and why one is not known
        activations: with --activations: the outputs of both networks side by side
    """

    equal: bool
    content_hash: BothSides
    differing: tuple[DifferingTensor, ...]
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    common: Count = 0
    identities: tuple[Identified | None, Identified | None] = (None, None)
    warnings: tuple[str, ...] = ()
    activations: ActivationComparison | UnsetType = UNSET


class PredictionFileSummary(Struct, frozen=True):
    """How the predictions of a file were made.

    Args:
        file: its path
        precision: how its networks were run
        accelerations: the optimisations in use
        pipeline: how its crops were made
    """

    file: str
    precision: str
    accelerations: tuple[str, ...]
    pipeline: str


class PairedCounts(Struct, frozen=True):
    """How often two networks were right on the same images.

    Args:
        both: images that both got right
        only_a: images that only A got right
        only_b: images that only B got right
        neither: images that neither got right
        mcnemar_p: exact two-sided probability of such a difference if both were equally good
    """

    both: Count
    only_a: Count
    only_b: Count
    neither: Count
    mcnemar_p: Number

    @property
    def a(self) -> int:
        """Images the first network got right."""
        return self.both + self.only_a

    @property
    def b(self) -> int:
        """Images the second one got right."""
        return self.both + self.only_b


class ChangedImage(Struct, frozen=True):
    """An image whose first class differs.

    Args:
        image: its id
        label: its class, 0 to 999
        a: A's first five classes, best first; empty for an image that could not be read
        b: B's
    """

    image: str
    label: int
    a: tuple[int, ...]
    b: tuple[int, ...]


class PredictionComparison(Struct, frozen=True):
    """How the predictions of two networks for the same images differ.

    Args:
        network: what is compared, by name in its file
        images: images compared
        other_crops: images whose pixels differed between the two
        changed_top1: images whose first class differs
        changed_top5: images whose first five classes, as a set, differ
        top1: correct at top-1
        top5: correct at top-5
        changed: images whose first class differs, in order
    """

    network: BothSides
    images: Count
    other_crops: Count
    changed_top1: Count
    changed_top5: Count
    top1: PairedCounts
    top5: PairedCounts
    changed: tuple[ChangedImage, ...]

    @property
    def equal(self) -> bool:
        """Whether no image's first class and no image's first five classes differ."""
        return not self.changed_top1 and not self.changed_top5


class PredictionsComparison(Struct, frozen=True):
    """How the predictions in two files differ, image by image.

    Args:
        equal: whether no prediction differs
        a: the first file
        b: the second file
        comparisons: one per network
    """

    equal: bool
    a: PredictionFileSummary
    b: PredictionFileSummary
    comparisons: tuple[PredictionComparison, ...]
