"""
The tables of options in these pages, made from the code: ``python docs/option_tables.py`` writes them anew.

A page says where one goes, between ``<!-- options: NAME -->`` and ``<!-- end -->``. ``make docs`` writes all of
them before it builds the site, and ``tests/docs/test_option_tables.py`` fails while a page has another one.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel

from airflow_provider_ophys.acquisition import AcquisitionOptions
from airflow_provider_ophys.get_provider_info import get_provider_info
from airflow_provider_ophys.models.conversion import MovieOptions, SegmentationOptions
from airflow_provider_ophys.models.metadata_sections import (
    DeviceMetadata,
    DeviceModelMetadata,
    ImagingPlaneMetadata,
    MicroscopySeriesMetadata,
    NWBFileMetadata,
    OpticalChannelMetadata,
    PlaneSegmentationMetadata,
    RoiResponseMetadata,
    SubjectMetadata,
    SummaryImageMetadata,
)
from airflow_provider_ophys.operators.conversion import ConversionOperator, RecordingConversionOperator
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.report import WriteReportOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.session import DescribeSessionOperator, WriteSessionOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator

DOCS = Path(__file__).parent
# Every operator takes it and hands it to Airflow; it is not named in each signature.
RETRY_POLICY = "retry_policy"
ROW = "| {} | {} | {} |"
HEAD = [ROW.format("option", "default", "meaning"), "|---|---|---|"]
PLACE = re.compile(r"<!-- options: ([\w.]+) -->\n.*?<!-- end -->", re.DOTALL)


def described_parameters(docstring: str | None) -> dict[str, str]:
    """Return what a docstring says of each parameter, in Markdown."""
    text = inspect.cleandoc(docstring or "")
    # A description ends with the next field, or with a line that is not indented.
    found = re.findall(r"^:param (\w+): (.*(?:\n[ ]+.*)*)", text, flags=re.MULTILINE)
    return {name: in_markdown(" ".join(description.split())) for name, description in found}


def in_markdown(text: str) -> str:
    """Return reST of a docstring as Markdown that fits into a cell of a table."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`").replace("|", "\\|")


def default_of(parameter: inspect.Parameter) -> str:
    """Return a parameter's default in code, or what stands for it."""
    if parameter.default is parameter.empty:
        return "required"
    if parameter.default is None:
        return ""
    # Objects of ours, such as the retry policy, are named in the description.
    is_literal = isinstance(parameter.default, str | int | float)
    return f"`{parameter.default!r}`".replace("'", '"') if is_literal else ""


def of_operator(operator: type) -> list[str]:
    """
    Make the table of what an operator takes beside the options of the classes that it extends.

    :param operator: Its docstring describes them, in the order of the table.
    :raises LookupError: If one is not described, or one is described that it does not name.
    """
    described = described_parameters(operator.__doc__)
    parameters = inspect.signature(operator.__init__).parameters
    named = {name for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    if wrong := (named ^ described.keys()) - {RETRY_POLICY}:
        raise LookupError(f"{operator.__name__}: its docstring and its signature differ in {sorted(wrong)}")
    rows = []
    for name, description in described.items():
        default = default_of(parameters[name]) if name in named else ""
        rows.append(ROW.format(f"`{name}`", default, description))
    return HEAD + rows


def of_acquisitions() -> list[str]:
    """Make the table of what the sensor and the triggers take."""
    rows = []
    for name, field in AcquisitionOptions.model_fields.items():
        default = "required" if field.is_required() else as_code(field.default)
        rows.append(ROW.format(f"`{name}`", default, field.description))
    return HEAD + rows


def as_code(default: object) -> str:
    """Return a default of the acquisition options in code."""
    if isinstance(default, tuple):
        return ", ".join(f"`{glob}`" for glob in default)
    return "" if default is None else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def of_session_file(entry: type[MovieOptions | SegmentationOptions], operator: type) -> list[str]:
    """
    Make the table of an entry of ``session.yaml``.

    :param entry: Its model.
    :param operator: Whose options of the same names are described.
    """
    described = described_parameters(RecordingConversionOperator.__doc__) | described_parameters(operator.__doc__)
    rows = []
    for name, field in entry.model_fields.items():
        default = "required" if field.is_required() else in_yaml(field.default)
        rows.append(ROW.format(f"`{name}`", default, described[name]))
    return HEAD + rows


def in_yaml(default: object) -> str:
    """Return a default as YAML writes it."""
    if default is None or default == {}:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def of_settings() -> list[str]:
    """Make the table of ``[ophys]``, from what Airflow shows of it."""
    options: Mapping[str, Mapping[str, str]] = get_provider_info()["config"]["ophys"]["options"]
    rows = []
    for name, each in options.items():
        default = f"`{each['default']}`" if each["default"] else ""
        rows.append(ROW.format(f"`{name}`", default, " ".join(each["description"].split())))
    return [ROW.format("`[ophys]`", "default", "meaning"), HEAD[1], *rows]


def of_metadata(section: type[BaseModel]) -> list[str]:
    """Make the table of a section of the metadata: what can be given, and of what kind it is."""
    rows = []
    for name, field in section.model_fields.items():
        if name == "fields_of_type":
            continue
        default = "required" if field.is_required() else in_yaml(field.default)
        meaning = f"{kind_of(field.annotation)}. {field.description or ''}".strip()
        rows.append(ROW.format(f"`{name}`", default, meaning))
    return [ROW.format("field", "default", "kind and meaning"), HEAD[1], *rows]


def kind_of(annotation: object) -> str:
    """Return what may be written for a field, in words."""
    named = str(annotation)
    if "Literal" in named:
        return "One of " + ", ".join(f"`{each}`" for each in re.findall(r"'([^']+)'", named))
    if "list[" in named or "List" in named:
        return "List"
    kinds = {"datetime": "Time", "float": "Number", "int": "Whole number", "bool": "`true` or `false`"}
    return next((kind for part, kind in kinds.items() if part in named), "Text")


TABLES: dict[str, Callable[[], list[str]]] = {
    "acquisitions": of_acquisitions,
    "ConversionOperator": lambda: of_operator(ConversionOperator),
    "RecordingConversionOperator": lambda: of_operator(RecordingConversionOperator),
    "WriteImagingOperator": lambda: of_operator(WriteImagingOperator),
    "WriteSegmentationOperator": lambda: of_operator(WriteSegmentationOperator),
    "DescribeSessionOperator": lambda: of_operator(DescribeSessionOperator),
    "WriteSessionOperator": lambda: of_operator(WriteSessionOperator),
    "StageToS3Operator": lambda: of_operator(StageToS3Operator),
    "WriteReportOperator": lambda: of_operator(WriteReportOperator),
    "settings": of_settings,
    "NWBFile": lambda: of_metadata(NWBFileMetadata),
    "Subject": lambda: of_metadata(SubjectMetadata),
    "Devices": lambda: of_metadata(DeviceMetadata),
    "DeviceModels": lambda: of_metadata(DeviceModelMetadata),
    "Ophys.ImagingPlanes": lambda: of_metadata(ImagingPlaneMetadata),
    "optical_channel": lambda: of_metadata(OpticalChannelMetadata),
    "Ophys.MicroscopySeries": lambda: of_metadata(MicroscopySeriesMetadata),
    "Ophys.PlaneSegmentations": lambda: of_metadata(PlaneSegmentationMetadata),
    "Ophys.RoiResponses": lambda: of_metadata(RoiResponseMetadata),
    "Ophys.SegmentationImages": lambda: of_metadata(SummaryImageMetadata),
    "session.yaml.imaging": lambda: of_session_file(MovieOptions, WriteImagingOperator),
    "session.yaml.segmentation": lambda: of_session_file(SegmentationOptions, WriteSegmentationOperator),
}


def with_tables(page: str) -> str:
    """Return a page with the tables that the code has now."""
    return PLACE.sub(lambda place: in_place(place[1]), page)


def in_place(name: str) -> str:
    """Return a table between the lines that say where it goes."""
    return "\n".join([f"<!-- options: {name} -->", "", *TABLES[name](), "", "<!-- end -->"])


if __name__ == "__main__":
    for file in sorted(DOCS.glob("*.md")):
        text = file.read_text()
        if (made := with_tables(text)) != text:
            file.write_text(made)
