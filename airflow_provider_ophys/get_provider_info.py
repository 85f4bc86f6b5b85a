"""What Airflow is told of this package: a literal without imports, for it is read in every process."""


def get_provider_info() -> dict[str, object]:
    """Return the description of the provider, as ``airflow/provider_info.schema.json`` wants it."""
    return {
        "package-name": "airflow-provider-ophys",
        "name": "Optical physiology",
        "description": "Turns calcium-imaging recordings into archived NWB files.",
        "integrations": [
            {
                "integration-name": "NWB",
                "external-doc-url": "https://www.nwb.org/",
                "tags": ["software"],
            },
        ],
        "operators": [
            {
                "integration-name": "NWB",
                "python-modules": [
                    "airflow_provider_ophys.operators.imaging",
                    "airflow_provider_ophys.operators.parallel",
                    "airflow_provider_ophys.operators.report",
                    "airflow_provider_ophys.operators.segmentation",
                    "airflow_provider_ophys.operators.session",
                    "airflow_provider_ophys.operators.staging",
                ],
            },
        ],
        "sensors": [
            {
                "integration-name": "NWB",
                "python-modules": ["airflow_provider_ophys.sensors.acquisition"],
            },
        ],
        "hooks": [
            {
                "integration-name": "NWB",
                "python-modules": ["airflow_provider_ophys.hooks.s3"],
            },
        ],
        "triggers": [
            {
                "integration-name": "NWB",
                "python-modules": ["airflow_provider_ophys.triggers.acquisition"],
            },
        ],
        "extra-links": [
            "airflow_provider_ophys.operators.lineage.NWBFileLink",
            "airflow_provider_ophys.operators.staging.StagedObjectLink",
        ],
        "config": {
            "ophys": {
                "description": "Defaults for all conversions that do not say otherwise.",
                "options": {
                    "memory_limit": {
                        "description": (
                            "Most memory that one conversion has in flight beyond its imports, in bytes or with "
                            "a unit. More than this makes nothing faster.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "1GiB",
                        "default": "256MiB",
                    },
                    "memory_fraction": {
                        "description": (
                            "Most of the memory that the worker has left (under every limit of the machine and "
                            "of its cgroups) that one conversion has in flight, between 0 and 1.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "float",
                        "example": "0.5",
                        "default": "0.25",
                    },
                    "threads": {
                        "description": (
                            "Threads that encode one conversion; 0 is one per CPU that the worker may use.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": "4",
                        "default": "0",
                    },
                    "preload": {
                        "description": (
                            "Import what conversions and reports need in the processes that fork tasks (a "
                            "scheduler with the LocalExecutor; a Celery worker with [core] lazy_load_plugins = "
                            "False), so that each task begins seconds sooner. It takes about 130 MB there, which "
                            "the tasks share.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "False",
                        "default": "True",
                    },
                    "allowed_roots": {
                        "description": (
                            "Folders that every path has to lead into that an operator is given (recordings, "
                            "metadata files, outputs, what is staged), links followed, separated by commas. "
                            "Nothing: all are allowed.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "/data/acquisitions,/data/nwb",
                        "default": "",
                    },
                    "report_roots": {
                        "description": (
                            "To which DAGs the web UI shows reports of a folder, or of s3://bucket/prefix: JSON, "
                            "by place a list of team:<name> and of DAG ids, which may have * in them. Reports of "
                            "other places are shown to each DAG that made them.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": '{"/data/nwb/lab_a": ["team:lab_a", "lab_a_*"]}',
                        "default": "",
                    },
                    "neurosift": {
                        "description": (
                            "Offer to open staged files in Neurosift, a web page of others, which is given an "
                            "address that opens the file for an hour. The bucket has to allow it (CORS).\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "lock": {
                        "description": (
                            "How two tasks are kept from writing one output: by a lock of the file system "
                            "(flock), or none, for shares without locks; it is then up to you that no two tasks "
                            "write to one path.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "none",
                        "default": "flock",
                    },
                    "allow_pickle": {
                        "description": (
                            "Read pickles in recordings (of suite2p and SIMA) that hold more than data, and run "
                            "what they run. Set it only if all who can write there may do what a worker may.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "True",
                        "default": "False",
                    },
                    "compression": {
                        "description": (
                            "Compression of all big datasets that do not name their own: fast, small or none.\n"
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "small",
                        "default": "fast",
                    },
                },
            },
        },
    }
