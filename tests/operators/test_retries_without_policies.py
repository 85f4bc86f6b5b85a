"""Before Airflow 3.3: what a retry cannot mend fails at once, what it can waits as the task says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import DAG, task
from airflow_runs import run_dag

from airflow_provider_ophys import retries
from airflow_provider_ophys.exceptions import ConfigurationError, SourceDataError, StagingError
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.report import WriteReportOperator
from airflow_provider_ophys.operators.session import DescribeSessionOperator, WriteSessionOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.retries import TASK_RETRIES, decides_on_retries

WRONG = {"extractor": "Nothing", "nwbfile_path": "/nowhere/a.nwb"}


@pytest.mark.usefixtures("airflow_db")
def test_tasks_fail_at_once_or_are_tried_again():
    tries = {"retries": 2, "retry_delay": timedelta(seconds=0)}
    with DAG("no_policy") as dag:
        WriteImagingOperator(task_id="wrong", **tries, **WRONG)
        WriteImagingOperator.partial(task_id="wrong_mapped", **tries).expand_kwargs([WRONG])
        DescribeSessionOperator(task_id="describe", folder="/nowhere", **tries)
        WriteSessionOperator(task_id="session", session={}, nwbfile_path="/nowhere/a.nwb", **tries)
        WriteReportOperator(task_id="report", source="/nowhere/a.nwb", **tries)
        StageToS3Operator(task_id="stage", source="/nowhere/a.nwb", destination="s3://b/", **tries)

        @task(**TASK_RETRIES, **tries)
        @decides_on_retries
        def own(error):
            raise {"lasting": SourceDataError, "passing": StagingError}[error]("so it is")

        own.override(task_id="lasting")("lasting")
        own.override(task_id="passing")("passing")
    states = {name: [(one.state, one.try_number) for one in found] for name, found in run_dag(dag).items()}
    assert states.pop("passing") == [("failed", 3)]
    assert len(states) == 7
    assert all(found == [("failed", 1)] for found in states.values()), states


def test_what_needs_a_later_airflow_says_so():
    with pytest.raises(ConfigurationError, match=r"retry_policy needs Airflow 3\.3"):
        WriteImagingOperator(task_id="a", retry_policy=object(), **WRONG)
    with pytest.raises(ConfigurationError, match=r"OphysRetryPolicy needs Airflow 3\.3"):
        _ = retries.OphysRetryPolicy
    assert WriteImagingOperator(task_id="a", retry_policy=None, **WRONG).retries == 0
