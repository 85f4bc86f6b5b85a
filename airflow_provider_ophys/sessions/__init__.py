"""From a folder to all that is known of its session: recordings, metadata, and where each fact stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_ophys.sessions.describe import describe_session

__all__ = ["describe_session"]


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use: DAG files import this package."""
    if name in __all__:
        from airflow_provider_ophys.sessions import describe

        return getattr(describe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
