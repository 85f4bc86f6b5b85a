"""What a folder holds is known, or an error: a share that fails does not make it look empty."""

from __future__ import annotations

import errno

import pytest
from failing_calls import run_with_failures, why_not

from airflow_provider_ophys.exceptions import SourceAccessError
from airflow_provider_ophys.models.allowed_roots import check_allowed_recording
from airflow_provider_ophys.models.folder_contents import is_there, matching, walk
from airflow_provider_ophys.recordings.recording import files_below
from airflow_provider_ophys.recordings.zarr_links import require_no_links_out
from airflow_provider_ophys.recordings.zarr_store import store_files

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

SEARCHES = {
    "by a pattern": lambda folder: [path.name for path in matching(folder, "*.avi")],
    "all below": lambda folder: [names for _, _, names in walk(folder)],
    "by name": lambda folder: is_there(folder / "0.avi"),
    "of a recording": lambda folder: [file.name for file in files_below(folder)],
    "of a store": lambda folder: [file.name for file in store_files(folder, folder)],
    "links in a store": require_no_links_out,
    "links in an argument": lambda folder: check_allowed_recording({"folder_path": str(folder)}, [folder.parent]),
}


@pytest.mark.parametrize("search", SEARCHES)
def test_a_folder_that_cannot_be_listed_is_an_error_and_not_empty(search, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("0.avi", "1.avi"):
        (folder / name).touch()

    def look(failing):
        def fails(call):
            return errno.EIO if call.name in failing and call.path.startswith(str(folder)) else 0

        def found():
            try:
                return SEARCHES[search](folder)
            except OSError as error:
                return f"{type(error).__name__}: {error}"

        return run_with_failures(found, fails)

    assert "Error" not in str(look(set()))
    assert "Error" in look({"lstat", "newfstatat", "statx"} if search == "by name" else {"getdents64"})


def test_nothing_is_found_where_nothing_is(tmp_path):
    (tmp_path / "file").touch()
    assert matching(tmp_path / "nowhere", "*") == matching(tmp_path / "file", "*") == []
    assert not is_there(tmp_path / "nowhere")
    assert not is_there(tmp_path / "file" / "below")


def test_an_argument_that_cannot_be_searched_for_links_is_tried_again(tmp_path):
    (tmp_path / "folder").mkdir()

    def check():
        with pytest.raises(SourceAccessError, match="cannot be searched for links") as error:
            check_allowed_recording({"folder_path": str(tmp_path / "folder")}, [tmp_path])
        return error.value.retryable

    assert run_with_failures(check, lambda call: errno.EIO if call.name == "getdents64" else 0)
