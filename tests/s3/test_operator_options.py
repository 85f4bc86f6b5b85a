"""The options of the operator: one model declares them; signature, template fields and docstring follow it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow_versions import DagSerialization
from s3_views import Place

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.staging.files import MIB
from airflow_provider_ophys.staging.options import StageToS3Options, StagingOptions


def _signature() -> dict[str, Any]:
    parameters = inspect.signature(StageToS3Operator.__init__).parameters
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("source", "destination", "retry_policy")
    }


def test_signature_has_the_options_of_the_model_and_their_defaults() -> None:
    assert _signature().keys() == StageToS3Options.model_fields.keys()
    assert StageToS3Options.parse(_signature()) == StageToS3Options()


def test_every_option_is_a_template_field_and_documented() -> None:
    fields = {"source", "destination", *StageToS3Options.model_fields}
    assert set(StageToS3Operator.template_fields) == fields
    assert set(re.findall(r":param (\w+):", StageToS3Operator.__doc__ or "")) == fields | {"retry_policy"}


def test_what_a_template_turned_into_text_becomes_what_it_was() -> None:
    given = {
        "verify": "False",
        "overwrite": "True",
        "unsafe_no_conditional": "true",
        "memory_limit": "64MiB",
        "dry_run": "yes",
        "max_concurrency": "3",
        "allow_insecure_http": "1",
        "aws_conn_id": "None",
        "region_name": "",
        "layout": " ",
    }
    read = StageToS3Options.parse(given)
    assert read == StageToS3Options(
        verify=False,
        overwrite=True,
        unsafe_no_conditional=True,
        memory_limit=64 * MIB,
        dry_run=True,
        max_concurrency=3,
        allow_insecure_http=True,
        aws_conn_id=None,
    )
    assert StageToS3Options.parse({"verify": "/etc/ssl/lab.pem"}).verify == "/etc/ssl/lab.pem"
    assert read.of_publishing().keys() == StagingOptions.model_fields.keys()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_concurrency": "0"}, "max_concurrency"),
        ({"max_concurrency": "many"}, "max_concurrency"),
        ({"dry_run": "perhaps"}, "dry_run"),
        ({"allow_insecure_http": "maybe"}, "allow_insecure_http"),
        ({"verify_only": "true", "dry_run": "true"}, "verify_only changes nothing.*dry_run"),
        ({"overwrite": "no way", "layout": "flat"}, "overwrite.*layout"),
    ],
)
def test_text_that_is_no_such_value_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StageToS3Options.parse(given)


@pytest.mark.usefixtures("connection")
def test_options_from_templates_are_obeyed(place: Place, tree: Path) -> None:
    operator = StageToS3Operator(
        task_id="stage",
        source=str(tree),
        destination=place.uri,
        dry_run="{{ params.dry_run }}",
        max_concurrency="{{ params.threads }}",
        allow_insecure_http="{{ params.insecure }}",
        memory_limit="{{ params.memory }}",
    )
    params = {"dry_run": True, "threads": 2, "insecure": False, "memory": 64 * MIB}
    operator.render_template_fields({"params": params})
    assert operator.execute({"outlet_events": {}})["dry_run"] is True
    assert place.listing() == []


def test_operator_survives_serialization() -> None:
    with DAG("serialized") as dag:
        StageToS3Operator(
            task_id="stage",
            source="a.nwb",
            destination="s3://archive/",
            dry_run="{{ params.x }}",
            max_concurrency=4,
        )
    task = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).get_task("stage")
    assert (task.dry_run, task.max_concurrency) == ("{{ params.x }}", 4)
