"""
One step of writing a movie to Zarr, in a process of its own; prints what it cost, without imports, as JSON.

    parallel_step.py one     CONVERSION             # all of it, as WriteImagingOperator does
    parallel_step.py plan    CONVERSION             # prints the plan too
    parallel_step.py fill    PLAN NUMBER-OF-SHARE
    parallel_step.py publish PLAN                   # tells besides what looking at all shards took
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from airflow_provider_ophys.extractors import find_extractor
from airflow_provider_ophys.models.backend import ZarrBackendConfiguration
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.plan import ImagingPlan, ParallelImagingConversion
from airflow_provider_ophys.nwb.backend import ZarrStorage
from airflow_provider_ophys.nwb.conversion import convert_imaging
from airflow_provider_ophys.nwb.parallel import fill_share, plan_imaging, publish_imaging


def run(step: str, told: dict[str, Any], number: int) -> dict[str, Any]:
    """Do one step; return what the next one needs."""
    match step:
        case "one":
            convert_imaging(ImagingConversion.from_options(told))
        case "plan":
            return plan_imaging(ParallelImagingConversion.from_options(told)).to_json()
        case "fill":
            plan = ImagingPlan.model_validate(told)
            fill_share(plan, plan.shares[number])
        case "publish":
            publish_imaging(ImagingPlan.model_validate(told), [])
    return {}


def look(told: dict[str, Any]) -> float:
    """Look whether all shards are there, as publishing does; return the seconds that it took."""
    plan = ImagingPlan.model_validate(told)
    begun = time.monotonic()
    grid = ZarrStorage(ZarrBackendConfiguration(), "fast").grid(Path(plan.part), plan.dataset_path)
    grid.missing_bands(range(grid.num_bands))
    return time.monotonic() - begun


if __name__ == "__main__":
    step, told, *number = sys.argv[1:]
    # Of the import of roiextractors, which the first use would begin.
    find_extractor("imaging", "ScanImageImagingExtractor")
    import hdmf_zarr  # noqa: F401

    look_seconds = look(json.loads(told)) if step == "publish" else 0.0
    wall, cpu = time.monotonic(), time.process_time()
    plan = run(step, json.loads(told), int(number[0]) if number else 0)
    figures = {"wall_seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(figures | {"look_seconds": look_seconds, "plan": plan}))
