from pathlib import Path

import pytest

from aiflow_blob_manager_local.blob_manager import LocalBlobManager
from aiflow_core.errors import UnavailableError, UsageError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.blob_manager import BlobManagerContract


class TestLocalBlobManager(BlobManagerContract):
    foreign_uri = "/etc/passwd"

    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobManager:
        return LocalBlobManager(str(tmp_path / "root"))

    def test_finds_files_by_content_under_its_root(self, blobs: BlobManager, file: Path) -> None:
        uri = Path(blobs.upload(file))

        assert uri.is_relative_to(file.parent / "root")
        assert uri.parent.name == uri.name[:2]

    def test_another_manager_of_the_same_directory_finds_the_file(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        other = LocalBlobManager(str(tmp_path / "root"))

        assert other.download(blobs.upload(file), tmp_path / "d").is_file()

    @pytest.mark.parametrize("name", ["../secret", "ab/../../secret", "ab/secret", ".."])
    def test_a_uri_that_leads_out_of_the_root_is_refused(
        self, blobs: BlobManager, tmp_path: Path, name: str
    ) -> None:
        (tmp_path / "secret").touch()

        with pytest.raises(UsageError, match="is not the uri of a blob"):
            blobs.download(str(tmp_path / "root" / name), tmp_path / "d")

    def test_a_damaged_blob_is_not_delivered(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload(file)
        Path(uri).write_bytes(b"not what it was")

        with pytest.raises(UnavailableError, match="damaged"):
            blobs.download(uri, tmp_path / "d")
        assert not list((tmp_path / "d").iterdir())

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
