"""What Airflow's web UI shows of us: the page "Ophys", and the report of a conversion as a tab of its task."""
