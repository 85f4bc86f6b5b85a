"""What is done from a terminal, without Airflow."""
