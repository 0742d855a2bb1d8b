"""Amazon S3, Backblaze B2 and what else speaks S3's protocol, as an object store.

B2 (docs "S3-compatible API", tried reports of 2026-07) answers 501 NotImplemented to If-None-Match, and some stores
refuse the checksums that boto3 adds of its own accord since 1.36: both are minded here.
"""

import logging
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from adapters.objects import ObjectMissing, Stored, StoreFailed

log = logging.getLogger(__name__)

TAKEN = ("PreconditionFailed", "412")
RACED = ("ConditionalRequestConflict", "409")  # S3: somebody else writes this name at this moment
NO_CONDITIONS = ("NotImplemented", "501")
MISSING = ("NoSuchKey", "404", "NotFound")


class S3Store:
    """Objects below `prefix` in one bucket. The client is safe to use from several threads."""

    def __init__(
        self, bucket: str, prefix: str, *, keys: tuple[str, str], endpoint_url: str, region: str, attempts: int = 4
    ) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._conditional = True
        session = boto3.session.Session(aws_access_key_id=keys[0], aws_secret_access_key=keys[1])
        self._client: Any = session.client(
            "s3",
            region_name=region or None,
            endpoint_url=endpoint_url or None,
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                signature_version="s3v4",
                connect_timeout=10,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": attempts},
                s3={"addressing_style": "path" if endpoint_url else "auto"},
                max_pool_connections=16,
            ),
        )

    def put_new(self, name: str, body: bytes) -> bool:
        """Write an object unless there is one of that name; where conditions are unknown, after looking for it."""
        if self._conditional:
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=body, IfNoneMatch="*")
            except ClientError as error:
                if _code(error) in TAKEN:
                    return False
                if _code(error) not in NO_CONDITIONS:
                    raise _failed(name, error) from error
                log.info("the store knows no conditional writes: each name is looked for before it is written")
                self._conditional = False
            except BotoCoreError as error:
                raise _failed(name, error) from error
            else:
                return True
        if self._exists(name):
            return False
        self._call("put_object", name, Body=body)
        return True

    def _exists(self, name: str) -> bool:
        try:
            self._call("head_object", name)
        except ObjectMissing:
            return False
        return True

    def get(self, name: str) -> bytes:
        """Return an object. Raises ObjectMissing."""
        answer = self._call("get_object", name)
        try:
            return bytes(answer["Body"].read())
        except (BotoCoreError, OSError) as error:
            raise _failed(name, error) from error

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose name begins so, page by page."""
        pages = self._client.get_paginator("list_objects_v2")
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for found in page.get("Contents", ()):
                    yield Stored(found["Key"].removeprefix(self._prefix), found["Size"], found["LastModified"])
        except (ClientError, BotoCoreError) as error:
            raise _failed(prefix, error) from error

    def delete(self, name: str) -> None:
        """Remove an object. In a bucket with versions the older ones stay until its lifecycle rule removes them."""
        self._call("delete_object", name)

    def _call(self, operation: str, name: str, **more: object) -> Any:
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, Key=self._prefix + name, **more)
        except ClientError as error:
            if _code(error) in MISSING:
                raise ObjectMissing(f"{name} is not in the store") from error
            raise _failed(name, error) from error
        except BotoCoreError as error:
            raise _failed(name, error) from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _failed(name: str, error: Exception) -> StoreFailed:
    if isinstance(error, ClientError) and _code(error) in RACED:
        return StoreFailed(f"{name}: another process writes it at this moment")
    return StoreFailed(f"{name}: {error}")
