from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kitepy.engine.model.errors import Conflict, InvalidParameter, SystemFailure
from kitepy.engine.model.oci import Digest, digest_of
from kitepy.engine.storage.content import ContentStore
from kitepy.engine.storage.partials import LONGEST_KEPT_S


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


def test_a_blob_that_arrives_over_several_engines_is_visible_when_it_is_whole(tmp_path: Path) -> None:
    digest = digest_of(b"hello")
    first = ContentStore(tmp_path).partial(digest)
    first.append(b"hel")
    first.close()

    store = ContentStore(tmp_path)
    assert store.remove_leftovers() == 0
    second = store.partial(digest)
    assert (second.size, second.resumed) == (3, True)
    second.append(b"lo")
    assert digest not in store
    assert store.publish(second).read_bytes() == b"hello"
    assert list((tmp_path / "content/partial").iterdir()) == []


def test_a_blob_that_turns_out_to_be_another_is_removed(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    partial = store.partial(digest_of(b"hello"))
    partial.append(b"hullo")
    with pytest.raises(InvalidParameter, match="does not match its digest"):
        store.publish(partial)
    assert list(store.digests()) == []
    assert list((tmp_path / "content/partial").iterdir()) == []


def test_a_blob_begun_anew_forgets_what_was_there(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    partial = store.partial(digest_of(b"lo"))
    partial.append(b"hel")
    partial.restart()
    partial.append(b"lo")
    assert store.publish(partial).read_bytes() == b"lo"


def test_two_do_not_write_one_blob(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    first = store.partial(digest_of(b"hello"))
    with pytest.raises(Conflict, match="is being received already"):
        store.partial(digest_of(b"hello"))
    first.close()
    store.partial(digest_of(b"hello")).discard()
    assert list((tmp_path / "content/partial").iterdir()) == []


def test_beginnings_nobody_went_on_with_for_long_are_removed_unless_somebody_writes(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    long_ago = time.time() - LONGEST_KEPT_S - 60
    stale, busy = store.partial(digest_of(b"stale")), store.partial(digest_of(b"busy"))
    for partial in (stale, busy):
        partial.append(b"b")
        os.utime(partial.path, (long_ago, long_ago))
    stale.close()
    other = store.partial(digest_of(b"other"))
    other.append(b"o")
    other.close()
    assert {path.name for path in (tmp_path / "content/partial").iterdir()} == {
        digest_of(name).removeprefix("sha256:") for name in (b"busy", b"other")
    }
    store.partial(digest_of(b"nothing")).close()
    assert store.remove_partials() == 1, "what is being written stays, and what never began has left no file"
    assert [path.name for path in (tmp_path / "content/partial").iterdir()] == [digest_of(b"busy").removeprefix("sha256:")]


def test_a_blob_that_was_set_aside_is_found_whole_and_never_written_to(tmp_path: Path) -> None:
    store = ContentStore(tmp_path)
    digest = store.put(b"hello")
    store.set_aside(digest)
    partial = store.partial(digest)
    assert partial.is_complete
    store.publish(partial)
    assert list((tmp_path / "content/partial").iterdir()) == []

    store.set_aside(digest)
    store.remove(digest)
    assert digest not in store
    assert store.publish(store.partial(digest)).read_bytes() == b"hello"

    store.set_aside(digest)
    store.path(digest).write_bytes(b"damaged")
    with pytest.raises(SystemFailure, match="was damaged and is removed"):
        store.partial(digest)
    assert store.partial(digest).size == 0
