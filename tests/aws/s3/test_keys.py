"""Keys of S3 over HTTP: whatever bytes a key has, the embedded service keeps it as it is, on both transports."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_sm_plugin.aws.answers import result_locations
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.local.protocol.protocol import runtime_response
from tests.aws.s3.against import run
from tests.stubs.recorder import TRANSPORTS
from tests.support import Account

pytestmark = pytest.mark.airflow

_ODD = [
    *"%?#+/. ~&=;:@,\\<>\"'*|^`{}[]\n\r\t\x01\x7f\x85\u2028é日\U0001f600",
    "%2F",
    "%3A",
    "//",
    "/../",
    "/./",
    "a",
]
keys = st.lists(st.sampled_from(_ODD), min_size=1, max_size=8).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40
)


@pytest.mark.parametrize("transport", TRANSPORTS)
@settings(max_examples=20)
@given(names=st.sets(keys, min_size=2, max_size=6))
@example(names={"a%2Fb", "a/b", "a%252Fb"})
@example(names={"what?1", "what?2", "what"})
@example(names={"a\nb", "a_b", "a\r\nb", "\n"})
@example(names={"a//b", "a/b", "/a", "//"})
@example(names={"a/../b", "b", "./b", "..", "."})
@example(names={"a\0b", "\ufffe", "\uffff", "\ufeff"})
@example(names={"a ", "a", " a", "a+", "a%20"})
@example(names={"é" * 512, "k" * 1_024})
def test_keys_are_put_listed_and_read_as_they_are(
    module_account: Account, transport: str, names: set[str]
) -> None:
    """A listing tells the truth: a name that is spoilt both ways would hide behind a read by name."""
    account = module_account.with_own_bucket()
    for name in names:
        account.s3.put_object(Bucket=account.bucket, Key=name, Body=name.encode())
    listed = [one["Key"] for one in account.s3.list_objects_v2(Bucket=account.bucket).get("Contents", [])]
    assert listed == sorted(names, key=str.encode)
    objects = [name for name in names if not name.endswith("/")]
    run(TRANSPORTS[transport], lambda s3: _as_they_are(s3, account.bucket, listed, objects))
    kept = {name: account.s3.get_object(Bucket=account.bucket, Key=name)["Body"].read() for name in names}
    assert kept == {name: (b"again " if name in objects else b"") + name.encode() for name in names}


async def _as_they_are(s3: S3Objects, bucket: str, listed: list[str], objects: list[str]) -> None:
    """Our own transports see the same names, read them, write them, and find them by themselves as a prefix."""
    assert (await s3.list_objects(bucket, "")).names == listed
    assert (await s3.list_names(bucket, "")).names == listed
    for name in objects:
        assert await s3.read(f"s3://{bucket}/{name}") == name.encode()
        await s3.write(f"s3://{bucket}/{name}", b"again " + name.encode())
        assert (await s3.list_names(bucket, "", start_after=name)).names == listed[listed.index(name) + 1 :]
    assert (await s3.list_names(bucket, "")).names == listed


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
@example("é日/\U0001f600")
@example("ü")
def test_a_results_location_goes_through_a_header_as_utf_8(key: str) -> None:
    """Undocumented: what is read is what was written where both take a header for bytes of UTF-8."""
    location = f"s3://bucket/{key}/x.out"
    answer = runtime_response("InvokeEndpointAsync", {"InferenceId": "i", "OutputLocation": location})
    header = answer.headers["X-Amzn-SageMaker-OutputLocation"].encode("latin-1").decode("latin-1")
    assert result_locations(header, None) == (location, None)


def test_a_location_in_another_encoding_stays_as_it_is_read() -> None:
    assert result_locations("s3://bucket/\xe9/x.out", None) == ("s3://bucket/\xe9/x.out", None)
