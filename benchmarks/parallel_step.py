"""
One step of writing a movie to Zarr, in a process of its own; prints what it cost, without imports, as JSON.

    parallel_step.py one     CONVERSION             # all of it, as WriteImagingOperator does
    parallel_step.py plan    CONVERSION             # prints the plan too
    parallel_step.py fill    PLAN NUMBER-OF-SHARE
    parallel_step.py publish PLAN

``open_seconds`` is what opening the recording takes in such a step, of which it is a part.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from airflow_provider_ophys.conversion.many_workers import fill_share, plan_imaging, publish_imaging
from airflow_provider_ophys.conversion.run import convert_imaging
from airflow_provider_ophys.extractors import open_imaging
from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.models.plan import ImagingPlan, ParallelImagingConversion


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


def open_recording(step: str, told: dict[str, Any]) -> float:
    """Open the recording as a step does; return the seconds that it took."""
    after_plan = step in ("fill", "publish")
    options = told["conversion"] if after_plan else told
    begun = time.monotonic()
    open_imaging(options["extractor"], options["extractor_kwargs"], check=not after_plan)
    return time.monotonic() - begun


if __name__ == "__main__":
    step, told, *number = sys.argv[1:]
    import hdmf_zarr  # noqa: F401

    # The first time it imports roiextractors, and what that needs for such a recording.
    open_recording(step, json.loads(told))
    open_seconds = open_recording(step, json.loads(told))
    wall, cpu = time.monotonic(), time.process_time()
    plan = run(step, json.loads(told), int(number[0]) if number else 0)
    figures = {"wall_seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps(figures | {"open_seconds": open_seconds, "plan": plan}))
