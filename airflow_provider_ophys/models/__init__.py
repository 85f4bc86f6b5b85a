"""Pydantic models: what users write, checked; cheap to import while a DAG file is parsed."""
