"""One table of what an acquisition folder may look like, for the rule itself, the sensor and the triggers."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_ophys.compat import VariableStore

SETTLE = 0.3


def put(folder: Path, *names: str, size: int = 10) -> Path:
    """Write files of some bytes, with the folders they need."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * size)
    return folder


@dataclass(frozen=True)
class State:
    """A folder, the options it is judged by, and what must come out; ``why`` is part of the log."""

    name: str
    build: Callable[[Path], object]
    complete: bool
    options: dict[str, Any] = field(default_factory=dict)
    why: str = ""

    def __str__(self) -> str:
        return self.name


def files(*names: str, size: int = 10) -> Callable[[Path], object]:
    return lambda folder: put(folder, *names, size=size)


def _link_out(folder: Path) -> None:
    elsewhere = put(folder.parent.parent / "elsewhere", "movie.tif")
    folder.mkdir()
    (folder / "movie.tif").symlink_to(elsewhere / "movie.tif")


def _link_within(folder: Path) -> None:
    folder.mkdir()
    (folder / "movie.tif").symlink_to(put(folder.parent / ".store", "movie.tif") / "movie.tif")
    (folder / "more").symlink_to(put(folder.parent / ".store2", "more.tif"))


def _link_in_circles(folder: Path) -> None:
    put(folder, "movie.tif")
    (folder / "here").symlink_to(folder)
    (folder / "up").symlink_to(folder.parent)
    (folder / "itself").symlink_to(folder / "itself")


MARKER = {"marker_file": "DONE"}
STATES = [
    State("quiet", files("movie.tif"), complete=True),
    State("quiet, nested files", files("a/b/movie.tif", "notes.txt"), complete=True),
    State("empty", lambda folder: folder.mkdir(), complete=False, why="no recording in it yet"),
    State("only ignored files", files(".DS_Store", "Thumbs.db"), complete=False, why="no recording in it yet"),
    State("marker there", files("movie.tif", "DONE"), complete=True, options=MARKER),
    State("marker missing", files("movie.tif"), False, MARKER, why="waiting for its marker 'DONE'"),
    State("marker too deep", files("movie.tif", "sub/DONE"), False, MARKER, why="waiting for its marker"),
    State("marker by glob", files("movie.tif", "run_7.done"), True, {"marker_file": "*.done"}),
    State("marker at any depth", files("a/b/DONE", "movie.tif"), True, {"marker_file": "**/DONE"}),
    State("marker hidden", files("movie.tif", ".done"), True, {"marker_file": ".done"}),
    State("marker given as nothing", files("movie.tif"), True, {"marker_file": ""}),
    State("required there", files("m_1.tif", "s2p/F.npy"), True, {"required_files": ["*.tif", "s2p/F.npy"]}),
    State(
        "required missing", files("m.tif"), False, {"required_files": ["*.tif", "*.xml"]}, "waiting for '*.xml'"
    ),
    State("required beside marker", files("DONE"), False, {**MARKER, "required_files": ["*.tif"]}, "'*.tif'"),
    State("required is only hidden", files("m.tif", ".x.xml"), False, {"required_files": "*.xml"}, "'*.xml'"),
    State("big enough", files("m.tif", size=2000), True, {"min_size": "2kB"}),
    State("too small", files("m.tif", size=1999), False, {"min_size": 2000}, why="waiting for 2.0 kB"),
    State("enough files", files("1.tif", "2.tif"), True, {"min_files": 2}),
    State("too few files", files("1.tif", ".hidden"), False, {"min_files": 2}, why="waiting for 2 files"),
    State("browser download", files("movie.tif", "x.tif.part"), False, why="x.tif.part is still being written"),
    State("temporary, in capitals", files("movie.tif", "X.TMP"), False, why="X.TMP is still being written"),
    State("rsync at work", files("m.tif", "sub/.m2.tif.Zk31xQ"), False, why="still being written"),
    State("rsync at work, marker there", files("DONE", ".m.tif.a1B2c3"), False, MARKER, why="still being written"),
    State("rsync partial folder", files("m.tif", ".~tmp~/m2.tif"), False, why=".~tmp~ is still being written"),
    State("own incomplete pattern", files("m.tif", "LOCK"), False, {"incomplete": ["LOCK"]}, why="LOCK is still"),
    State("hidden files do not matter", files("m.tif", ".DS_Store", ".git/HEAD"), True),
    State("link out of the root", _link_out, False, why="movie.tif leads out of the watched folder"),
    State("links within the root", _link_within, True, {"min_files": 2}),
    State("links in circles", _link_in_circles, True),
    State("odd names", files("Zellen µm [1]/mövie *.tif"), True),
]


class DictStore:
    """A state store in memory that, like Airflow's, takes JSON only and no None."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    def set(self, key: str, value: Any) -> None:
        if value is None:
            raise ValueError("Cannot set value as None")
        assert key.isascii()
        assert len(key) <= 512
        self.values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    @property
    def names(self) -> list[str]:
        """The folders that are entered."""
        entered = [json.loads(value) for key, value in self.values.items() if key.startswith("acquisition:")]
        return sorted(entry["name"] for entry in entered)


class Pipe:
    """The end of Airflow's pipe to the supervisor, with one store per asset behind it."""

    def __init__(self, **stores: DictStore) -> None:
        self.stores = stores

    def send(self, message: Any) -> Any:
        if message.type.endswith("Variable"):
            return self._send_variable(message)
        from airflow.sdk.execution_time.comms import AssetStateStoreResult, ErrorResponse, ErrorType, OKResponse

        store = self.stores[message.name]
        if message.type == "SetAssetStateStoreByName":
            store.set(message.key, message.value)
            return OKResponse(ok=True)
        if (value := store.get(message.key)) is None:
            return ErrorResponse(error=ErrorType.ASSET_STORE_NOT_FOUND)
        return AssetStateStoreResult(value=value)

    def _send_variable(self, message: Any) -> Any:
        """The same, for an Airflow that has no state stores."""
        from airflow.sdk.execution_time.comms import ErrorResponse, ErrorType, OKResponse, VariableResult

        owners = {VariableStore("asset", name)._prefix: store for name, store in self.stores.items()}
        prefix, key = message.key[: len(next(iter(owners)))], message.key[len(next(iter(owners))) + 1 :]
        # The name of a Variable lacks the end of a long key.
        key = next((whole for whole in owners[prefix].values if f"{whole}:".startswith(f"{key}:")), key)
        if message.type == "PutVariable":
            owners[prefix].set(key, json.loads(message.value))
            return OKResponse(ok=True)
        if (value := owners[prefix].get(key)) is None:
            return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND)
        return VariableResult(key=message.key, value=json.dumps(value))


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """A folder that its user can lock, while the test runs as a user for whom locks hold (not as root)."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)
