"""Opens the archive that the settings name."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from adapters.folder import FolderStore
from adapters.objects import ObjectStore
from adapters.s3 import S3Store
from adapters.secrets import SecretMissing, Secrets
from ops.archive.shelf import Shelf
from schemas.topics import CATALOGUE, Topic
from streams.settings import SettingMissing, Settings


def archived_topics(settings: Settings) -> dict[str, Topic]:
    """Return {name on the cluster: topic} of what the archive keeps."""
    return {settings.topic(t): t for t in CATALOGUE.values() if t.archive != "no"}


def open_store(settings: Settings) -> ObjectStore:
    """Return the store of ARCHIVE_URL. Raises SettingMissing."""
    given = settings.archive
    url = urlsplit(given.url)
    if url.scheme == "file" and url.path:
        return FolderStore(Path(unquote(url.path)))
    if url.scheme == "s3" and url.netloc:
        key_id, _, secret = _secret(settings, given.keys_ref, "KEY_ID:SECRET of the store").partition(":")
        return S3Store(
            url.netloc, url.path, keys=(key_id, secret), endpoint_url=given.endpoint_url, region=given.region
        )
    raise SettingMissing(f"ARCHIVE_URL is {given.url!r}: give s3://BUCKET/PREFIX or file:///FOLDER")


def open_shelf(settings: Settings) -> Shelf:
    """Return the archive. Raises SettingMissing, also without the key that seals what is private."""
    text = _secret(settings, settings.archive.key_ref, "64 hex digits; `mailfleet archive key` makes it")
    try:
        key = bytes.fromhex(text.strip())
    except ValueError:
        key = b""
    if len(key) != 32:
        raise SettingMissing(f"the archive's key ({settings.archive.key_ref}) is not 64 hex digits")
    return Shelf(open_store(settings), key)


def _secret(settings: Settings, ref: str, what: str) -> str:
    try:
        return Secrets(settings.secrets_folder).resolve(ref)
    except SecretMissing as error:
        raise SettingMissing(f"{error}; it holds {what}") from error
