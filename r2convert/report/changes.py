"""Two runs side by side: verdicts, counts and classes that changed, and predictions image by image."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from r2convert.catalog import Catalog
from r2convert.errors import UsageError
from r2convert.files import printable
from r2convert.imagenet.labels import class_index_by_synset, class_names
from r2convert.report.differences import network_name
from r2convert.report.rows import check_label, file_name, option_of, shown_measurement
from r2convert.report.thumbnails import Thumbnails
from r2convert.results.documents import ChangedImage, PairedCounts, PredictionComparison, PredictionsComparison
from r2convert.results.reading import Run
from r2convert.results.verdicts import Verdict
from r2convert.results.verification import CheckpointResult

_CLASSES = 6
_ROWS = 60
"""Images that are listed, of all networks together; each network lists ten of a kind at the least."""
_LEAST_ROWS = 10


@dataclass(frozen=True, slots=True)
class ChangedCheck:
    """A check with another result in the second run."""

    label: str
    source: str
    before: str
    after: str
    verdict_before: Verdict | None
    verdict_after: Verdict | None


@dataclass(frozen=True, slots=True)
class ChangedClass:
    """A class of which another number of images is right in the second run."""

    synset: str
    before: int
    after: int
    images: int


@dataclass(frozen=True, slots=True)
class Change:
    """One network in two runs.

    Args:
        name: the network.
        file: name of the file, of both if they differ.
        verdicts: before and after.
        checks: those with another result.
        top1: images right at top-1 before and after; ``None`` unless both were measured on as many images.
        classes: those that changed most.
        same_crops: whether both runs used the same pixels.
    """

    name: str
    file: str
    verdicts: tuple[Verdict, Verdict]
    checks: tuple[ChangedCheck, ...]
    top1: tuple[int, int] | None
    classes: tuple[ChangedClass, ...]
    same_crops: bool


@dataclass(frozen=True, slots=True)
class ChangedPrediction:
    """An image whose first class is another one in the second run; its picture is a ``data:`` address, if at hand."""

    image: str
    label: str
    before: str
    after: str
    data_uri: str | None


@dataclass(frozen=True, slots=True)
class PredictionGroup:
    """Images that changed in the same way.

    Args:
        heading: how.
        count: how many there are.
        rows: the first of them; those of the labels with most such images first.
    """

    heading: str
    count: int
    rows: tuple[ChangedPrediction, ...]


@dataclass(frozen=True, slots=True)
class ChangedPredictions:
    """One network's predictions in two runs.

    Args:
        name: the network.
        images: images compared.
        changed_top1: those whose first class differs.
        changed_top5: those whose first five classes, as a set, differ.
        other_crops: those of which the two runs had different pixels.
        top1: how often each was right.
        groups: those whose first class differs.
    """

    name: str
    images: int
    changed_top1: int
    changed_top5: int
    other_crops: int
    top1: PairedCounts
    groups: tuple[PredictionGroup, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every changed image is listed."""
        return all(len(group.rows) == group.count for group in self.groups)


def compare_command(predictions: PredictionsComparison | None, before: Run, after: Run) -> str:
    """The command that lists every image two runs predict differently; the empty string if they kept no predictions."""
    files = [_predictions_file(predictions, run, side) for run, side in ((before, "a"), (after, "b"))]
    return f"r2convert compare {shlex.join(files)} --all" if all(files) and files[0] != files[1] else ""


def _predictions_file(predictions: PredictionsComparison | None, run: Run, side: str) -> str:
    return option_of(run, "--predictions") if predictions is None else str(getattr(predictions, side).file)


def changes(before: Run, after: Run, catalog: Catalog) -> tuple[Change, ...]:
    """What changed in the second run, network by network; those that only one run has are left out."""
    earlier: dict[str, list[CheckpointResult]] = {}
    for result in before.results:
        earlier.setdefault(result.variant, []).append(result)
    pairs = [(earlier[each.variant].pop(0), each) for each in after.results if earlier.get(each.variant)]
    return tuple(_change(first, second, network_name(second.variant, catalog)) for first, second in pairs)


def _change(before: CheckpointResult, after: CheckpointResult, name: str) -> Change:
    one, other = before.accuracy, after.accuracy
    comparable = one is not None and other is not None and one.images == other.images
    top1 = (one.top1_correct, other.top1_correct) if one and other and comparable else None
    names = dict.fromkeys((file_name(before), file_name(after)))
    return Change(
        name,
        " → ".join(names),
        (before.verdict, after.verdict),
        tuple(_changed_checks(before, after)),
        top1,
        _changed_classes(before, after) if comparable else (),
        same_crops=comparable and one is not None and other is not None and one.crops_sha256 == other.crops_sha256,
    )


def _changed_checks(before: CheckpointResult, after: CheckpointResult) -> list[ChangedCheck]:
    first, second = (
        {(check_label(check), check.source or ""): check for check in each.checks} for each in (before, after)
    )
    changed = []
    for key in dict.fromkeys([*first, *second]):
        one, other = first.get(key), second.get(key)
        was = shown_measurement(one, before) if one else ""
        now = shown_measurement(other, after) if other else ""
        verdicts = (one.verdict if one else None, other.verdict if other else None)
        if was != now or verdicts[0] != verdicts[1]:
            changed.append(ChangedCheck(*key, was, now, *verdicts))
    return changed


def _changed_classes(before: CheckpointResult, after: CheckpointResult) -> tuple[ChangedClass, ...]:
    first, second = (result.accuracy.per_class if result.accuracy else {} for result in (before, after))
    changed = [
        ChangedClass(synset, right, second[synset][1], images)
        for synset, (images, right) in first.items()
        if synset in second and second[synset][1] != right
    ]
    return tuple(sorted(changed, key=lambda each: (-abs(each.after - each.before), each.synset))[:_CLASSES])


def changed_predictions(
    predictions: PredictionsComparison, before: Run, after: Run, catalog: Catalog, thumbnails: Thumbnails
) -> tuple[ChangedPredictions, ...]:
    """Which images are predicted differently in the second run, network by network.

    Raises:
        UsageError: the predictions are not those of the two runs.
    """
    compared = predictions.comparisons
    for run, side, made in ((before, "a", predictions.a), (after, "b", predictions.b)):
        for each in compared:
            _require_same_run(each, side, made.file, run)
    names = class_names() if _is_imagenet(before) and _is_imagenet(after) else ()
    rows = max(_LEAST_ROWS, _ROWS // (3 * max(1, len(compared))))
    return tuple(
        ChangedPredictions(
            network_name(_variant(each, "b"), catalog),
            each.images,
            each.changed_top1,
            each.changed_top5,
            each.other_crops,
            each.top1,
            tuple(_groups(each.changed, names, thumbnails, rows)),
        )
        for each in compared
    )


def _variant(compared: PredictionComparison, side: str) -> str:
    """Names in a prediction file begin with a number, which keeps two networks of one name apart."""
    name: str = getattr(compared.network, side)
    return name.partition(" ")[2] or name


def _require_same_run(compared: PredictionComparison, side: str, file: str, run: Run) -> None:
    variant, right = _variant(compared, side), getattr(compared.top1, side)
    measured = [each.accuracy for each in run.results if each.variant == variant and each.accuracy]
    if any((each.images, each.top1_correct) == (compared.images, right) for each in measured):
        return
    found = [f"{each.top1_correct:,} of {each.images:,} images right" for each in measured]
    raise UsageError(
        "these predictions are not those of the results file",
        where=f"{file} and {run.name}",
        expected=f"for {variant}, {' or '.join(found) or 'none'}",
        got=f"{right:,} of {compared.images:,} images right",
        next_step="give the files that `verify --json FILE --predictions FILE` has written together, in the same order",
    )


def _is_imagenet(run: Run) -> bool:
    """Whether class indices are those of ImageNet-1k; otherwise nothing says what a number stands for."""
    counted = [result.accuracy.per_class for result in run.results if result.accuracy]
    return all(classes and set(classes) <= set(class_index_by_synset()) for classes in counted)


def _groups(
    changed: Sequence[ChangedImage], names: Sequence[str], thumbnails: Thumbnails, rows: int
) -> list[PredictionGroup]:
    kinds = (("Right before, wrong after", 0), ("Wrong before, right after", 1), ("Wrong both times", 2))
    found = []
    for heading, kind in kinds:
        images = [each for each in changed if _kind(each) == kind]
        often = Counter(each.label for each in images)
        images.sort(key=lambda each: (-often[each.label], each.label, each.image))
        shown = tuple(_changed_prediction(each, names, thumbnails) for each in images[:rows])
        if images:
            found.append(PredictionGroup(heading, len(images), shown))
    return found


def _kind(changed: ChangedImage) -> int:
    before, after = (side[:1] == (changed.label,) for side in (changed.a, changed.b))
    return 0 if before else 1 if after else 2


def _changed_prediction(changed: ChangedImage, names: Sequence[str], thumbnails: Thumbnails) -> ChangedPrediction:
    label, before, after = (_class(each, names) for each in ((changed.label,), changed.a, changed.b))
    return ChangedPrediction(printable(changed.image), label, before, after, thumbnails.data_uri(changed.image))


def _class(ranked: tuple[int, ...], names: Sequence[str]) -> str:
    if not ranked:
        return "unreadable image"
    if ranked[0] < 0:
        return "not a number"
    return names[ranked[0]] if ranked[0] < len(names) else f"class {ranked[0]}"
