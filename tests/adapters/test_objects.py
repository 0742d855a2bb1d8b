"""One contract for all object stores: a folder, S3, and S3 as Backblaze B2 speaks it, over real sockets."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.folder import FolderStore
from adapters.objects import ObjectMissing, ObjectStore, StoreFailed
from adapters.s3 import S3Store
from tests.adapters.s3_server import S3Server


def s3_store(server: S3Server, secret: str = "secret", attempts: int = 4) -> S3Store:
    """Return a store on the server's bucket, below the prefix `fleet`."""
    return S3Store(
        server.bucket, "fleet", keys=("key-id", secret), endpoint_url=server.url, region="us-east-1", attempts=attempts
    )


@pytest.fixture
def server() -> Iterator[S3Server]:
    """A bucket on loopback."""
    with S3Server().running() as running:
        yield running


@pytest.fixture(params=["folder", "s3", "b2"])
def store(request: pytest.FixtureRequest, server: S3Server, tmp_path: Path) -> ObjectStore:
    """Each kind of store in turn."""
    server.conditional = request.param != "b2"
    return FolderStore(tmp_path) if request.param == "folder" else s3_store(server)


def test_an_object_is_read_as_it_was_written(store: ObjectStore) -> None:
    body = bytes(range(256)) * 100
    assert store.put_new("a/b c/d=1.gz", body)
    assert store.get("a/b c/d=1.gz") == body


def test_a_second_write_to_a_name_changes_nothing_and_says_so(store: ObjectStore) -> None:
    assert store.put_new("a/x", b"first")
    assert not store.put_new("a/x", b"second")
    assert store.get("a/x") == b"first"


def test_what_is_not_there_is_missing_and_can_be_deleted(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        store.get("a/x")
    store.delete("a/x")


def test_a_listing_has_every_name_of_the_prefix_in_order_over_all_pages(store: ObjectStore) -> None:
    names = [f"topic/id/{n:03d}" for n in range(20)]
    for name in reversed(names):
        store.put_new(name, b"12345")
    store.put_new("topic/generation-1", b"")
    store.put_new("topical/id/000", b"")
    found = list(store.list("topic/id/"))
    assert [each.name for each in found] == names
    assert {each.size_bytes for each in found} == {5}
    assert [each.name for each in store.list("topic/gen")] == ["topic/generation-1"]
    store.delete(names[3])
    assert len(list(store.list("topic/id/"))) == 19


def test_of_many_who_write_one_name_at_once_one_wins(server: S3Server, tmp_path: Path) -> None:
    for store in (FolderStore(tmp_path), s3_store(server)):
        with ThreadPoolExecutor(6) as threads:
            won = list(threads.map(lambda n, store=store: store.put_new("x", b"%d" % n), range(6)))
        assert won.count(True) == 1


def test_after_the_first_refusal_a_store_without_conditions_is_not_asked_for_them_again(server: S3Server) -> None:
    server.conditional = False
    store = s3_store(server)
    store.put_new("a", b"1")
    store.put_new("b", b"2")
    operations = [call.split()[0] for call in server.calls]
    assert operations == ["PutObject", "HeadObject", "PutObject", "HeadObject", "PutObject"]


def test_no_checksum_is_sent_that_such_stores_refuse(server: S3Server) -> None:
    store = s3_store(server)
    assert store.put_new("a", b"1")
    assert store.get("a") == b"1"
    assert not [name for name in server.headers if "checksum" in name or "trailer" in name]


def test_a_wrong_secret_is_told_as_such(server: S3Server) -> None:
    with pytest.raises(StoreFailed, match="SignatureDoesNotMatch"):
        s3_store(server, "another").put_new("b", b"1")


def test_a_store_that_is_down_is_told_as_such(server: S3Server) -> None:
    server.down = True
    with pytest.raises(StoreFailed, match="SlowDown"):
        s3_store(server, attempts=1).get("a")


def test_a_write_that_was_cut_short_leaves_no_object(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".unfinished-x").write_bytes(b"ha")
    assert list(FolderStore(tmp_path).list("a/")) == []
