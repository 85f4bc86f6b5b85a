"""A store whose certificate only a CA bundle of one's own knows: an https proxy before the real server."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from faulty_proxy import FaultyProxy
from s3_trees import make_tree, published
from s3_views import Place, Requests

from airflow_provider_ophys.exceptions import ConfigurationError
from airflow_provider_ophys.hooks.s3 import OphysS3Hook
from airflow_provider_ophys.staging.files import PART_SIZE
from demo.s3_server import S3Server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(tz=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(certificate.public_bytes(pem) + private)
    return path


@pytest.fixture
def proxy(server: S3Server, certificate: Path) -> Iterator[FaultyProxy]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with FaultyProxy(server.endpoint_url, lambda *_: None, tls=tls) as proxy:
        yield proxy


def _connect(monkeypatch: pytest.MonkeyPatch, server: S3Server, proxy: FaultyProxy, **extra: object) -> None:
    connection = server.connection()
    connection["extra"] |= {"endpoint_url": proxy.endpoint_url, **extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))


@pytest.fixture(params=["tree", "file"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "tree":
        return make_tree(tmp_path / "session.nwb.zarr")
    path = tmp_path / "session.nwb"
    path.write_bytes(os.urandom(PART_SIZE + 5))
    return path


@pytest.mark.parametrize("given", ["option", "connection"])
def test_store_is_trusted_by_its_ca_bundle(
    server: S3Server,
    proxy: FaultyProxy,
    place: Place,
    source: Path,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    _connect(monkeypatch, server, proxy, **({"verify": str(certificate)} if given == "connection" else {}))
    hook = OphysS3Hook(verify=str(certificate) if given == "option" else None, max_concurrency=2)
    requests = Requests(hook)
    hook.publish(source, place.uri)
    assert bool(requests.repeated) == source.is_dir()
    assert place.contents() == (published(source) if source.is_dir() else {source.name: source.read_bytes()})
    hook.conn.close()


def test_store_that_is_not_trusted_gets_nothing(
    server: S3Server, proxy: FaultyProxy, place: Place, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _connect(monkeypatch, server, proxy)
    hook = OphysS3Hook()
    with pytest.raises(ConfigurationError, match=r"not trusted.*CA bundle as 'verify'.*'aws_default'"):
        hook.publish(tree, place.uri)
    assert place.listing() == []
    hook.conn.close()
