"""A soak begins in a folder of its own."""

import pytest

from live_bcdi.faults import new_folder
from live_bcdi.types import ScanError


def test_a_folder_with_files_is_refused(tmp_path):
    made = new_folder(tmp_path / "new" / "soak")
    assert made.is_dir()
    assert new_folder(made) == made
    (made / "report.json").write_text("")
    with pytest.raises(ScanError, match="not empty"):
        new_folder(made)


def test_without_one_it_is_temporary():
    made = new_folder(None)
    assert made.is_dir()
    made.rmdir()
