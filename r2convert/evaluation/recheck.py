"""Measures what a faster precision changes, and rechecks in strict float32 what it could have changed.

A faster precision moves every logit a little, so it can decide an image differently only if two logits are close: the
first and the second, or the label's and the one at the cut below the fifth. How close is measured, not assumed: a
random part of the images is run in both precisions, the largest change of these margins is doubled, and every image
with a margin below that is rechecked in strict float32. Each such image widens the measurement; if the bound grows by
it, more images follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from r2convert.evaluation.predictions import NetworkPredictions, Places
from r2convert.imagenet.labels import TOP
from r2convert.results.verification import PrecisionAudit

ShowStrict = Callable[[Places], NetworkPredictions]
"""Runs a network on some images in strict float32; only these are done in what it returns."""

_AUDITED_SHARE = 0.02
_LEAST_AUDITED = 256
_SAFETY = 2.0


def audit_precision(
    fast: NetworkPredictions, places: Places, ids: Sequence[str], show_strict: ShowStrict, precision: str
) -> PrecisionAudit:
    """What a faster precision changed on a random part of the images; no prediction is replaced.

    Args:
        fast: what the network predicts in the faster precision.
        places: positions of the images that were run and have a crop.
        ids: of all images of the set.
        show_strict: runs some of them again.
        precision: the faster precision.
    """
    chosen = _random_places(places, ids)
    return _compare(fast, show_strict(chosen), chosen, precision)


def recheck(
    fast: NetworkPredictions, places: Places, ids: Sequence[str], show_strict: ShowStrict, precision: str
) -> PrecisionAudit:
    """Strict's counts at less cost: replaces every prediction that strict float32 could decide differently.

    Args:
        fast: what the network predicts in a faster precision. Its first classes, and the label's place among the
            first five, are those of strict afterwards.
        places: positions of the images that were run and have a crop.
        ids: of all images of the set.
        show_strict: runs some of them again.
        precision: the faster precision.

    Returns:
        What was found on the images that were run twice.
    """
    strict = NetworkPredictions.unknown(len(ids), 0)
    bound = 0.0
    chosen = _random_places(places, ids)
    while len(chosen):
        strict.take(show_strict(chosen), chosen)
        twice = np.flatnonzero(strict.done)
        bound = _SAFETY * _largest_drift(fast, strict, twice)
        # "not above" instead of "below": a NaN is doubtful.
        doubtful = ~(np.abs(fast.margins[places]) > bound).all(1)
        chosen = places[doubtful & ~strict.done[places]]
    twice = np.flatnonzero(strict.done)
    audit = _compare(fast, strict, twice, precision, bound)
    fast.take(strict, twice)
    return audit


def _random_places(places: Places, ids: Sequence[str]) -> Places:
    """The images with the smallest hashes of their ids: random, and the same every time."""
    count = max(_LEAST_AUDITED, round(_AUDITED_SHARE * len(places)))
    if count >= len(places):
        return places
    by_lot = sorted(places.tolist(), key=lambda place: hashlib.sha256(ids[place].encode()).digest())
    return np.sort(np.array(by_lot[:count], np.intp))


def _compare(
    fast: NetworkPredictions, strict: NetworkPredictions, places: Places, precision: str, bound: float | None = None
) -> PrecisionAudit:
    return PrecisionAudit(
        first_precision=precision,
        images=len(places),
        changed_top1=int(np.count_nonzero(fast.top[places, 0] != strict.top[places, 0])),
        changed_top1_correct=int(np.count_nonzero((fast.rank[places] < 1) != (strict.rank[places] < 1))),
        changed_top5_correct=int(np.count_nonzero((fast.rank[places] < TOP) != (strict.rank[places] < TOP))),
        largest_drift=_largest_drift(fast, strict, places),
        bound=bound,
    )


def _largest_drift(fast: NetworkPredictions, strict: NetworkPredictions, places: Places) -> float:
    """The largest change of a margin of these images; NaNs are not counted, since they are always doubtful."""
    before, after = fast.margins[places].astype(np.float64), strict.margins[places].astype(np.float64)
    # If another class came first, the margin changed its sign.
    after[:, 0] = np.where(fast.top[places, 0] == strict.top[places, 0], after[:, 0], -after[:, 0])
    with np.errstate(invalid="ignore"):
        return float(np.fmax.reduce(np.abs(before - after), axis=None, initial=0.0))
