"""What Airflow's Variables keep where it has no state stores; all versions have Variables, so all try it."""

from __future__ import annotations

import pytest
from airflow.sdk import DAG, Asset, task
from airflow_runs import result_of, run_dag

from airflow_provider_ophys import compat
from airflow_provider_ophys.acquisition.ledger import Folder
from airflow_provider_ophys.compat import VariableStore


def test_a_store_in_variables_keeps_plain_json_until_it_is_deleted(airflow_db, tmp_path):
    key = Folder.below(tmp_path, "a folder of ümlauts & spaces/" + "long " * 60).key
    entry = {"path": "/data/rec", "anchor": {"size": 3, "mtime_ns": 2**62}}

    with DAG("store_in_variables") as dag:

        @task
        def keep():
            store, other = VariableStore("asset", "one"), VariableStore("asset", "two")
            before = store.get(key)
            store.set(key, entry)
            store.set(key, {**entry, "again": True})
            kept, of_another = store.get(key), other.get(key)
            store.delete(key)
            store.delete(key)
            return [before, kept, of_another, store.get(key), store.get(key, [])]

        keep()
    (instance,) = run_dag(dag)["keep"]
    assert result_of(instance) == [None, {**entry, "again": True}, None, None, []]


def test_a_task_keeps_for_its_later_tries_and_with_assets_that_the_dag_file_names(airflow_db):
    named = Asset("stores_named")

    with DAG("stores_of_a_task") as dag:

        @task(inlets=[named])
        def keep(**context):
            nothing = compat.task_store(context).get("look", {})
            compat.task_store(context).set("look", [1])
            compat.asset_store(context, named).set("acquisition:1", {"name": "rec"})
            with pytest.raises(KeyError):
                compat.asset_store(context, Asset("stores_not_named"))
            return [
                nothing,
                compat.task_store(context).get("look", {}),
                compat.asset_store(context, named).get("acquisition:1"),
            ]

        keep()
    (instance,) = run_dag(dag)["keep"]
    assert result_of(instance) == [{}, [1], {"name": "rec"}]
