"""What Airflow does with our errors: fail at once what a retry cannot mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_ophys.exceptions import OphysError


@contextmanager
def fail_without_retry() -> Iterator[None]:
    """
    Turn errors that a retry cannot mend into ``AirflowFailException``, which ends the task's tries.

    A mistyped key stays mistyped on the second try, so retrying it only delays the message; errors that are
    ``retryable`` (S3, memory, a stopped conversion) pass unchanged and keep the task's retries.

    :raises AirflowFailException: In place of an :class:`OphysError` that is not retryable.
    """
    try:
        yield
    except OphysError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error
