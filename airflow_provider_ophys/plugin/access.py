"""
Who may see what: as Airflow's own API decides it.

Airflow does not put a plugin's app behind its login. So each page asks for the user of the request's token, and
for each DAG whether that user may read what its tasks returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, HTTPException, Query, status

from airflow_provider_ophys.compat import teams_of_dags
from airflow_provider_ophys.plugin.tasks import TaskKey

# What the pages show of a DAG.
_SHOWN = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
# What is left in the address of a tab for a task that is not mapped.
_NO_INDEX = "{MAP_INDEX}"


def readable(dag_ids: Iterable[str], user: GetUserDep) -> set[str]:
    """Pick the DAGs whose results a user may read."""
    teams = teams_of_dags(wanted := list(dag_ids))
    details = {dag_id: DagDetails(id=dag_id, team_name=teams.get(dag_id)) for dag_id in wanted}
    return {dag_id for dag_id in wanted if _may_read(details[dag_id], user)}


def team_of(dag_id: str) -> str | None:
    """Look up the team that a DAG belongs to; ``None`` when there are none."""
    return teams_of_dags([dag_id]).get(dag_id)


def _may_read(dag: DagDetails, user: GetUserDep) -> bool:
    manager = get_auth_manager()
    return all(
        manager.is_authorized_dag(method="GET", access_entity=entity, details=dag, user=user) for entity in _SHOWN
    )


def _readable_task(
    dag_id: Annotated[str, Query()],
    run_id: Annotated[str, Query()],
    task_id: Annotated[str, Query()],
    user: GetUserDep,
    map_index: Annotated[str, Query(pattern=r"^(-?\d{1,9}|\{MAP_INDEX\})$")] = "-1",
) -> TaskKey:
    if not readable([dag_id], user):
        raise HTTPException(status.HTTP_403_FORBIDDEN, "You may not read the results of this DAG.")
    return TaskKey(dag_id, run_id, task_id, -1 if map_index == _NO_INDEX else int(map_index))


# The task instance that a request is about; the request is refused unless its user may read what it returned.
ReadableTask = Annotated[TaskKey, Depends(_readable_task)]
