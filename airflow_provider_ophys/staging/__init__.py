"""
Publishing a finished NWB file or Zarr tree in an S3 bucket: whole or not at all, and every byte checked.

- ``plan``: which objects a source becomes, and what is refused (pure)
- ``files``, ``checksums``, ``comparison``: local files, their checksums, and what a listing lacks of them (pure)
- ``parallel``: many requests at a time, within a memory limit, until somebody stops them
- ``options``, ``extra_args``, ``result``, ``manifest``: how to stage, what came of it, what a tree consists of
- ``bucket``, ``multipart``, ``documents``, ``lease``, ``conditional``, ``versions``: the requests
- ``repetition``, ``listing``: the same requests in less of the processor's time
- ``transfer``, ``publication``, ``audit``: the order in which they are made
- ``local_deletion``, ``progress``: what becomes of the source, and what the log says meanwhile

``OphysS3Hook`` brings the client; nothing here knows Airflow, and only what makes requests knows boto3.
"""

from __future__ import annotations

from airflow_provider_ophys.staging.plan import Destination, StagingPlan, local_source, plan_staging

__all__ = ["Destination", "StagingPlan", "local_source", "plan_staging"]
