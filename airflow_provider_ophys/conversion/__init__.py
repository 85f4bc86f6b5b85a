"""
How an NWB file comes to be: prepare, rehearse, allocate, fill, check, publish.

The same steps carry HDF5 and Zarr, new files and those that are added to, one process and many workers.
Usable without Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_ophys.conversion.writers import write_session

__all__ = ["write_session"]


def __getattr__(name: str) -> Any:
    """Load what is asked for on first use: it takes pynwb, which takes seconds to load."""
    if name in __all__:
        from airflow_provider_ophys.conversion import writers

        return getattr(writers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
