"""The tables of options in the pages are those that the code has now."""

from __future__ import annotations

from pathlib import Path

import pytest
from option_tables import PLACE, TABLES, described_parameters, in_markdown, of_operator, with_tables

from airflow_provider_ophys.models.conversion import MovieOptions, SegmentationOptions
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.report import WriteReportOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.session import DescribeSessionOperator, WriteSessionOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_the_tables_of_the_code(page):
    """To write them anew: python docs/option_tables.py."""
    text = page.read_text()
    assert with_tables(text) == text


def test_every_table_is_on_one_page():
    placed = [place[1] for page in PAGES for place in PLACE.finditer(page.read_text())]
    assert sorted(placed) == sorted(TABLES)


def rows_of(table):
    return {line.split("`")[1]: line for line in TABLES[table]() if line.startswith("| `")}


OPERATORS = [
    WriteImagingOperator,
    WriteSegmentationOperator,
    WriteSessionOperator,
    DescribeSessionOperator,
    WriteReportOperator,
    StageToS3Operator,
]


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_template_field_of_an_operator_is_told_once(operator):
    told = [name for cls in operator.__mro__ if cls.__name__ in TABLES for name in rows_of(cls.__name__)]
    assert set(operator.template_fields) <= set(told)
    assert len(told) == len(set(told))


def test_defaults_are_those_of_the_signature():
    rows = rows_of("StageToS3Operator")
    assert rows["source"].startswith("| `source` | required |")
    assert '| `"256MiB"` |' in rows["memory_limit"]
    assert "| `10` |" in rows["max_concurrency"]
    assert rows["region_name"].startswith("| `region_name` |  |")


def test_a_session_file_tells_every_field_of_its_entries():
    assert rows_of("session.yaml.imaging").keys() == MovieOptions.model_fields.keys()
    assert rows_of("session.yaml.segmentation").keys() == SegmentationOptions.model_fields.keys()


class Forgetful(StageToS3Operator):
    """
    Takes what it does not tell.

    :param source: Of the two.
    """

    def __init__(self, *, source: str, destination: str, **kwargs):
        super().__init__(source=source, destination=destination, **kwargs)


def test_an_option_that_no_docstring_tells_is_an_error():
    with pytest.raises(LookupError, match="destination"):
        of_operator(Forgetful)


def test_a_description_is_read_to_its_end():
    text = """
    Do it.

    :param first: One line,
        and another.
    :param second: Of ``code`` and :class:`some.module.Thing`, a|b.
    """
    found = described_parameters(text)
    assert found == {"first": "One line, and another.", "second": r"Of `code` and `Thing`, a\|b."}
    assert in_markdown("``x``") == "`x`"
