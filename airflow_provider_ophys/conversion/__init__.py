"""
How an NWB file comes to be: prepare, rehearse, allocate, fill, check, publish.

The same steps carry HDF5 and Zarr, new files and those that are added to, one process and many workers.
Usable without Airflow.
"""
