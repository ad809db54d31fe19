"""The latest process to claim a shard owns its outputs, wherever an earlier process is suspended and resumes.

Two processes assemble the outputs of one input: the orphan, and the retry that takes the shard over from it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

import pytest

from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.aws.s3.upload import MultipartUpload
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.folder import MARK
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import FencedOff, PreconditionFailed
from airflow_sm_plugin.multi_model.state import outputs as output_writer
from airflow_sm_plugin.multi_model.state.fenced_objects import Check, FencedObjects, UploadRecords
from airflow_sm_plugin.multi_model.state.folder import ShardFolder
from airflow_sm_plugin.multi_model.state.journal import StoredFailure
from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
from airflow_sm_plugin.multi_model.state.records import Failure, Run
from tests.stubs.stopped_s3 import SharedS3, Stop
from tests.support import Account, unique

INPUT = BatchInput(source="s3://b/x.csv", target_model="a.tar.gz", output="x.csv")
SMALL, LARGE = 10, 60
"""Bytes: S3 copies ranges from :data:`PART` bytes on."""

PART = 50


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses between retries are random."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_writer, "LEAST_PART_BYTES", PART)


class Process:
    """A process that has claimed the shard, and is stopped before one of its later requests.

    :param name: one letter, of which its data objects consist
    """

    def __init__(
        self,
        root: str,
        name: str,
        s3: S3Objects,
        claim: Claim,
        *,
        data: str | None,
        check_lately: Check | None,
    ) -> None:
        self.root = root
        self.name = name
        self.s3 = s3
        self.claim = claim
        self.writer = OutputWriter(
            s3,
            f"{root}/out",
            content_type="text/csv",
            data_prefix=f"{data or root}/data/",
            mark=f"plan/{name}",
            records=UploadRecords(s3, f"{root}/uploads/"),
            options=ObjectOptions(),
            check=claim.check,
            check_lately=check_lately or claim.check_lately,
        )

    @classmethod
    async def begun(
        cls,
        shared: SharedS3,
        root: str,
        name: str,
        stop: Stop,
        *,
        data: str | None = None,
        check_lately: Check | None = None,
    ) -> Process:
        claim = await Claim.taken(
            shared.of(Stop()), ShardFolder(f"{root}/shard"), token=name, task_try=TaskTry()
        )
        s3 = shared.of(stop)
        mine = Claim(s3, ShardFolder(f"{root}/shard"), token=name, number=claim.number)
        return cls(root, name, s3, mine, data=data, check_lately=check_lately)

    async def assemble(self, size: int, *, failures: int = SMALL, notes: int = 0) -> None:
        """Assemble the outputs: so many bytes of results, rows of failures, and rows of attributes."""
        run = Run(0, 0, 10, 0, 1, 0, size, 0, notes)
        failure = Failure(0, 10, 20, 1, 1, "ModelError", False, 0, failures)
        failed = [StoredFailure(failure, self.name)] if failures else []
        await self.writer.assemble(INPUT, iter([(run, self.name)]), failed)

    async def unreadable(self) -> None:
        """Write the outputs of an input that could not be read."""
        failure = Failure(0, 0, 0, 0, None, "InputChanged", False, 0, SMALL)
        await self.writer.assemble(INPUT, iter([]), [StoredFailure(failure, self.name)])


async def with_data(s3: S3Objects, root: str, size: int = SMALL) -> str:
    """Write the data objects of both processes, and return the folder."""
    await asyncio.gather(*(s3.write(f"{root}/data/{name}", name.encode() * size) for name in ("o", "r")))
    return root


async def outputs(s3: S3Objects, root: str) -> Mapping[str, tuple[int, bytes]]:
    """Read size and first byte of each output, which repeats one byte."""
    bucket, _, key = root.removeprefix("s3://").partition("/")
    page = await s3.list_objects(bucket, f"{key}/out/")
    return {
        listed.key.removeprefix(f"{key}/out/x.csv"): (
            listed.size,
            await s3.read(f"s3://{bucket}/{listed.key}", first_bytes=1),
        )
        for listed in page.objects
    }


async def fenced(process: asyncio.Task[None]) -> bool:
    try:
        await process
    except FencedOff:
        return True
    return False


async def stopped_both(
    shared: SharedS3, data: str, size: int, stops: tuple[int, int], *, before: bool
) -> tuple[bool, bool]:
    """Stop the orphan, start the retry and stop it, let the orphan run to its end, then the retry.

    :param stops: number of the request before which each is stopped
    :param before: whether there are outputs of an earlier batch
    :return: whether each of them came to that request
    """
    watching, at_orphan, at_retry = shared.of(Stop()), *map(Stop, stops)
    root = f"{data}/{stops}"
    for suffix in (".out", ".errors.jsonl") if before else ():
        await watching.write(f"{root}/out/x.csv{suffix}", b"before")
    orphan = await Process.begun(shared, root, "o", at_orphan, data=data)
    orphaned = asyncio.ensure_future(orphan.assemble(size))
    orphan_stopped = await at_orphan.reached(orphaned)
    retry = await Process.begun(shared, root, "r", at_retry, data=data)
    retried = asyncio.ensure_future(retry.assemble(size))
    retry_stopped = await at_retry.reached(retried)
    at_orphan.gone_on.set()
    await fenced(orphaned)
    at_retry.gone_on.set()
    await retried
    assert await outputs(watching, root) == {".out": (size, b"r"), ".errors.jsonl": (SMALL, b"r")}
    assert not shared.live
    return orphan_stopped, retry_stopped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "before"), [(SMALL, False), (SMALL, True), (LARGE, False)], ids=["new", "again", "large"]
)
def test_the_retrys_outputs_stay_at_all_pairs_of_stops(account: Account, size: int, *, before: bool) -> None:
    """Objects that the orphan writes before the retry are replaced, and its later writes are refused."""

    async def everywhere() -> list[int]:
        counts = []
        async with SharedS3.open() as shared:
            root = await with_data(shared.of(Stop()), f"s3://{account.bucket}/{unique('fenced')}", size)
            for orphans in range(99):
                for retrys in range(orphans % 3, 99, 3):  # a third of all pairs, in a third of the time
                    orphan, retry = await stopped_both(shared, root, size, (orphans, retrys), before=before)
                    if not retry:
                        break
                counts.append(retrys)
                if not orphan:
                    return counts
        raise AssertionError("it never ends")

    counts = asyncio.run(everywhere())
    assert len(counts) > 5
    assert min(counts) >= 5


def test_an_orphan_does_not_restore_rows_of_errors(account: Account) -> None:
    """Its write would replace no object, so it checks the ownership afterwards."""

    async def use() -> None:
        async with SharedS3.open() as shared:
            root = await with_data(shared.of(Stop()), f"s3://{account.bucket}/{unique('fenced')}")
            checked = [False]

            async def stopped_before_errors() -> None:
                """Pass for the output; before the rows of errors, let the retry write all of its outputs."""
                if checked[0]:
                    await retry.assemble(SMALL, failures=0)
                    await orphan.claim.check()
                checked[0] = True

            orphan = await Process.begun(shared, root, "o", Stop(), check_lately=stopped_before_errors)
            retry = await Process.begun(shared, root, "r", Stop())
            with pytest.raises(FencedOff):
                await orphan.assemble(SMALL)
            assert await outputs(shared.of(Stop()), root) == {".out": (SMALL, b"r")}

    asyncio.run(use())


def test_rows_that_an_orphan_wrote_after_the_listing_are_deleted(account: Account) -> None:
    async def use() -> None:
        async with SharedS3.open() as shared:
            root = await with_data(shared.of(Stop()), f"s3://{account.bucket}/{unique('fenced')}")
            orphan = await Process.begun(shared, root, "o", Stop())
            await orphan.assemble(SMALL, notes=SMALL)
            retry = await Process.begun(shared, root, "r", Stop())
            await retry.assemble(SMALL, failures=0)
            assert await outputs(shared.of(Stop()), root) == {".out": (SMALL, b"r")}

    asyncio.run(use())


@pytest.mark.parametrize("suffix", [".out", ".errors.jsonl"])
def test_an_orphan_deletes_nothing(account: Account, suffix: str) -> None:
    async def use() -> None:
        async with SharedS3.open() as shared:
            root = await with_data(shared.of(Stop()), f"s3://{account.bucket}/{unique('fenced')}")
            orphan = await Process.begun(shared, root, "o", Stop())
            mark = ObjectOptions(metadata={MARK: "an earlier plan/process"})
            await orphan.s3.write(f"{root}/out/x.csv.errors.jsonl", b"of before", options=mark)
            orphan.writer.start_listing()
            try:
                retry = await Process.begun(shared, root, "r", Stop())
                await retry.assemble(SMALL)
                with pytest.raises(FencedOff):
                    await orphan.assemble(
                        SMALL, failures=0
                    ) if suffix != ".out" else await orphan.unreadable()
            finally:
                await orphan.writer.close()
            assert await outputs(shared.of(Stop()), root) == {
                ".out": (SMALL, b"r"),
                ".errors.jsonl": (SMALL, b"r"),
            }

    asyncio.run(use())


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("in_parts", [False, True])
def test_an_object_that_changes_after_it_was_read_is_read_again(
    account: Account, *, before: bool, in_parts: bool
) -> None:
    """Another process writes while the ownership is checked, so the condition of the write fails."""

    async def use() -> None:
        async with SharedS3.open() as shared:
            s3 = shared.of(Stop())
            location, meanwhile = f"s3://{account.bucket}/{unique('changed')}", 0

            async def another_writes() -> None:
                nonlocal meanwhile
                meanwhile += 1
                if meanwhile <= 3:
                    await s3.write(location, f"another's {meanwhile}".encode())

            async def fine() -> None:
                pass

            async def fill(upload: MultipartUpload) -> None:
                await upload.add(b"mine")

            if before:
                await s3.write(location, b"before")
            objects = FencedObjects(
                s3, ObjectOptions(), mark="plan/me", check=another_writes, check_lately=fine
            )
            records = UploadRecords(s3, f"{location}/uploads/")
            if in_parts:
                assert await objects.upload(location, fill, content_type="text/csv", records=records)
                assert meanwhile == 4
            else:
                assert await objects.write(location, b"mine", content_type="text/csv") is before
                assert meanwhile == (4 if before else 0)
            assert await s3.read(location) == b"mine"

    asyncio.run(use())


def test_an_orphan_gives_up_no_upload_of_the_retry(account: Account) -> None:
    async def use() -> None:
        async with SharedS3.open() as shared:
            root = await with_data(shared.of(Stop()), f"s3://{account.bucket}/{unique('fenced')}", LARGE)
            orphan = await Process.begun(shared, root, "o", Stop())
            retry = await Process.begun(shared, root, "r", Stop())
            upload = await MultipartUpload.begin(retry.s3, f"{root}/out/x.csv.out")
            with pytest.raises(FencedOff):
                await orphan.assemble(LARGE)
            await upload.add(b"r")
            await upload.complete()
            assert await outputs(shared.of(Stop()), root) == {".out": (1, b"r")}

    asyncio.run(use())


def test_an_upload_that_another_process_aborts_is_attempted_three_times(account: Account) -> None:
    """A process that has not claimed the shard: an earlier batch, or a lifecycle rule."""

    async def use(times: int) -> None:
        async with SharedS3.open() as shared:
            s3 = shared.of(Stop())
            location = f"s3://{account.bucket}/{unique('given-up')}"
            begun = 0

            async def fine() -> None:
                pass

            async def fill(upload: MultipartUpload) -> None:
                nonlocal begun
                begun += 1
                if begun <= times:
                    await upload.abort()
                await upload.add(b"part")

            objects = FencedObjects(s3, ObjectOptions(), mark="plan/me", check=fine, check_lately=fine)
            records = UploadRecords(s3, f"{location}/uploads/")
            try:
                assert not await objects.upload(location, fill, content_type="text/csv", records=records)
                assert await s3.read(location) == b"part"
            finally:
                assert begun == min(times + 1, 3)

    asyncio.run(use(2))
    with pytest.raises(PreconditionFailed):
        asyncio.run(use(3))


def test_an_output_that_cannot_be_read_is_written_without_a_condition(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role can be permitted only to write there: then the check of the ownership must do."""

    async def forbidden(self: S3Objects, location: str) -> Presence:
        return Presence.FORBIDDEN

    async def use() -> None:
        async with SharedS3.open() as shared:
            root = await with_data(shared.of(Stop()), f"s3://{account.bucket}/{unique('fenced')}", LARGE)
            for name, size in (("o", SMALL), ("o", LARGE), ("r", SMALL), ("r", LARGE)):
                await (await Process.begun(shared, root, name, Stop())).assemble(size)
                written = {".out": (size, name.encode()), ".errors.jsonl": (SMALL, name.encode())}
                assert await outputs(shared.of(Stop()), root) == written

    monkeypatch.setattr(S3Objects, "stat", forbidden)
    asyncio.run(use())
