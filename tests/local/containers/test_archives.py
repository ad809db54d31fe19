"""Archives are unpacked within bounds, whatever they hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, WaiterError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.containers.archives import Allowance, BadArchive, TooLarge, extract
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import ECHO, IMAGE, ROLE, Clients, clients_of, unique

MIB = 1024 * 1024

Member = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", **attributes: object) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def packed(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:  # noqa: A002 - tarfile's word
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return plain.getvalue()


def unpack(
    archive: bytes,
    folder: Path,
    *,
    megabytes: float = 1,
    files: float = 20,
    check: Callable[[], None] = lambda: None,
) -> list[str]:
    """Unpack into ``folder`` and return the files in it."""
    path = folder.with_name(f"{folder.name}.tar.gz")
    path.write_bytes(archive)
    extract(path, folder, Allowance.of(megabytes, files), check)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_files_folders_and_links_inside_are_unpacked(tmp_path: Path) -> None:
    archive = packed(
        entry("code", type=tarfile.DIRTYPE, mode=0o755),
        entry("code/inference.py", b"pass"),
        entry("./weights/a.bin", b"\0" * 1000),
        entry("latest", type=tarfile.SYMTYPE, linkname="weights/a.bin"),
        entry("again.bin", type=tarfile.LNKTYPE, linkname="weights/a.bin"),
    )
    result = unpack(gzip.compress(archive), tmp_path / "model")
    assert result == ["again.bin", "code/inference.py", "latest", "weights/a.bin"]
    assert (tmp_path / "model" / "latest").read_bytes() == bytes(1000)


@pytest.mark.parametrize(
    "members",
    [
        [entry("../outside", b"x")],
        [entry("a/../../outside", b"x")],
        [entry("out", type=tarfile.SYMTYPE, linkname="/etc"), entry("out/outside", b"x")],
        [entry("out", type=tarfile.SYMTYPE, linkname=".."), entry("out/outside", b"x")],
        [entry("b", type=tarfile.SYMTYPE, linkname="."), entry("a", type=tarfile.SYMTYPE, linkname="b/..")],
        [entry("out", type=tarfile.LNKTYPE, linkname="../outside")],
        [entry("out", type=tarfile.LNKTYPE, linkname="/etc/hostname")],
        [entry("out", type=tarfile.LNKTYPE, linkname="later"), entry("later", b"x")],
        [entry("device", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
        [entry("device", type=tarfile.BLKTYPE)],
        [entry("pipe", type=tarfile.FIFOTYPE)],
        [entry("/".join("d" * 101), b"x")],
        [entry("d" * 300, b"x")],
        [entry("/".join(["d" * 99] * 11), b"x")],
        [
            entry("/".join("d" * 60), type=tarfile.DIRTYPE, mode=0o755),
            entry("s", type=tarfile.SYMTYPE, linkname="/".join("d" * 60)),
            entry("s/" + "/".join("e" * 60), b"x"),
        ],
        [entry("a", b"x"), entry("a/b", b"x")],
    ],
    ids=lambda members: f"{members[0][0].name[:12]} {members[0][0].linkname[:12]} {len(members)}",
)
def test_what_would_leave_the_folder_or_is_no_file_is_refused(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(BadArchive):
        unpack(gzip.compress(packed(*members)), tmp_path / "model")
    assert not (tmp_path / "outside").exists()


def test_an_absolute_path_is_taken_as_one_below_the_folder(tmp_path: Path) -> None:
    assert unpack(gzip.compress(packed(entry("/etc/outside", b"x"))), tmp_path / "model") == ["etc/outside"]


def test_set_user_id_and_writable_for_all_do_not_survive(tmp_path: Path) -> None:
    unpack(gzip.compress(packed(entry("tool", b"x", mode=0o6777))), tmp_path / "model")
    assert stat.S_IMODE((tmp_path / "model" / "tool").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "archive",
    [
        pytest.param(lambda: packed(entry("zeros", bytes(2 * MIB))), id="one large file"),
        pytest.param(
            lambda: packed(*(entry(f"f{n}", bytes(MIB // 4)) for n in range(5))), id="several files"
        ),
        pytest.param(lambda: packed(*(entry(f"f{n}") for n in range(21))), id="many files"),
        pytest.param(
            lambda: packed(*(entry(f"l{n}", type=tarfile.SYMTYPE, linkname="a") for n in range(21))),
            id="many links",
        ),
        pytest.param(
            lambda: packed(entry("x", b"x", pax_headers={"comment": "y" * 2 * MIB})), id="a PAX header"
        ),
        pytest.param(lambda: packed(entry("n" * 2 * MIB), format=tarfile.GNU_FORMAT), id="a name"),
        pytest.param(
            lambda: packed(*(entry("/".join(f"{n}{level}" for level in range(10))) for n in range(3))),
            id="folders that are no members",
        ),
    ],
)
def test_more_than_the_allowance_is_not_unpacked(tmp_path: Path, archive: Callable[[], bytes]) -> None:
    with pytest.raises(TooLarge):
        unpack(gzip.compress(archive()), tmp_path / "model")
    assert sum(path.stat().st_size for path in (tmp_path / "model").rglob("*") if path.is_file()) <= MIB


def test_without_limits_all_is_unpacked(tmp_path: Path) -> None:
    archive = gzip.compress(packed(*(entry(f"f{n}", bytes(MIB)) for n in range(30))))
    assert len(unpack(archive, tmp_path / "model", megabytes=0, files=0)) == 30


def test_a_size_that_only_the_header_claims_is_a_damaged_archive(tmp_path: Path) -> None:
    plain = bytearray(packed(entry("a", b"x")))
    header, _ = entry("a", size=10**9)
    plain[:512] = header.tobuf()
    with pytest.raises(BadArchive):
        unpack(gzip.compress(bytes(plain)), tmp_path / "model", megabytes=0)


@pytest.mark.parametrize("cut", [0, 1, 30, -200])
def test_a_cut_archive_is_refused(tmp_path: Path, cut: int) -> None:
    archive = gzip.compress(packed(entry("a", bytes(range(256)) * 40)))
    with pytest.raises(BadArchive):
        unpack(archive[:cut], tmp_path / "model")


_SPARSE_MAP = b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512
_ENDLESS_MAP = b"9" * 4000 + b"\n" + b"0\n" * 5000


@pytest.mark.parametrize(
    "member",
    [
        entry("hole", bytes(512), type=tarfile.GNUTYPE_SPARSE),
        entry("hole", b"x", pax_headers={"GNU.sparse.size": "9", "GNU.sparse.numblocks": "1"}),
        entry("hole", b"x", pax_headers={"GNU.sparse.size": "9", "GNU.sparse.map": "0,1"}),
        entry("hole", b"x", pax_headers={"GNU.sparse.realsize": str(2**40)}),
        *(
            entry("hole", content, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
            for content in (_SPARSE_MAP, _ENDLESS_MAP)
        ),
    ],
    ids=["old GNU", "PAX 0.0", "PAX 0.1", "a size only", "PAX 1.0", "PAX 1.0, endless map"],
)
@pytest.mark.parametrize("before", [[], [entry("a", b"x")]], ids=["first", "later"])
def test_sparse_files_are_refused_before_their_map_is_read(
    tmp_path: Path, before: list[Member], member: Member
) -> None:
    with pytest.raises(BadArchive, match="sparse"):
        unpack(gzip.compress(packed(*before, member)), tmp_path / "model")


class _Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "members",
    [
        [entry("zeros", bytes(MIB))],
        [entry(f"f{n}") for n in range(30)],
    ],
    ids=["one large file", "many files"],
)
def test_unpacking_ends_when_its_check_raises(tmp_path: Path, members: list[Member]) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 20:
            raise _Stopped

    with pytest.raises(_Stopped):
        unpack(gzip.compress(packed(*members)), tmp_path / "model", megabytes=0, files=0, check=check)
    assert calls == 20


def test_a_folder_of_many_files_is_counted_once(tmp_path: Path) -> None:
    archive = packed(*(entry(f"a/b/c/f{n}", b"x") for n in range(17)))
    assert len(unpack(gzip.compress(archive), tmp_path / "model", files=20)) == 17


def test_a_link_that_is_replaced_does_not_lead_by_its_old_target(tmp_path: Path) -> None:
    members = [
        entry("a", type=tarfile.DIRTYPE, mode=0o755),
        entry("s", type=tarfile.SYMTYPE, linkname="a"),
        entry("s/x", b"x"),
        entry("s", type=tarfile.SYMTYPE, linkname="b"),
        *(entry(f"b/{'/'.join('d' * 60)}/{n}", b"x") for n in range(2)),
        entry("s", type=tarfile.SYMTYPE, linkname="b/" + "/".join("d" * 60)),
        entry("s/" + "/".join("e" * 60), b"x"),
    ]
    with pytest.raises(BadArchive, match="100 levels"):
        unpack(gzip.compress(packed(*members)), tmp_path / "model", files=0)


def _damaged(at: int, data: bytes) -> bytes:
    """Return an archive of three files of one block, with bytes replaced."""
    plain = bytearray(packed(*(entry(name, b"x") for name in "abc")))
    plain[at : at + len(data)] = data
    return bytes(plain)


@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(lambda: _damaged(2 * 512, b"?"), id="checksum"),
        pytest.param(lambda: _damaged(2 * 512 + 148, b"zzzzzzzz"), id="no checksum"),
        pytest.param(lambda: _damaged(2 * 512, bytes(512)), id="header of zeros"),
        pytest.param(
            lambda: packed(entry("a", b"x"), entry("b", b"x"))[: 2 * 512 + 100], id="cut in a header"
        ),
        pytest.param(lambda: packed(entry("a", b"x"), entry("b", b"x"))[: 3 * 512 + 100], id="cut in a file"),
        pytest.param(
            lambda: packed(entry("a", b"x"), entry("b", b"x", pax_headers={"size": "-2048"})), id="backwards"
        ),
        pytest.param(
            lambda: packed(entry("a", b"x"), entry("b", b"x", pax_headers={"mtime": "9" * 400})), id="a time"
        ),
    ],
)
def test_an_archive_with_a_damaged_header_is_refused(tmp_path: Path, plain: Callable[[], bytes]) -> None:
    with pytest.raises(BadArchive):
        unpack(gzip.compress(plain()), tmp_path / "model", files=0)


def test_an_archive_without_its_closing_blocks_is_unpacked(tmp_path: Path) -> None:
    plain = packed(entry("a", b"x"), entry("b", b"x"))[: 4 * 512]
    assert unpack(gzip.compress(plain), tmp_path / "model") == ["a", "b"]


def test_a_wrong_checksum_of_the_gzip_is_refused(tmp_path: Path) -> None:
    archive = bytearray(gzip.compress(packed(entry("a", b"x"))))
    archive[-8] ^= 1
    with pytest.raises(BadArchive, match="CRC"):
        unpack(bytes(archive), tmp_path / "model")


def test_names_of_names_are_refused(tmp_path: Path) -> None:
    """Each header of a long name has tarfile read the next one within its call."""
    name, _ = entry("././@LongLink", b"x", type=tarfile.GNUTYPE_LONGNAME)
    name.size = 1
    chain = (name.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 2000
    with pytest.raises(BadArchive, match="recursion"):
        unpack(gzip.compress(packed(entry("a", b"x"))[:1024] + chain), tmp_path / "model", megabytes=9)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    """Return a PAX header that holds just these bytes."""
    info, _ = entry("././@PaxHeader", records, type=kind)
    return info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(-(-len(records) // 512) * 512, b"\0")


def record(key: str, value: bytes) -> bytes:
    body = f" {key}=".encode() + value + b"\n"
    return next(str(size).encode() + body for size in range(99_999) if len(f"{size}") + len(body) == size)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        (pax(record("comment", b"x" * 20_000)), "A PAX header of 20015 bytes is longer than 16384"),
        (pax(record("comment", b"1" * 16_000)) * 100, "number of more than 200 digits"),
        (pax(b"1" * 16_000) * 100, "A PAX header is damaged"),
        (pax(b"1 " + b"a" * 16_000 + b"=") * 100, "A PAX header is damaged"),
        (pax(b"9 path=a\n"[:-1] + b" "), "A PAX header is damaged"),
        (
            pax(b"".join(record(f"k{number}", b"") for number in range(101)), tarfile.XGLTYPE)
            + pax(record("comment", b"x")),
            "global PAX headers have more than 100 records",
        ),
    ],
    ids=["large", "digits", "one length", "one key", "no line", "global"],
)
def test_a_pax_header_is_read_in_one_pass_or_refused(tmp_path: Path, headers: bytes, says: str) -> None:
    with pytest.raises(BadArchive, match=says):
        unpack(gzip.compress(headers + packed(entry("a", b"x"))), tmp_path / "model", megabytes=9)


def test_pax_headers_of_common_programs_are_read(tmp_path: Path) -> None:
    name = f"{'ä' * 120}.txt"
    attributes = entry(
        name, b"x", mtime=1.5, pax_headers={"SCHILY.xattr.user.a": "b\n=c", "comment": "x" * 5_000}
    )
    commit = pax(record("comment", b"0123456789abcdef0123456789abcdef01234567"), tarfile.XGLTYPE)
    assert unpack(gzip.compress(commit + packed(attributes)), tmp_path / "model") == [name]


@pytest.mark.parametrize("error", [MemoryError, KeyError, TypeError, OverflowError])
def test_what_tarfile_raises_for_odd_headers_is_a_bad_archive(tmp_path: Path, error: type[Exception]) -> None:
    def check() -> None:
        raise error

    with pytest.raises(BadArchive, match=error.__name__):
        unpack(gzip.compress(packed(entry("a", b"x"))), tmp_path / "model", check=check)


class TestEndpoints:
    """CreateEndpoint with good and bad model data, source code and target models."""

    @pytest.mark.parametrize(
        "compress",
        [
            bytes,
            bz2.compress,
            lzma.compress,
            lambda data: gzip.compress(gzip.compress(data)),
            lambda data: gzip.compress(data)[:-20],
            lambda _: b"",
        ],
        ids=["tar", "tar.bz2", "tar.xz", "tar.gz.gz", "cut", "empty"],
    )
    def test_only_a_tar_gz_is_taken(self, clients: Clients, compress: Callable[[bytes], bytes]) -> None:
        """Whatever its name says: as a model's data, its source code, or a target model."""
        url = _put(clients, compress(packed(entry("code/inference.py", ECHO.encode()))))
        message = (
            f'Failed to extract model data archive for container "container_1" from URL "{url}". Please ensure that '
            "the object located at the URL is a valid tar.gz archive."
        )
        gzipped = {"S3DataSource": {"S3Uri": url, "S3DataType": "S3Object", "CompressionType": "Gzip"}}
        assert _failure(clients, ModelDataUrl=url) == message
        assert _failure(clients, ModelDataSource=gzipped) == message
        source = {"SAGEMAKER_SUBMIT_DIRECTORY": url, "SAGEMAKER_PROGRAM": "inference.py"}
        assert _failure(clients, Environment=source).endswith(
            "Please ensure that the object located at the URL is a valid tar.gz archive."
        )
        prefix, _, name = url.rpartition("/")
        endpoint = _endpoint(clients, Mode="MultiModel", ModelDataUrl=f"{prefix}/")
        clients.wait_for_endpoint(endpoint)
        assert "is a valid tar.gz archive." in _answer(clients, endpoint, name)

    def test_a_limit_that_is_exceeded_is_named(self) -> None:
        with EmbeddedSageMaker(
            settings=Settings(model_data_limit_mb=0.0625, model_data_limit_files=3)
        ) as embedded:
            clients = clients_of(embedded.url)
            files = {"code/inference.py": ECHO, "a": "", "b": ""}
            assert _failure(clients, ModelDataUrl=clients.upload_archive(files)).endswith(
                "is a valid tar.gz archive. It holds more than 3 files, the setting model_data_limit_files; raise the "
                "setting if the model is as large as that."
            )
            large = clients.upload_archive({"code/inference.py": ECHO, "weights": bytes(MIB)})
            assert "larger than 0.0625 MiB, the setting model_data_limit_mb" in _failure(
                clients, ModelDataUrl=large
            )

            code = {"SAGEMAKER_SUBMIT_DIRECTORY": large, "SAGEMAKER_PROGRAM": "inference.py"}
            assert "larger than 0.0625 MiB" in _failure(clients, Environment=code)

            for key in ("loose/weights", "loose/more/a", "loose/more/b"):
                clients.s3.put_object(Bucket=clients.bucket, Key=key, Body=b"x")
            assert "more than 3 files" in _failure(clients, ModelDataSource=_loose(clients, "loose/"))
            clients.s3.put_object(Bucket=clients.bucket, Key="one/weights", Body=bytes(MIB))
            assert "larger than 0.0625 MiB" in _failure(clients, ModelDataSource=_loose(clients, "one/"))

    def test_loose_files_stay_in_their_folder(self, clients: Clients) -> None:
        for key in ("up/../../x", "both/file", "both/file/below"):
            clients.s3.put_object(Bucket=clients.bucket, Key=key, Body=b"x")
        assert "outside of the model's folder" in _failure(clients, ModelDataSource=_loose(clients, "up/"))
        assert "'file/below' cannot be a file" in _failure(clients, ModelDataSource=_loose(clients, "both/"))

    def test_a_single_loose_object_is_copied_alone(self, clients: Clients) -> None:
        """An S3Object is that object, not all whose keys begin so."""
        code = """
import os
def model_fn(model_dir): return sorted(os.listdir(model_dir))
def transform_fn(model, data, content_type, accept): return " ".join(model), "text/plain"
"""
        for key in ("single/weights.bin", "single/weights.bin.old"):
            clients.s3.put_object(Bucket=clients.bucket, Key=key, Body=b"x")
        uri = f"s3://{clients.bucket}/single/weights.bin"
        source = {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Object", "CompressionType": "None"}}
        environment = {"SAGEMAKER_SUBMIT_DIRECTORY": clients.upload_archive({"inference.py": code})}
        name = _endpoint(clients, ModelDataSource=source, Environment=environment)
        clients.wait_for_endpoint(name)
        answer = clients.runtime.invoke_endpoint(EndpointName=name, Body=b"x")
        assert answer["Body"].read() == b"weights.bin"

    def test_a_target_model_is_held_to_the_limits_too(self) -> None:
        with EmbeddedSageMaker(settings=Settings(model_data_limit_files=2)) as embedded:
            clients = clients_of(embedded.url)
            files = {"code/inference.py": ECHO, "a": "", "b": ""}
            clients.upload_archive(files, key="many/large.tar.gz")
            clients.upload_archive({"code/inference.py": ECHO}, key="many/small.tar.gz")
            clients.s3.put_object(
                Bucket=clients.bucket,
                Key="many/plain.tar.gz",
                Body=packed(entry("code/inference.py", ECHO.encode())),
            )
            name = _endpoint(clients, Mode="MultiModel", ModelDataUrl=f"s3://{clients.bucket}/many/")
            clients.wait_for_endpoint(name)
            answers = {
                model: _answer(clients, name, model)
                for model in ("large.tar.gz", "plain.tar.gz", "small.tar.gz")
            }
            assert "valid tar.gz archive. It holds more than 2 files" in answers["large.tar.gz"]
            assert "valid tar.gz archive." in answers["plain.tar.gz"]
            assert answers["small.tar.gz"] == "x"


def _put(clients: Clients, body: bytes) -> str:
    key = f"{unique('archive')}/model.tar.gz"
    clients.s3.put_object(Bucket=clients.bucket, Key=key, Body=body)
    return f"s3://{clients.bucket}/{key}"


def _loose(clients: Clients, prefix: str) -> dict[str, object]:
    uri = f"s3://{clients.bucket}/{prefix}"
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": "S3Prefix", "CompressionType": "None"}}


def _endpoint(clients: Clients, **container: object) -> str:
    model, name = unique("model"), unique("endpoint")
    clients.sagemaker.create_model(
        ModelName=model,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE, **container},  # type: ignore[arg-type] # whatever the test wants
    )
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=clients.create_config(model))
    return name


def _failure(clients: Clients, **container: object) -> str:
    """Return why an endpoint of this container failed."""
    name = _endpoint(clients, **container)
    with pytest.raises(WaiterError):
        clients.wait_for_endpoint(name)
    return clients.sagemaker.describe_endpoint(EndpointName=name)["FailureReason"]


def _answer(clients: Clients, endpoint: str, model: str) -> str:
    try:
        answer = clients.runtime.invoke_endpoint(EndpointName=endpoint, TargetModel=model, Body=b"x")
    except ClientError as error:
        return str(error)
    return answer["Body"].read().decode()
