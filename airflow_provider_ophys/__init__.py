"""Apache Airflow provider that turns calcium-imaging recordings into archived NWB files."""

__version__ = "0.1.0"
