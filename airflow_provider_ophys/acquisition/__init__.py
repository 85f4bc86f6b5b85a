"""
The only rule for "this acquisition folder is complete" and "this acquisition folder is new".

A microscope, a copy tool or a network share fills a folder over minutes or hours. The sensor and the triggers
ask here whether the folder may be handed over. Nothing here knows Airflow, and nothing waits.

- ``options``: what is watched and what complete means
- ``readiness``: judges what one look at a folder saw (pure)
- ``ledger``: tells a recording that was handed over from a new one of the same name
- ``tree``: reads folders from disk
- ``scan``: does so once for all who watch the same folder
- ``clocks``: how much time has passed between two processes
- ``watch``: joins these over many looks
"""

from __future__ import annotations

from airflow_provider_ophys.acquisition.clocks import Clocks
from airflow_provider_ophys.acquisition.ledger import Acquisition
from airflow_provider_ophys.acquisition.options import (
    DEFAULT_IGNORE,
    DEFAULT_INCOMPLETE,
    DEFAULT_SETTLE_SECONDS,
    AcquisitionOptions,
    is_rendered_later,
    takes_acquisition_options,
)
from airflow_provider_ophys.acquisition.scan import Scan, shared_scan
from airflow_provider_ophys.acquisition.watch import AcquisitionWatch, Ledger

__all__ = [
    "DEFAULT_IGNORE",
    "DEFAULT_INCOMPLETE",
    "DEFAULT_SETTLE_SECONDS",
    "Acquisition",
    "AcquisitionOptions",
    "AcquisitionWatch",
    "Clocks",
    "Ledger",
    "Scan",
    "is_rendered_later",
    "shared_scan",
    "takes_acquisition_options",
]
