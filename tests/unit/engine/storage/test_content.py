from __future__ import annotations

from pathlib import Path

import pytest

from kitepy.engine.model.errors import InvalidParameter
from kitepy.engine.model.oci import Digest, digest_of
from kitepy.engine.storage.content import ContentStore


def test_a_blob_is_invisible_until_it_is_complete(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with store.writer(digest_of(b"hello")) as writer:
        writer.write(b"hel")
        writer.write(b"lo")
        assert list(store.digests()) == []
        writer.commit()
    assert store.path(digest_of(b"hello")).read_bytes() == b"hello"
    assert list((tmp_path / "content/ingest").iterdir()) == []


def test_content_that_is_not_what_was_announced_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    with store.writer(digest_of(b"other")) as writer:
        writer.write(b"hello")
        with pytest.raises(InvalidParameter, match="does not match its digest"):
            writer.commit()
    assert list(store.digests()) == []
    assert list((tmp_path / "content/ingest").iterdir()) == []


def test_what_a_crash_left_half_written_is_removed_at_start(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    store.new_ingest_path().write_bytes(b"half")
    directory = store.new_ingest_path()
    directory.mkdir()
    (directory / "0").write_bytes(b"half")
    kept = store.put(b"whole")
    assert ContentStore(tmp_path).remove_leftovers() == 2
    assert list((tmp_path / "content/ingest").iterdir()) == []
    assert kept in store


@pytest.mark.parametrize("digest", ["sha256:../../etc/passwd", "sha256:" + "a" * 63, "", "sha512:" + "a" * 128])
def test_a_digest_never_becomes_a_path_elsewhere(tmp_path: Path, digest: str) -> None:
    with pytest.raises(InvalidParameter):
        ContentStore(tmp_path).path(Digest(digest))


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    digest = store.put(b"x")
    store.remove(digest)
    store.remove(digest)
    assert digest not in store
