"""Two runs side by side: verdicts, counts and classes that changed, and predictions image by image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from r2convert.errors import UsageError
from r2convert.report.differences import check_label, measured_count
from r2convert.results.documents import ChangedImage, PredictionComparison, PredictionsComparison
from r2convert.results.reading import Run
from r2convert.results.verdicts import Check
from r2convert.results.verification import CheckpointResult

_CLASSES = 6
_ROWS = 60
"""Most images listed, over all networks; each network lists at least ten of a kind."""
_LEAST_ROWS = 10


@dataclass(frozen=True, slots=True)
class Change:
    """One network in two runs.

    Args:
        before: what the first run found.
        after: what the second one found.
        checks: those with another result, before and after; ``None`` where a run does not have it.
        classes: those that changed most; none unless both runs measured on as many images.
    """

    before: CheckpointResult
    after: CheckpointResult
    checks: tuple[tuple[Check | None, Check | None], ...]
    classes: tuple[str, ...]

    @property
    def is_comparable(self) -> bool:
        """Whether both were measured on as many images."""
        one, other = self.before.accuracy, self.after.accuracy
        return one is not None and other is not None and one.images == other.images


@dataclass(frozen=True, slots=True)
class PredictionGroup:
    """Images that changed in the same way: how, how many, and the first of them, of labels with most of them first."""

    heading: str
    count: int
    images: tuple[ChangedImage, ...]


@dataclass(frozen=True, slots=True)
class ChangedPredictions:
    """One network's predictions in two runs: its id, what differs, and the images whose first class does."""

    variant: str
    comparison: PredictionComparison
    groups: tuple[PredictionGroup, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every changed image is listed."""
        return all(len(group.images) == group.count for group in self.groups)


def changes(before: Run, after: Run) -> tuple[Change, ...]:
    """What changed in the second run, network by network; those that only one run has are left out."""
    earlier: dict[str, list[CheckpointResult]] = {}
    for result in before.results:
        earlier.setdefault(result.variant, []).append(result)
    pairs = [(earlier[each.variant].pop(0), each) for each in after.results if earlier.get(each.variant)]
    return tuple(Change(*pair, tuple(_changed_checks(*pair)), _changed_classes(*pair)) for pair in pairs)


def _changed_checks(before: CheckpointResult, after: CheckpointResult) -> Iterable[tuple[Check | None, Check | None]]:
    first, second = (
        {(check_label(check), check.source or ""): check for check in each.checks} for each in (before, after)
    )
    for key in dict.fromkeys([*first, *second]):
        one, other = first.get(key), second.get(key)
        unchanged = (
            one is not None
            and other is not None
            and one.verdict == other.verdict
            and measured_count(one, before) == measured_count(other, after)
        )
        if not unchanged:
            yield one, other


def _changed_classes(before: CheckpointResult, after: CheckpointResult) -> tuple[str, ...]:
    """WordNet ids of the classes whose number of correct images changed, largest change first."""
    one, other = before.accuracy, after.accuracy
    if one is None or other is None or one.images != other.images:
        return ()
    changed = {
        synset: abs(other.per_class[synset][1] - right)
        for synset, (_, right) in one.per_class.items()
        if synset in other.per_class and other.per_class[synset][1] != right
    }
    return tuple(sorted(changed, key=lambda synset: (-changed[synset], synset))[:_CLASSES])


def changed_predictions(predictions: PredictionsComparison, before: Run, after: Run) -> tuple[ChangedPredictions, ...]:
    """Which images are predicted differently in the second run, network by network.

    Raises:
        UsageError: the predictions are not those of the two runs.
    """
    compared = predictions.comparisons
    for run, side, made in ((before, "a", predictions.a), (after, "b", predictions.b)):
        for each in compared:
            _require_same_run(each, side, made.file, run)
    most = max(_LEAST_ROWS, _ROWS // (3 * max(1, len(compared))))
    return tuple(ChangedPredictions(_variant(each, "b"), each, tuple(_groups(each.changed, most))) for each in compared)


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
        next_step="give the files that `verify --json FILE --predictions FILE` wrote together, in the same order",
    )


def _groups(changed: Sequence[ChangedImage], most: int) -> Iterable[PredictionGroup]:
    kinds = (("Right before, wrong after", 0), ("Wrong before, right after", 1), ("Wrong both times", 2))
    for heading, kind in kinds:
        images = [each for each in changed if _kind(each) == kind]
        often = Counter(each.label for each in images)
        images.sort(key=lambda each: (-often[each.label], each.label, each.image))
        if images:
            yield PredictionGroup(heading, len(images), tuple(images[:most]))


def _kind(changed: ChangedImage) -> int:
    before, after = (side[:1] == (changed.label,) for side in (changed.a, changed.b))
    return 0 if before else 1 if after else 2
