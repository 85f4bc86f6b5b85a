"""
Publishing a finished NWB file or Zarr tree in an S3 bucket: whole or not at all, and every byte checked.

- ``plan``, ``options``: which objects a source becomes and what is refused, and how to stage it (pure)
- ``files``, ``checksums``, ``local_deletion``: local files, read, watched, and deleted when all is there
- ``store``: what is needed of a store of objects; ``s3_store``, ``s3_errors`` and ``s3_shortcuts`` do it for S3
- ``workers``, ``sending``: many requests at a time, and one file as one object
- ``transfer``, ``publication``: what is there and what is sent, and in which order
- ``lease``, ``manifest``, ``versions``: one writer at a time, what a tree consists of, and which content is newest
- ``audit``, ``reading``: what was staged, looked at and read where it is

``OphysS3Hook`` brings the client; nothing here knows Airflow, and only the ``s3_*`` files know boto3.
"""

from __future__ import annotations

from airflow_provider_ophys.staging.plan import Destination, StagingPlan, local_source, plan_staging

__all__ = ["Destination", "StagingPlan", "local_source", "plan_staging"]
