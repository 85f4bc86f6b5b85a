"""
The plugin as Airflow registers it, from the entry point ``airflow.plugins``.

Every process of Airflow imports this module, and only the API server needs the web pages: they are imported when
it asks for them.
"""

from __future__ import annotations

import threading
from typing import Any

from airflow_provider_ophys.compat import AirflowPlugin

URL_PREFIX = "/ophys"
# Without a leading slash: Airflow's page resolves it below the path of [api] base_url.
_PAGE = "ophys/"
_TASK = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"


class OphysPlugin(AirflowPlugin):
    """The page "Ophys" in the navigation, the tab "Report" of each task instance, and the app that serves both."""

    name = "ophys"
    external_views: list[dict[str, Any]] = [  # noqa: RUF012 -- as Airflow declares it
        {
            "name": "Ophys",
            "href": _PAGE,
            "url_route": "ophys",
            "destination": "nav",
            "nav_top_level": True,
            "icon": f"{_PAGE}static/icon.svg",
        },
        {
            "name": "Report",
            "href": f"{_PAGE}report?{_TASK}",
            "url_route": "ophys-report",
            "destination": "task_instance",
            "icon": f"{_PAGE}static/icon.svg",
        },
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # Airflow only reads it
        """The app and where it is mounted, built when the API server asks."""
        from sqlalchemy.orm import configure_mappers

        from airflow_provider_ophys.plugin.app import app
        from airflow_provider_ophys.plugin.listing import warm_up

        # Otherwise the first query does it, which imports all of Airflow's models under a lock: the thread below
        # would wait for an import of the API server's, and that import for the lock.
        configure_mappers()
        # Who looks first after a start should not wait for a year of sessions to be read.
        threading.Thread(target=warm_up, name="ophys-sessions", daemon=True).start()
        return [{"app": app, "url_prefix": URL_PREFIX, "name": "Ophys"}]
