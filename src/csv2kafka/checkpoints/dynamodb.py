"""Checkpoints in a DynamoDB table, for jobs whose process may come up again on another machine.

The only file that speaks DynamoDB. Every write is one put of the whole item, on condition that the lease in it
is as we last saw it, so whoever lost the lease cannot write any more. boto3 may repeat a put whose answer got
lost: a refused put is therefore read back before it counts as refused.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import boto3
from boto3.dynamodb.conditions import Attr, ConditionBase
from botocore import exceptions as aws
from botocore.config import Config

from csv2kafka.checkpoints.item import Item, document_key, from_item, is_job, number, to_item, total_lines_key
from csv2kafka.checkpoints.lease import (
    Lease,
    fenced,
    is_gone,
    job_held,
    utc_now,
    without_lease,
    without_nonsense,
)
from csv2kafka.errors import CheckpointMissing, CheckpointUnavailable, ConfigError, Csv2KafkaError, Denied
from csv2kafka.model import Checkpoint, JobStatus

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import Table

_PAGE_BYTES = 350 << 10  # an item holds 400 KB
_ANYWAY = Attr("job_id").not_exists() | Attr("job_id").exists()
_POLL_S = 1.0  # a live holder writes about once a second
_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 3, 5

# What a taker compares: the lease, and the fields that a write without a lease changes.
_SEEN = ("lease_owner", "lease_epoch", "lease_rvn", "ckpt_seq", "last_line", "total_sent", "status", "timestamp")

_NO_TABLE = {"ResourceNotFoundException"}
_NO_PERMISSION = {"AccessDeniedException", "AccessDenied", "KMSAccessDeniedException"}
_BAD_CREDENTIALS = {
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "IncompleteSignatureException",
    "MissingAuthenticationTokenException",
    "ExpiredTokenException",
    "ExpiredToken",
    "InvalidClientTokenId",
    "NotAuthorized",
}
_CREDENTIAL_ERRORS = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.SSOError,
)
_SETTING_ERRORS = (
    aws.NoRegionError,
    aws.InvalidRegionError,
    aws.ProfileNotFound,
    aws.ParamValidationError,
    aws.ConfigParseError,
    aws.InvalidConfigError,
)


class CheckpointManager:
    """The CheckpointStore in one table (key: `job_id`), and three plain calls about the job that it was made for.

    The plain calls (`get_last_processed_line`, `update_checkpoint`, `mark_complete`) need no lease; they leave an
    item that says how far the job is, but not where in the file and in Kafka that is.
    Endpoint, credentials and, unless given, region and profile come from AWS's usual places.
    `clock` (seconds, monotonic) and `wait` are this process's own: no two machines' clocks are ever compared.
    """

    # At class level, because users make stand-ins of this class from its attributes.
    table: Table = None  # type: ignore[assignment]
    job_id: str = ""

    def __init__(
        self,
        table_name: str,
        job_id: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        config = Config(retries={"mode": "standard"}, connect_timeout=_CONNECT_TIMEOUT_S, read_timeout=_READ_TIMEOUT_S)
        self._table_name = table_name
        with self._explaining():
            try:
                aws_session = boto3 if profile is None else boto3.Session(profile_name=profile)
                self.table = aws_session.resource("dynamodb", region_name=region, config=config).Table(table_name)
            except ValueError as error:  # how botocore refuses an endpoint that is no URL
                raise ConfigError(
                    f"DynamoDB table {table_name} cannot be asked: {error}",
                    hint="set AWS_ENDPOINT_URL right, or unset it to reach AWS itself",
                ) from error
        self.job_id = job_id
        self._clock = clock
        self._wait = wait
        self._lease: Lease | None = None  # as we last wrote it; None: none is held
        self._fields: Item = {}  # of the held job: all but the lease

    # The plan's plain calls

    def get_last_processed_line(self) -> int:
        """Rows done, 0 for a job never seen."""
        return number(self._read(self.job_id), "last_line") or 0

    def update_checkpoint(self, last_line: int, total_sent: int) -> None:
        """Say that `last_line` rows are done, of which `total_sent` were sent. Raises JobHeld, Fenced."""
        self._save_plain(Checkpoint(self.job_id, last_line, total_sent))

    def mark_complete(self, total_lines: int) -> None:
        """Say that the job is complete with `total_lines` rows. Raises JobHeld, Fenced."""
        self._save_plain(Checkpoint(self.job_id, total_lines, total_lines, JobStatus.COMPLETED))

    def _save_plain(self, checkpoint: Checkpoint) -> None:
        if self._lease is not None:
            self.save(checkpoint)
        elif not self._put(to_item(checkpoint, utc_now()), Attr("lease_owner").not_exists()):
            # Held by another: refused while that process lives, as any taker is.
            self.acquire(self.job_id)
            try:
                self.save(checkpoint)
            finally:
                self.release()

    # The store

    def acquire(self, job_id: str) -> Checkpoint | None:
        return from_item(self._take(job_id, nonsense_allowed=False))

    def save(self, checkpoint: Checkpoint) -> None:
        if checkpoint.job_id != self._fields.get("job_id"):
            raise AssertionError("a checkpoint is saved under its own job's lease")
        self._write(to_item(checkpoint, utc_now()), self._held().renewed())

    def renew(self) -> None:
        self._write(self._fields, self._held().renewed())

    def release(self) -> None:
        if self._lease is None:
            return
        try:
            self._replace_own(self._fields, self._lease.given_up())
        finally:
            self._lease = None

    def load(self, job_id: str) -> Checkpoint | None:
        return from_item(self._read(job_id))

    def look(self, job_id: str | None = None) -> list[Item]:
        if job_id is not None:
            item = self._read(job_id)
            return [item] if item else []
        items: list[Item] = []
        page: dict[str, Any] = {}
        with self._explaining():
            while True:
                answer = self.table.scan(ConsistentRead=True, **page)
                items += filter(is_job, answer["Items"])
                if "LastEvaluatedKey" not in answer:
                    return sorted(items, key=itemgetter("job_id"))
                page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def forget(self, job_id: str) -> None:
        self._take(job_id, nonsense_allowed=True)
        try:
            self.save(Checkpoint(job_id, status=JobStatus.RESET))
            with self._explaining():
                self.table.delete_item(Key={"job_id": total_lines_key(job_id)})
        finally:
            self.release()

    # Documents, in as many items as it takes

    def keep(self, name: str, body: bytes) -> bool:
        # Named by what is in them, so that two who keep at once cannot mix theirs; the item with the name decides.
        digest = hashlib.sha256(body).hexdigest()
        pages = range(0, len(body), _PAGE_BYTES)
        for page, start in enumerate(pages):
            key = document_key(name, f"{digest}/{page}")
            self._put({"job_id": key, "body": body[start : start + _PAGE_BYTES]}, _ANYWAY)
        head = {"job_id": document_key(name), "digest": digest, "pages": len(pages)}
        if self._put(head, Attr("job_id").not_exists()):
            return True
        return bool(self._read(document_key(name)).get("digest") == digest)  # our own put, repeated, is refused, too

    def kept(self, name: str) -> bytes | None:
        head = self._read(document_key(name))
        if not head:
            return None
        keys = [document_key(name, f"{head['digest']}/{page}") for page in range(int(head["pages"]))]
        pages = [self._read(key) for key in keys]
        return b"".join(page["body"].value for page in pages) if all(pages) else None  # discarded a moment ago

    def discard(self, name: str) -> None:
        head = self._read(document_key(name))
        pages = [f"{head['digest']}/{page}" for page in range(int(head["pages"]))] if head else []
        with self._explaining():
            for page in ("", *pages):
                self.table.delete_item(Key={"job_id": document_key(name, page)})

    # Taking the lease

    def _take(self, job_id: str, *, nonsense_allowed: bool) -> Item:
        """Wait until the lease is free or its holder proven dead, and take it. The item as it was found."""
        if self._lease is not None:
            raise AssertionError("a store holds one lease at a time")
        while True:
            seen, lease = self._await_free(job_id, nonsense_allowed=nonsense_allowed)
            taken = lease.taken()
            fields = {**without_lease(seen), "job_id": job_id}
            if self._put(fields | taken.to_item(), _unchanged(seen)):
                break
            now = Lease.from_item(without_nonsense(self._read(job_id)))
            if now.rvn == taken.rvn:
                break
            if now.owner is not None:
                raise job_held(job_id, now)
        self._lease, self._fields = taken, fields
        return seen

    def _await_free(self, job_id: str, *, nonsense_allowed: bool) -> tuple[Item, Lease]:
        """The job's item, and its lease, free or dead. Raises JobHeld as soon as the holder shows a sign of life."""
        seen, still_since_s = self._read(job_id), self._clock()
        while True:
            if not nonsense_allowed:
                from_item(seen)
                Lease.from_item(seen)
            lease = Lease.from_item(without_nonsense(seen))
            left_s = still_since_s + lease.ttl_ms / 1000 - self._clock()
            # A lease of nonsense may be held all the same: then it must stand still like any other.
            held = seen.get("lease_owner") is not None
            if not held or left_s <= 0 or is_gone(lease.process):
                return seen, lease
            self._wait(min(_POLL_S, left_s))
            now, now_s = self._read(job_id), self._clock()
            if now.get("lease_rvn") != seen.get("lease_rvn"):
                if now.get("lease_owner") is not None:
                    raise job_held(job_id, Lease.from_item(without_nonsense(now)))
                seen, still_since_s = now, now_s

    # Reading and writing

    def _held(self) -> Lease:
        if self._lease is None:
            raise AssertionError("no lease is held")
        return self._lease

    def _write(self, fields: Item, lease: Lease) -> None:
        refused_by = self._replace_own(fields, lease)
        if refused_by is not None:
            raise fenced(fields["job_id"], refused_by)

    def _replace_own(self, fields: Item, lease: Lease) -> Lease | None:
        """Put fields and lease in place of our last write. The lease that stands in the way, None if none does."""
        held = self._held()
        while not self._put(
            fields | lease.to_item(),
            Attr("lease_owner").eq(held.owner)
            & Attr("lease_epoch").eq(held.epoch)
            & Attr("ckpt_seq").eq(held.ckpt_seq),
        ):
            now = Lease.from_item(without_nonsense(self._read(fields["job_id"])))
            if now.rvn == lease.rvn:
                break  # the refused put was a repetition of this one
            if not now.owned_by(held) or now.ckpt_seq == held.ckpt_seq:
                return now
            # An earlier write of ours, given up when no answer came, went through after all: go on from it.
            held = replace(held, ckpt_seq=now.ckpt_seq)
            lease = replace(lease, ckpt_seq=now.ckpt_seq + 1)
        self._lease, self._fields = lease, fields
        return None

    def _read(self, job_id: str) -> Item:
        """The job's item, empty for a job never seen."""
        with self._explaining():
            return self.table.get_item(Key={"job_id": job_id}, ConsistentRead=True).get("Item") or {}

    def _put(self, item: Item, condition: ConditionBase) -> bool:
        """Put the item if the condition holds; False if it does not."""
        with self._explaining():
            try:
                self.table.put_item(Item=item, ConditionExpression=condition)
            except aws.ClientError as error:
                if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                    return False
                raise
        return True

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except aws.ClientError as error:
            raise _refusal(error, self._table_name) from error
        except aws.BotoCoreError as error:
            raise _no_answer(error, self._table_name) from error


def _unchanged(seen: Item) -> ConditionBase:
    """True while the item is as it was seen."""
    if not seen:
        return Attr("job_id").not_exists()
    unchanged: ConditionBase = Attr("job_id").exists()
    for name in _SEEN:
        unchanged &= Attr(name).eq(seen[name]) if name in seen else Attr(name).not_exists()
    return unchanged


def _refusal(error: aws.ClientError, table_name: str) -> Csv2KafkaError:
    """What DynamoDB answered, in our words."""
    code, operation = error.response["Error"]["Code"], error.operation_name
    if code in _NO_TABLE:
        return CheckpointMissing(
            f"there is no DynamoDB table {table_name} in this account and region",
            hint=f"aws dynamodb create-table --table-name {table_name} "
            "--attribute-definitions AttributeName=job_id,AttributeType=S "
            "--key-schema AttributeName=job_id,KeyType=HASH --billing-mode PAY_PER_REQUEST",
        )
    if code in _NO_PERMISSION:
        return Denied(
            f"no permission for dynamodb:{operation} on table {table_name}: {error}",
            hint=f"allow dynamodb:{operation} on it (a job needs GetItem and PutItem, `csv2kafka reset` DeleteItem, "
            "`csv2kafka list` Scan)",
        )
    if code in _BAD_CREDENTIALS:
        return _bad_credentials(error, table_name)
    if code == "ValidationException":
        return ConfigError(
            f"DynamoDB table {table_name} does not take checkpoints: {error}",
            hint="its key must be job_id, a string, alone; create another table for checkpoints if it is not",
        )
    return _unavailable(error, table_name)


def _no_answer(error: aws.BotoCoreError, table_name: str) -> Csv2KafkaError:
    """What kept the question from being asked or answered, in our words."""
    if isinstance(error, _CREDENTIAL_ERRORS):
        return _bad_credentials(error, table_name)
    if isinstance(error, _SETTING_ERRORS):
        return ConfigError(
            f"DynamoDB table {table_name} cannot be asked: {error}",
            hint="set the region (AWS_DEFAULT_REGION) and look through the AWS profile and the table's name",
        )
    return _unavailable(error, table_name)


def _bad_credentials(error: Exception, table_name: str) -> Denied:
    return Denied(
        f"no valid AWS credentials for DynamoDB table {table_name}: {error}",
        hint="log in or set AWS_PROFILE (`aws sts get-caller-identity` shows who you are); "
        "a job needs dynamodb:GetItem and dynamodb:PutItem",
    )


def _unavailable(error: Exception, table_name: str) -> CheckpointUnavailable:
    return CheckpointUnavailable(
        f"DynamoDB table {table_name} does not answer: {error}",
        hint="nothing is lost: run the same command again in a while",
    )
