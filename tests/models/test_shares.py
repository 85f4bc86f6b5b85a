"""What the tasks that write one movie together are told."""

from __future__ import annotations

import pytest

from airflow_provider_ophys.models.plan import ImagingPlan, Share


@pytest.mark.parametrize(
    ("shares", "most", "joined"),
    [
        ([(0, 3), (3, 6), (6, 8)], 3, [(0, 3), (3, 6), (6, 8)]),
        ([(0, 3), (3, 6), (6, 8)], 2, [(0, 3), (3, 8)]),
        ([(0, 3), (3, 6), (6, 8)], 1, [(0, 8)]),
        ([], 1, []),
    ],
)
def test_shares_are_joined_until_they_can_be_mapped(shares, most, joined):
    plan = ImagingPlan.model_construct(shares=[Share(first=first, stop=stop) for first, stop in shares])
    assert [(share.first, share.stop) for share in plan.with_shares(most).shares] == joined


def test_joined_shares_differ_by_no_more_than_one_of_those_they_were():
    plan = ImagingPlan.model_construct(shares=[Share(first=band, stop=band + 1) for band in range(2500)])
    joined = plan.with_shares(1024).shares
    assert len(joined) == 1024
    assert [band for share in joined for band in range(share.first, share.stop)] == list(range(2500))
    assert {share.stop - share.first for share in joined} == {2, 3}
