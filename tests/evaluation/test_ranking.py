"""Where a class stands among a network's logits."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r2convert.evaluation.backends import rank_logits


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(-3, 3), min_size=8, max_size=8), min_size=1, max_size=5), label=st.integers(0, 7)
)
def test_ranks_are_those_of_a_sort_by_logit_then_class_index(rows: list[list[int]], label: int) -> None:
    logits = torch.tensor(rows, dtype=torch.float32)
    ranking = rank_logits(logits, torch.full((len(rows),), label))
    for row, values in enumerate(rows):
        expected = sorted(range(8), key=lambda index, values=values: (-values[index], index))  # type: ignore[misc]
        assert ranking.top[row].tolist() == expected[:5]
        assert ranking.rank[row] == expected.index(label)
        ordered = sorted(values, reverse=True)
        cut = ordered[5] if label in expected[:5] else ordered[4]
        assert ranking.margins[row].tolist() == [ordered[0] - ordered[1], values[label] - cut]


def test_a_row_with_a_nan_ranks_nothing() -> None:
    logits = torch.arange(20, dtype=torch.float32).repeat(3, 1)
    logits[1, 4] = torch.nan
    logits[2] = torch.nan
    ranking = rank_logits(logits, torch.tensor([19, 19, 19]))
    assert ranking.rank.tolist() == [0, 20, 20]
    assert ranking.top.tolist() == [[19, 18, 17, 16, 15], [-1] * 5, [-1] * 5]
    assert np.isnan(ranking.margins[1:].numpy()).all()


def test_infinite_logits_are_ranked_by_size() -> None:
    logits = torch.tensor([[0.0, torch.inf, -torch.inf, 1, 2, 3, 4]])
    assert rank_logits(logits, torch.tensor([1])).rank.tolist() == [0]
    assert rank_logits(logits, torch.tensor([2])).rank.tolist() == [6]


def test_no_images_give_an_empty_ranking() -> None:
    ranking = rank_logits(torch.empty((0, 10)), torch.empty(0, dtype=torch.int64))
    assert (ranking.top.shape, ranking.rank.shape, ranking.margins.shape) == ((0, 5), (0,), (0, 2))
