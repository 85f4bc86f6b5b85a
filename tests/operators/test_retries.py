"""What a retry cannot mend fails at once, what it can waits a sensible time, in real task runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import DAG, BaseOperator, ExceptionRetryPolicy, RetryAction, RetryRule
from airflow_runs import run_dag

from airflow_provider_ophys import exceptions
from airflow_provider_ophys.exceptions import (
    DiskSpaceError,
    OphysError,
    PreflightError,
    SourceDataError,
    StagingError,
)
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.segmentation import WriteSegmentationOperator
from airflow_provider_ophys.operators.staging import StageToS3Operator
from airflow_provider_ophys.retries import RETRY_POLICY, OphysRetryPolicy

LEAVES = [
    cls
    for cls in vars(exceptions).values()
    if isinstance(cls, type) and issubclass(cls, OphysError) and cls is not PreflightError
]
WRONG = {"extractor": "Nothing", "nwbfile_path": "/nowhere/a.nwb"}


def decide(error, policy=RETRY_POLICY):
    return policy.evaluate(error, 1, 3)


@pytest.mark.parametrize("error_class", [cls for cls in LEAVES if not cls.retryable])
def test_what_a_retry_cannot_mend_fails(error_class):
    assert decide(error_class("x")).action is RetryAction.FAIL


@pytest.mark.parametrize(
    "error_class", [cls for cls in LEAVES if cls.retryable and cls is not exceptions.AcquisitionAccessError]
)
def test_what_may_pass_is_tried_again_after_a_while(error_class):
    decision = decide(error_class("x"))
    assert decision.action is RetryAction.RETRY
    assert timedelta(seconds=10) <= decision.retry_delay <= timedelta(minutes=15)
    assert decision.reason


def test_disk_space_takes_longer_than_s3():
    assert decide(DiskSpaceError("x")).retry_delay > decide(StagingError("x")).retry_delay


def test_several_problems_are_tried_again_if_each_may_pass():
    passing = PreflightError.of([DiskSpaceError("x"), exceptions.MemoryBudgetError("y")])
    assert decide(passing).retry_delay == decide(DiskSpaceError("x")).retry_delay
    assert decide(PreflightError.of([DiskSpaceError("x"), SourceDataError("y")])).action is RetryAction.FAIL


def test_other_errors_are_airflows_business():
    assert decide(RuntimeError("x")).action is RetryAction.DEFAULT


def test_own_rules_come_first():
    policy = OphysRetryPolicy([RetryRule(SourceDataError, retry_delay=timedelta(hours=1))])
    assert decide(SourceDataError("x"), policy).retry_delay == timedelta(hours=1)
    assert decide(DiskSpaceError("x"), policy) == decide(DiskSpaceError("x"))


@pytest.mark.parametrize("operator", [WriteImagingOperator, WriteSegmentationOperator, StageToS3Operator])
def test_operators_have_the_policy_unless_told_otherwise(operator):
    options = {"source": "a", "destination": "s3://b/"} if operator is StageToS3Operator else WRONG
    other = ExceptionRetryPolicy([])
    assert operator(task_id="a", **options).retry_policy is RETRY_POLICY
    assert operator(task_id="a", **options, retry_policy=other).retry_policy is other
    assert operator(task_id="a", **options, retry_policy=None).retry_policy is None
    with DAG("defaults", default_args={"retry_policy": other}):
        assert operator(task_id="a", **options).retry_policy is other


class Fails(BaseOperator):
    def __init__(self, *, error: str, **kwargs):
        super().__init__(**kwargs)
        self.error = error

    def execute(self, context):  # noqa: ARG002
        raise getattr(exceptions, self.error)("so it is")


@pytest.mark.usefixtures("airflow_db")
def test_tasks_fail_at_once_or_are_tried_again():
    with DAG("policy") as dag:
        WriteImagingOperator(task_id="wrong", retries=3, **WRONG)
        WriteImagingOperator.partial(task_id="wrong_mapped", retries=3).expand_kwargs([WRONG, WRONG])
        shorter = OphysRetryPolicy([RetryRule(StagingError, retry_delay=timedelta(seconds=1))])
        Fails(task_id="passing", error="StagingError", retries=2, retry_policy=shorter)
    instances = run_dag(dag)
    tries = {name: [(one.state, one.try_number) for one in found] for name, found in instances.items()}
    assert tries == {
        "wrong": [("failed", 1)],
        "wrong_mapped": [("failed", 1), ("failed", 1)],
        "passing": [("failed", 3)],
    }
