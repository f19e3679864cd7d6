from pathlib import Path

import pytest

from aiflow_blob_manager_local.blob_manager import LocalBlobManager
from aiflow_core.errors import UnavailableError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blob_manager import BlobManagerContract, Make


class TestLocalBlobManager(BlobManagerContract):
    foreign_uri = "/etc/passwd"

    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda root: LocalBlobManager(str(tmp_path / "store" / root))

    def test_finds_files_by_content_under_its_root(self, blobs: BlobManager, file: Path) -> None:
        uri = Path(blobs.upload(file))

        assert uri.is_relative_to(file.parent / "store" / "root")
        assert uri.parent.name == uri.name[:2]

    def test_a_root_that_cannot_be_made_is_reported(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "root").touch()

        with pytest.raises(UnavailableError, match="cannot be used"):
            LocalBlobManager(str(tmp_path / "root")).upload(file)

    def test_the_root_may_name_environment_variables(
        self, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOMEWHERE", str(tmp_path / "there"))

        uri = LocalBlobManager("${SOMEWHERE}/blob").upload(file)

        assert uri.startswith(str(tmp_path / "there" / "blob"))
