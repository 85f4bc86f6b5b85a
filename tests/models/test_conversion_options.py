"""Options arrive as DAGs and templates give them: typed, as text, or not at all."""

from __future__ import annotations

import pytest

from airflow_provider_ophys.exceptions import BackendConfigurationError, ConfigurationError
from airflow_provider_ophys.models.backend import parse_backend_configuration
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.rendered_options import parse_bytes

REQUIRED = {"extractor": "Tiff", "nwbfile_path": "/data/a.nwb"}


@pytest.mark.parametrize(
    ("text", "number"),
    [(1024, 1024), ("1024", 1024), ("512MiB", 512 * 2**20), ("0.5 GB", 500_000_000), ("2 kib", 2048)],
)
def test_bytes(text, number):
    assert parse_bytes(text) == number


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "1 parsec", True, None, "1,5GB"])
def test_what_is_not_a_number_of_bytes(text):
    with pytest.raises(ValueError, match="not"):
        parse_bytes(text)


def test_rendered_templates_are_text():
    conversion = ImagingConversion.from_options(
        REQUIRED | {"memory_limit": "64MiB", "validate": "False", "threads": "2", "metadata_key": "None"}
    )
    assert conversion.memory_limit == 64 * 2**20
    assert conversion.validate_output is False
    assert conversion.threads == 2
    assert conversion.metadata_key is None


def test_none_is_a_choice_of_the_iterator_type_alone():
    assert ImagingConversion.from_options(REQUIRED).iterator_type == "v2"
    assert ImagingConversion.from_options(REQUIRED | {"iterator_type": None, "parent_container": None}) == (
        ImagingConversion.from_options(REQUIRED | {"iterator_type": "None"})
    )
    with pytest.raises(ConfigurationError, match="iterator_type"):
        ImagingConversion.from_options(REQUIRED | {"iterator_type": "v1"})


def test_every_wrong_option_is_in_one_message():
    with pytest.raises(ConfigurationError, match=r"(?s)3 option\(s\).*if_exists.*threads.*bogus"):
        ImagingConversion.from_options(REQUIRED | {"threads": 0, "if_exists": "maybe", "bogus": 1})


def test_what_decides_the_content_and_what_does_not():
    plain = ImagingConversion.from_options(REQUIRED)
    elsewhere = {"nwbfile_path": "/b", "threads": 3, "memory_limit": 9, "if_exists": "fail", "validate": False}
    assert plain.content_options() == ImagingConversion.from_options(REQUIRED | elsewhere).content_options()
    for option in ({"compression": "small"}, {"backend": "zarr"}, {"parent_container": "processing/ophys"}):
        assert plain.content_options() != ImagingConversion.from_options(REQUIRED | option).content_options()


def test_a_configuration_is_for_one_backend():
    configuration = parse_backend_configuration("zarr", None)
    with pytest.raises(BackendConfigurationError, match="is for 'zarr', but the file is 'hdf5'"):
        parse_backend_configuration("hdf5", configuration)
