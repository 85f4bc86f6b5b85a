"""Whether and when Airflow tries a task again, by the error; where Airflow has retry policies, as since 3.3."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule

from airflow_provider_ophys.exceptions import (
    ConversionStoppedError,
    DiskSpaceError,
    MemoryBudgetError,
    OphysError,
    OutputBusyError,
    OutputWriteError,
    PreflightError,
    SourceAccessError,
    SourceChangedError,
    StagingError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

RETRY_RULES = (
    RetryRule(ConversionStoppedError, retry_delay=timedelta(seconds=10), reason="The task was told to stop."),
    RetryRule(OutputBusyError, retry_delay=timedelta(minutes=1), reason="Another task is writing the output."),
    RetryRule(StagingError, retry_delay=timedelta(minutes=1), reason="S3 failed."),
    RetryRule(MemoryBudgetError, retry_delay=timedelta(minutes=5), reason="Memory is short."),
    RetryRule(SourceChangedError, retry_delay=timedelta(minutes=5), reason="The recording is still growing."),
    RetryRule(SourceAccessError, retry_delay=timedelta(minutes=5), reason="The recording's disk or share fails."),
    # Somebody has to free space; it stands before the class that it belongs to.
    RetryRule(DiskSpaceError, retry_delay=timedelta(minutes=15), reason="The output's disk is full."),
    RetryRule(OutputWriteError, retry_delay=timedelta(minutes=5), reason="The output's disk or share fails."),
)


class OphysRetryPolicy(ExceptionRetryPolicy):
    """
    Decides by the error whether and when a task is tried again; the default of our operators.

    What a retry cannot mend (:attr:`OphysError.retryable`) fails at once, whatever ``retries`` says. What it can
    is retried after the delay of :data:`RETRY_RULES` for its class, up to ``retries`` times. Errors that are not
    ours are treated as Airflow would without a policy.

    :param rules: Looked at before all of that: the first that matches an error decides.
    """

    def __init__(self, rules: Sequence[RetryRule] = ()) -> None:
        super().__init__(rules=[*rules, *RETRY_RULES])
        self._own_rules = list(rules)

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide on one failure."""
        own = any(rule.matches(exception) for rule in self._own_rules)
        if not own and isinstance(exception, OphysError) and not exception.retryable:
            return RetryDecision.fail("A retry cannot mend this.")
        decision = super().evaluate(exception, try_number, max_tries, context)
        if decision.action is RetryAction.DEFAULT and isinstance(exception, PreflightError):
            # Each of its problems may pass, and the longest delay is long enough for any.
            return RetryDecision.retry(_longest_delay(), "All that is in the way may pass.")
        return decision


def _longest_delay() -> timedelta:
    return max(rule.retry_delay for rule in RETRY_RULES if rule.retry_delay is not None)
