"""Measured numbers as OpenMMLab's ``metafile.yml`` has them, to be listed in a ``model-index.yml``.

Format: https://github.com/paperswithcode/model-index. Only accuracies on all 50,000 images are stated: the format
knows of no samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from r2convert.catalog.variant import IMAGENET_IMAGES
from r2convert.report.differences import file_name, imagenet_operations
from r2convert.results.reading import Run
from r2convert.results.verdicts import leading_check
from r2convert.results.verification import CheckpointResult

_COLLECTION = "Res2Net"
_HEAD = """\
Collections:
  - Name: Res2Net
    Metadata:
      Training Data: ImageNet-1k
      Architecture:
        - Batch Normalization
        - Convolution
        - Global Average Pooling
        - ReLU
        - Res2Net Block
    Paper:
      Title: "Res2Net: A New Multi-scale Backbone Architecture"
      URL: https://arxiv.org/abs/1904.01169
    README: configs/res2net/README.md

Models:"""
_SUFFIX = "_3rdparty_8xb32_in1k"
_ZOO_WEIGHTS = ("official", "openmmlab")
"""Weights that OpenMMLab's names with this suffix stand for: the official ones, converted."""


def model_index(runs: Sequence[Run]) -> str:
    """One entry a result, with what was measured and nothing else."""
    results = [result for run in runs for result in run.results]
    if not results:
        return _HEAD + " []\n"
    occurrences = Counter(result.variant for result in results)
    lines = [line for result in results for line in _entry(result, unique=occurrences[result.variant] == 1)]
    return "\n".join([_HEAD, *lines]) + "\n"


def _entry(result: CheckpointResult, *, unique: bool) -> Iterable[str]:
    yield f"  - Name: {_scalar(_name(result, unique=unique))}"
    yield f"    In Collection: {_COLLECTION}"
    yield from _metadata(result)
    yield from _accuracy(result)
    if result.checkpoint is not None:
        yield f"    Weights: {_scalar(file_name(result))}"
    if result.sha256 is not None:
        yield f"    SHA256: {_scalar(result.sha256)}"


def _name(result: CheckpointResult, *, unique: bool) -> str:
    """The zoo's name for the weights it means by it, where they are proven; for others the network's and a digest's."""
    network, tag = result.variant.replace("_", "-"), (result.weights or "").rpartition(".")[2]
    name = network + _SUFFIX if tag in _ZOO_WEIGHTS else f"{network}_{tag}" if tag else network
    # Entries are looked up by name: two files of one network are told apart as OpenMMLab tells files apart.
    return name if not result.sha256 or (tag and unique) else f"{name}-{result.sha256[:8]}"


def _metadata(result: CheckpointResult) -> Iterable[str]:
    operations = imagenet_operations(result)
    parameters = leading_check(result.checks, "parameters")
    counts = {
        "FLOPs": operations.mmcv if operations else None,
        "Parameters": parameters.measured if parameters else None,
    }
    known = [f"      {name}: {count}" for name, count in counts.items() if count is not None]
    return ["    Metadata:", *known] if known else ["    Metadata: {}"]


def _accuracy(result: CheckpointResult) -> Iterable[str]:
    accuracy = result.accuracy
    if accuracy is None:
        return ["    # No accuracy was measured."]
    if accuracy.images != IMAGENET_IMAGES:
        return [f"    # Measured on {accuracy.images} images: no accuracy on the validation set."]
    shares = (100 * count / accuracy.images for count in (accuracy.top1_correct, accuracy.top5_correct))
    return [
        "    Results:",
        "      - Dataset: ImageNet-1k",
        "        Task: Image Classification",
        "        Metrics:",
        *(f"          Top {k} Accuracy: {share:.3f}" for k, share in zip((1, 5), shares, strict=True)),
    ]


def _scalar(text: str) -> str:
    """A double-quoted YAML scalar of printable ASCII."""
    return '"' + "".join(_quoted(letter) for letter in text) + '"'


def _quoted(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    if " " <= letter <= "~":
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
