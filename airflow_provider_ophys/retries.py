"""
What Airflow does with our errors: fail at once what a retry cannot mend, and wait before what it can.

Airflow 3.3 and later decide by :class:`OphysRetryPolicy`. Before, an error that a retry cannot mend is turned into
``AirflowFailException``, and what it can is tried again after the task's own ``retry_delay``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

from airflow_provider_ophys.compat import HAS_RETRY_POLICIES, AirflowFailException
from airflow_provider_ophys.exceptions import ConfigurationError, OphysError

if TYPE_CHECKING:
    from airflow.sdk import RetryPolicy

    from airflow_provider_ophys.retry_policy import RETRY_RULES, OphysRetryPolicy

__all__ = [
    "RETRY_POLICY",
    "RETRY_RULES",
    "TASK_RETRIES",
    "OphysRetryPolicy",
    "decides_on_retries",
    "fail_without_retry",
    "policy_argument",
]


def _default_policy() -> RetryPolicy | None:
    if not HAS_RETRY_POLICIES:
        return None
    from airflow_provider_ophys.retry_policy import OphysRetryPolicy

    return OphysRetryPolicy()


# Of our operators; None where Airflow has no retry policies.
RETRY_POLICY = _default_policy()


def __getattr__(name: str) -> Any:
    if name not in ("OphysRetryPolicy", "RETRY_RULES"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not HAS_RETRY_POLICIES:
        raise ConfigurationError(f"{name} needs Airflow 3.3 or later, which brought retry policies.")
    from airflow_provider_ophys import retry_policy

    return getattr(retry_policy, name)


def policy_argument(policy: RetryPolicy | None) -> dict[str, Any]:
    """
    Return what is handed to Airflow's operator for a task's retry policy.

    :raises ConfigurationError: If there is one and Airflow has no retry policies.
    """
    if HAS_RETRY_POLICIES:
        return {"retry_policy": policy}
    if policy is not None:
        raise ConfigurationError(
            "retry_policy needs Airflow 3.3 or later. Leave it out: what a retry cannot mend fails at once anyway."
        )
    return {}


# For a task of one's own: @task(**TASK_RETRIES), and @decides_on_retries below it.
TASK_RETRIES = policy_argument(RETRY_POLICY)


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """
    Turn errors that a retry cannot mend into ``AirflowFailException``, which Airflow's sensors let pass.

    A sensor's ``silent_fail`` and ``soft_fail`` know no retry policy: any other error would be looked at again and
    again until the timeout. Operators and tasks have :class:`OphysRetryPolicy` instead.

    :raises AirflowFailException: In place of an :class:`OphysError` that is not retryable.
    """
    try:
        yield
    except OphysError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error


def decides_on_retries[**P, R](execute: Callable[P, R]) -> Callable[P, R]:
    """Let an error of ours that a retry cannot mend fail the task at once, where Airflow has no retry policies."""
    if HAS_RETRY_POLICIES:
        return execute

    @wraps(execute)
    def failing(*args: P.args, **kwargs: P.kwargs) -> R:
        with fail_without_retry():
            return execute(*args, **kwargs)

    return failing
