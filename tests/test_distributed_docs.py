"""What docs/distributed.md shows of Celery, Kubernetes and many workers works as it stands there."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.configuration import conf
from airflow.sdk import DAG
from airflow_versions import DagSerialization

from airflow_provider_ophys.models.conversion import ImagingConversion
from airflow_provider_ophys.operators.imaging import WriteImagingOperator
from airflow_provider_ophys.operators.parallel import write_imaging_in_parallel
from airflow_provider_ophys.operators.staging import StageToS3Operator

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "distributed.md").read_text()


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def block_with(text, part):
    (found,) = [block for block in blocks(text, "python") if part in block]
    return found


@pytest.fixture
def dag():
    """A DAG with all that the blocks leave out: the imports."""
    with DAG("shown") as dag:
        yield dag


def run(block, dag):
    scope = {
        "WriteImagingOperator": WriteImagingOperator,
        "StageToS3Operator": StageToS3Operator,
        "write_imaging_in_parallel": write_imaging_in_parallel,
    }
    exec(block, scope)
    return scope, DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))


def test_airflow_knows_every_setting_for_celery():
    import airflow.providers.celery.get_provider_info as celery

    (block,) = blocks(DOCS, "ini")
    shown = configparser.ConfigParser(interpolation=None)
    shown.read_string(block)
    of_celery = celery.get_provider_info()["config"]
    for section in shown.sections():
        for option in shown[section]:
            known = of_celery[section]["options"] if section in of_celery else None
            assert conf.has_option(section, option) if known is None else option in known, option


@pytest.mark.usefixtures("airflow_db")
def test_the_pool_can_be_made():
    (block,) = blocks(DOCS, "bash")
    program, *arguments = shlex.split(block)
    command = Path(sys.executable).with_name(program)
    done = subprocess.run(
        [command, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    assert "nwb_write" in done.stdout + done.stderr


def test_the_task_for_celery_takes_slots_of_that_pool(dag):
    _, back = run(block_with(DOCS, "WriteImagingOperator("), dag)
    task = back.get_task("movie")
    assert (task.pool, task.pool_slots, task.retries) == ("nwb_write", 2, 3)


def test_the_pod_override_fits_a_pod_of_airflow_and_the_tasks_memory(dag):
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    from kubernetes.client import models as k8s
    from kubernetes.utils import parse_quantity

    scope, back = run(block_with(DOCS, "pod_override"), dag)
    assert {task.task_id for task in back.tasks} == {"movie.plan", "movie.fill", "movie.publish"}
    base = k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", image="airflow")]))
    for task in dag.tasks:
        executor_config = (
            task.partial_kwargs["executor_config"] if task.task_id == "movie.fill" else task.executor_config
        )
        override = executor_config["pod_override"]
        pod = PodGenerator.reconcile_pods(base, override)
        (container,) = pod.spec.containers
        assert container.image == "airflow"
        assert container.volume_mounts[0].name == pod.spec.volumes[0].name == scope["STORAGE"].name
        # What Airflow sends to Kubernetes, and reads back from its own database.
        sent = PodGenerator.serialize_pod(pod)
        assert PodGenerator.deserialize_model_dict(sent).spec.containers[0].resources == container.resources
    needed = ImagingConversion.from_options(
        {"extractor": "x", "nwbfile_path": "x", "memory_limit": dag.get_task("movie.plan").memory_limit}
    ).memory_limit
    imports = 400 * 2**20
    assert parse_quantity(container.resources.requests["memory"]) >= needed + imports
    assert float(container.resources.requests["cpu"]) == dag.get_task("movie.plan").threads


def test_the_group_hands_its_result_on(dag):
    _, back = run(block_with(DOCS, "movie = write_imaging_in_parallel"), dag)
    assert back.get_task("stage").upstream_task_ids == {"movie.publish"}
