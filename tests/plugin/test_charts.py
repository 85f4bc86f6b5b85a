"""Charts are laid out within their picture."""

from __future__ import annotations

from datetime import date, timedelta

from airflow_provider_ophys.plugin.charts import HALF_A_LABEL, bar_chart


def test_the_first_and_the_last_day_can_be_read():
    days = [(date(2026, 10, 27) + timedelta(days=number)).isoformat() for number in range(31)]
    chart = bar_chart("Sessions", "sessions", days, range(31))
    places = {name: x for x, name in chart.labels}
    assert {days[0], days[-1]} <= set(places)
    assert all(HALF_A_LABEL <= x <= chart.width - HALF_A_LABEL for x in places.values())
    assert all(bar.x + bar.width <= chart.width for bar in chart.bars)
