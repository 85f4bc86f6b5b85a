"""How a benchmark writes its figures."""

from __future__ import annotations

import pytest

from benchmarks.rows import Row, table


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ([0.47812, 0.4651, 0.4931], "0.478 (0.465-0.493)"),
        ([6.7, 6.7], "6.7"),
        ([1989.4, 1988.9, 1990.2], "1989 (1989-1990)"),
        ([999.7, 20480.2, 998.6], "1000 (999-20480)"),
    ],
)
def test_large_figures_are_whole_numbers(values: list[float], cell: str) -> None:
    assert f"| wall, s | {cell} |" in table([Row("section", "wall, s", values)])
