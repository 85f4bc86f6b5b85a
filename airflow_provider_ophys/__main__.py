"""``python -m airflow_provider_ophys``."""

from __future__ import annotations

from airflow_provider_ophys.terminal.commands import app

if __name__ == "__main__":
    app(prog_name="python -m airflow_provider_ophys")
