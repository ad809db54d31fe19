"""A plan holds every input once, with its model and output name, or the error names the reason."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.inputs import CHUNK, InputSource
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InputNotFound,
    InvalidRequest,
    InvalidS3Uri,
    TargetModelNotFound,
)
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from airflow_sm_plugin.multi_model.plan.estimate import estimate_plan
from airflow_sm_plugin.multi_model.plan.make import make_plan, shard_references
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from tests.multi_model.plan.plans import in_s3, planned, settings_of
from tests.stubs.aws import StubClient, running
from tests.support import Account, Answer, answering, unique


@pytest.fixture
def top(account: Account) -> str:
    """A prefix of this test alone, without a slash at its end."""
    return f"s3://{account.bucket}/{unique('plan')}"


async def estimated(s3: S3Objects, settings: PlanSettings, endpoint: EndpointModels) -> object:
    options = SplitOptions(split_type="Line", batch_strategy="SingleRecord", max_payload_bytes=1_000)
    return await estimate_plan(s3, settings, endpoint, options)


def upload(account: Account, location: str, body: str | bytes = "x") -> str:
    return account.upload(body, location.removeprefix(f"s3://{account.bucket}/"))


def manifest(account: Account, top: str, *lines: object, check_inputs: bool = False) -> InputSource:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    location = upload(account, f"{top}/manifest.jsonl", text)
    return InputSource(location=location, inputs_type="ManifestFile", check_inputs=check_inputs)


def keys_below(account: Account, location: str) -> list[str]:
    prefix = location.removeprefix(f"s3://{account.bucket}/")
    page = account.s3.list_objects_v2(Bucket=account.bucket, Prefix=prefix)
    return [listed_object["Key"] for listed_object in page.get("Contents", [])]


def test_every_object_below_a_prefix_is_an_entry_with_model_and_output(account: Account, top: str) -> None:
    for name in ("day=1/store=7/a.csv", "day=1/store=8/a.csv", "day=2/store=7/b.csv"):
        upload(account, f"{top}/in/{name}", name)
    upload(account, f"{top}/in/day=1/", "")
    plan = planned(settings_of(top, max_shards=1))
    assert [(entry.source, entry.target_model, entry.output) for entry in plan.entries[0]] == [
        (f"{top}/in/day=1/store=7/a.csv", "7.tar.gz", "day=1/store=7/a.csv"),
        (f"{top}/in/day=2/store=7/b.csv", "7.tar.gz", "day=2/store=7/b.csv"),
        (f"{top}/in/day=1/store=8/a.csv", "8.tar.gz", "day=1/store=8/a.csv"),
    ]
    assert all(entry.etag and entry.size == 19 for entry in plan.entries[0])
    assert [(work.target_model, work.first, work.count, work.bytes) for work in plan.works] == [
        ("7.tar.gz", 0, 2, 38),
        ("8.tar.gz", 2, 1, 19),
    ]
    summary = plan.plan
    assert (summary.inputs, summary.bytes, summary.models, summary.shards, summary.carried) == (
        3,
        57,
        2,
        1,
        0,
    )
    assert (summary.number, summary.endpoint_name, summary.outputs, summary.writer.run) == (
        0,
        "ratings",
        f"{top}/out",
        "a run",
    )


def test_markers_do_not_stop_a_plan_whose_models_are_named_by_partitions(account: Account, top: str) -> None:
    for name in (
        "_SUCCESS",
        "._SUCCESS.crc",
        ".DS_Store",
        "store=7/.a.csv.crc",
        "store=7/_SUCCESS",
        "x_$folder$",
    ):
        upload(account, f"{top}/in/{name}", "")
    upload(account, f"{top}/in/store=7/a.csv")
    plan = planned(settings_of(top))
    assert plan.outputs() == {f"{top}/in/store=7/a.csv": "store=7/a.csv"}


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("/in/", ["store=7/a.csv", "store=7/deep/b.csv"]),
        ("/in", ["store=7/a.csv", "store=7/deep/b.csv"]),
        ("/i", ["in/store=7/a.csv", "in/store=7/deep/b.csv"]),
        ("/in/store=7", ["a.csv", "deep/b.csv"]),
        ("/in/store=7/a.csv", ["a.csv"]),
    ],
)
def test_results_are_named_below_the_folder_that_the_prefix_names(
    account: Account, top: str, prefix: str, names: list[str]
) -> None:
    """With or without a slash at its end, as Batch Transform names them."""
    for name in ("a.csv", "deep/b.csv"):
        upload(account, f"{top}/in/store=7/{name}")
    settings = settings_of(
        top, source=InputSource(location=f"{top}{prefix}"), target_model="{relative}.tar.gz"
    )
    plan = planned(settings)
    assert sorted(map(str, plan.outputs().values())) == names
    assert sorted(work.target_model for work in plan.works) == [f"{name}.tar.gz" for name in names]


def test_two_equal_relative_keys_are_refused_with_the_remedy(account: Account, top: str) -> None:
    for name in ("in/in-a.csv", "in-a.csv"):
        upload(account, f"{top}/{name}")
    settings = settings_of(top, source=InputSource(location=f"{top}/in"), target_model="m")
    with pytest.raises(InvalidRequest, match=r"would have the same name, in-a\.csv: .*'\{key\}'"):
        planned(settings)
    assert len(planned(replace(settings, output_name="{key}")).sources) == 2


def test_patterns_choose_the_inputs_of_a_plan(account: Account, top: str) -> None:
    for name in ("store=7/a.csv", "store=7/b.json", "store=8/a.csv"):
        upload(account, f"{top}/in/{name}")
    source = InputSource(location=f"{top}/in", include=("*.csv",), exclude=("store=8/*",))
    assert planned(settings_of(top, source=source)).sources == [f"{top}/in/store=7/a.csv"]
    settings = settings_of(top, source=replace(source, include=("*.cvs",)))
    with pytest.raises(
        InvalidRequest, match=r"nothing was planned; all 3 objects .*no object matches include '\*\.cvs'"
    ):
        planned(settings)
    assert planned(replace(settings, empty_ok=True)).plan.inputs == 0


def test_shards_are_balanced_and_the_largest_model_of_each_comes_first(account: Account, top: str) -> None:
    sizes = {"a": 60_000, "b": 20_000, "c": 30_000, "d": 10_000}
    for store, size in sizes.items():
        for part in range(2):
            upload(account, f"{top}/in/store={store}/{part}", "x" * (size // 2))
    plan = planned(settings_of(top, max_shards=2))
    assert sorted([work.target_model for work in shard.models] for shard in plan.shards) == [
        ["a.tar.gz"],
        ["c.tar.gz", "b.tar.gz", "d.tar.gz"],
    ]
    assert [shard.bytes for shard in plan.shards] == [60_000, 60_000]
    assert all(
        entry.target_model == work.target_model
        for shard, entries in zip(plan.shards, plan.entries, strict=True)
        for work in shard.models
        for entry in entries[work.first : work.first + work.count]
    )


def test_references_hold_the_location_and_the_size_of_each_shard(account: Account, top: str) -> None:
    for store in range(3):
        upload(account, f"{top}/in/store={store}/a", "x" * 100)
    plan = planned(settings_of(top, max_shards=2))
    references = in_s3(lambda s3: shard_references(s3, plan.plan, plan.folder))
    location = plan.folder.location
    assert references == [
        {"plan_location": location, "shard": 0, "inputs": 2, "models": 2, "bytes": 200},
        {"plan_location": location, "shard": 1, "inputs": 1, "models": 1, "bytes": 100},
    ]


class TestManifest:
    @pytest.mark.parametrize("prefix", ["/in/", "/in"])
    def test_batch_transforms_own_form_names_results_below_its_prefix(
        self, account: Account, top: str, prefix: str
    ) -> None:
        slash = "" if prefix.endswith("/") else "/"
        body = json.dumps([{"prefix": f"{top}{prefix}"}, f"{slash}store=7/a.csv", f"{slash}_SUCCESS"])
        location = upload(account, f"{top}/manifest.json", body)
        source = InputSource(location=location, inputs_type="ManifestFile", check_inputs=False)
        plan = planned(settings_of(top, source=source, target_model="{relative}"))
        assert plan.outputs() == {
            f"{top}/in/store=7/a.csv": "store=7/a.csv",
            f"{top}/in/_SUCCESS": "_SUCCESS",
        }

    def test_a_line_can_give_the_model_and_one_object_can_go_to_several_models(
        self, account: Account, top: str
    ) -> None:
        source = manifest(
            account,
            top,
            {"source-ref": "s3://other/x/b.csv", "target-model": "own.tar.gz", "content-type": "text/csv"},
            {"source-ref": "s3://other/x/b.csv", "custom-attributes": "secret"},
        )
        settings = settings_of(
            top,
            source=source,
            target_model="{stem}.tar.gz",
            output_name="{target_model}/{relative}",
            max_shards=1,
        )
        first, second = planned(settings).entries[0]
        assert (first.target_model, first.output) == ("b.tar.gz", "b.tar.gz/x/b.csv")
        assert (first.custom_attributes, first.content_type) == ("secret", None)
        assert (second.target_model, second.output) == ("own.tar.gz", "own.tar.gz/x/b.csv")
        assert second.content_type == "text/csv"

    def test_the_bucket_is_part_of_the_names_only_if_there_are_several(
        self, account: Account, top: str
    ) -> None:
        lines = [{"source-ref": f"s3://{bucket}/a/b", "target-model": "m"} for bucket in ("one", "two")]
        settings = settings_of(top, source=manifest(account, top, *lines[:1]), target_model=None)
        assert planned(settings).outputs() == {"s3://one/a/b": "a/b"}
        settings = settings_of(top, source=manifest(account, top, *lines), target_model=None)
        assert planned(settings).outputs() == {"s3://one/a/b": "one/a/b", "s3://two/a/b": "two/a/b"}

    def test_an_input_without_a_model_is_named(self, account: Account, top: str) -> None:
        source = manifest(account, top, {"source-ref": "s3://other/b.csv"})
        with pytest.raises(InvalidRequest, match=r"which model the input s3://other/b\.csv goes to"):
            planned(settings_of(top, source=source, target_model=None))

    def test_a_malformed_line_is_named_by_its_number(self, account: Account, top: str) -> None:
        source = manifest(account, top, {"source-ref": "s3://b/k", "target-model": "m"}, "nonsense")
        with pytest.raises(InvalidRequest, match="line 2 of the manifest is not JSON"):
            planned(settings_of(top, source=source))
        assert keys_below(account, f"{top}/out") == []

    def test_a_missing_object_is_named_unless_check_inputs_is_off(self, account: Account, top: str) -> None:
        line = {"source-ref": f"{top}/nowhere", "target-model": "m"}
        with pytest.raises(InputNotFound, match=r"line 1: .*/nowhere"):
            planned(settings_of(top, source=manifest(account, top, line, check_inputs=True)))
        assert planned(settings_of(top, source=manifest(account, top, line))).plan.inputs == 1

    def test_inputs_below_the_outputs_are_refused(self, account: Account, top: str) -> None:
        source = manifest(account, top, {"source-ref": f"{top}/out/a.out", "target-model": "m"})
        with pytest.raises(InvalidRequest, match=f"input {top}/out/a.out and the outputs .* are not apart"):
            planned(settings_of(top, source=source))


def test_two_inputs_of_one_output_name_are_both_named(account: Account, top: str) -> None:
    for day in (1, 2):
        upload(account, f"{top}/in/day={day}/store=7/a.csv")
    match = (
        rf"{top}/in/day=1/store=7/a\.csv and {top}/in/day=2/store=7/a\.csv would have the same name, a\.csv"
    )
    with pytest.raises(InvalidRequest, match=match):
        planned(settings_of(top, output_name="{name}"))
    assert keys_below(account, f"{top}/out") == []


def test_a_pattern_for_a_prefix_gets_the_remedy(account: Account, top: str) -> None:
    upload(account, f"{top}/in/a.csv")
    source = InputSource(location=f"{top}/in/*.csv")
    with pytest.raises(
        InvalidRequest, match=r"nothing was planned; .* give include=\[\"\*\.csv\"\]; check the prefix"
    ):
        planned(settings_of(top, source=source))


def test_a_target_model_that_http_would_trim_is_refused_wherever_it_comes_from(
    account: Account, top: str
) -> None:
    """SageMaker would invoke the model "7" for "7 "."""
    match = r"target.model.* '7 ' is not allowed: it holds U\+0020 at its end"
    for name in ("7", "7 "):
        upload(account, f"{top}/models/{name}")
    endpoint = EndpointModels(endpoint_name="ratings", prefixes=(f"{top}/models/",))
    upload(account, f"{top}/in/store=7 /a.csv")
    with pytest.raises(InvalidRequest, match=match):
        planned(settings_of(top, target_model="{store}"), endpoint)
    source = manifest(account, top, {"source-ref": "s3://other/b.csv", "target-model": "7 "})
    with pytest.raises(InvalidRequest, match=match):
        planned(settings_of(top, source=source), endpoint)
    assert keys_below(account, f"{top}/out") == []


def test_a_key_without_a_field_of_the_template_is_named(account: Account, top: str) -> None:
    upload(account, f"{top}/in/a.csv")
    with pytest.raises(InvalidRequest, match=r"target_model names the field \{store\}.*in/a\.csv"):
        planned(settings_of(top))


def test_no_inputs_are_refused_without_empty_ok(account: Account, top: str) -> None:
    with pytest.raises(
        InvalidRequest, match=f"no inputs below {top}/in/: nothing was planned.*empty_ok=True"
    ):
        planned(settings_of(top))
    with pytest.raises(InvalidRequest, match=r"manifest\.jsonl lists no inputs"):
        planned(settings_of(top, source=manifest(account, top, "")))
    plan = planned(settings_of(top, empty_ok=True))
    assert (plan.plan.inputs, plan.plan.shards, plan.shards) == (0, 0, [])


@pytest.mark.parametrize(
    ("inputs", "changes", "refused"),
    [
        ("/data/", {"outputs": "/data/out"}, "the outputs"),
        ("/data", {"outputs": "/database"}, "the outputs"),
        ("/out/in/", {"outputs": "/out"}, "the outputs"),
        ("/out/", {"outputs": "/out/"}, "the outputs"),
        ("/in/", {"state_prefix": "/in/state"}, "the state_prefix"),
        ("/state/in/", {"state_prefix": "/state"}, "the state_prefix"),
    ],
)
def test_inputs_and_written_prefixes_are_apart(
    top: str, inputs: str, changes: dict[str, str], refused: str
) -> None:
    settings = settings_of(top, source=InputSource(location=f"{top}{inputs}"))
    locations = {name: f"{top}{path}" for name, path in changes.items()}
    with pytest.raises(InvalidRequest, match=f"inputs {top}{inputs} and {refused} .* are not apart"):
        replace(settings, **locations).checked()  # type: ignore[arg-type] # both are locations


ENDPOINT = EndpointModels(
    endpoint_name="ratings",
    prefixes=("s3://top/models/a/", "s3://top/models/b/"),
    written={"the endpoint's data capture": "s3://top/captured"},
)


@pytest.mark.parametrize("inputs", ["captured/ratings/", "cap", "models/", "models/b/x/", ""])
@pytest.mark.parametrize("plan", [make_plan, estimated])
def test_objects_that_the_endpoint_writes_and_its_models_are_no_inputs(
    inputs: str, plan: Callable[..., Awaitable[object]]
) -> None:
    settings = settings_of("s3://other", source=InputSource(location=f"s3://top/{inputs}"))
    with pytest.raises(InvalidRequest, match=r"of the endpoint s3://top|endpoint's data capture s3://top"):
        in_s3(lambda s3: plan(s3, settings, ENDPOINT))


@pytest.mark.parametrize("key", ["captured/x.jsonl", "models/b/m.tar.gz"])
def test_objects_that_the_endpoint_writes_and_its_models_are_no_inputs_of_a_manifest(
    account: Account, top: str, key: str
) -> None:
    line = {"source-ref": f"s3://top/{key}", "target-model": "m"}
    source = manifest(account, top, {**line, "source-ref": "s3://top/fine"}, line)
    with pytest.raises(InvalidRequest, match=f"the input s3://top/{key} and .* are not apart"):
        planned(settings_of(top, source=source), ENDPOINT)


def test_another_batchs_outputs_are_no_inputs_by_accident(account: Account, top: str) -> None:
    """A prefix of outputs contains the batch's state, too."""
    upload(account, f"{top}/in/store=1/a")
    first = settings_of(top)
    planned(first)
    for inputs in ("out/", "o", "out/_batch/"):
        source = InputSource(location=f"{top}/{inputs}")
        again = settings_of(top, source=source, outputs=f"{top}/scored", target_model="m.tar.gz")
        with pytest.raises(
            InvalidRequest, match="is part of the state of a batch, no data for a model: nothing was sent"
        ):
            planned(again)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"endpoint_name": "not a name"}, InvalidRequest, "endpoint name"),
        ({"outputs": "out"}, InvalidS3Uri, "outputs must look like s3://"),
        ({"state_prefix": "state"}, InvalidS3Uri, "state_prefix must look like s3://"),
        ({"max_shards": 0}, InvalidRequest, "max_shards is 0"),
        ({"target_model": None}, InvalidRequest, "target_model is needed"),
        ({"target_model": "{"}, InvalidRequest, "target_model is no template"),
        ({"output_name": "{}"}, InvalidRequest, "output_name may hold fields"),
        ({"source": InputSource(location="in/")}, InvalidS3Uri, "inputs must look like s3://"),
        ({"source": InputSource(location="s3://b/", inputs_type="Folder")}, InvalidRequest, "inputs_type"),
    ],
)
def test_invalid_settings_are_refused_without_a_call_of_s3(
    changes: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        settings_of("s3://bucket/top", **changes).checked()


@pytest.mark.parametrize(
    ("changes", "is_other_batch"),
    [
        (
            {
                "max_shards": 2,
                "writer": StateWriter(run="x"),
                "restart": True,
                "check_models": False,
                "empty_ok": True,
            },
            False,
        ),
        ({"outputs": "s3://b/top/out/"}, False),
        ({"endpoint_name": "other"}, True),
        ({"source": InputSource(location="s3://b/top/in/", include=("*.csv",), exclude=("x",))}, False),
        ({"source": InputSource(location="s3://b/other/")}, True),
        ({"target_model": "{stem}"}, True),
        ({"outputs": "s3://b/other"}, True),
        ({"output_name": "{key}"}, True),
    ],
)
def test_changes_that_make_another_batch(changes: dict[str, object], is_other_batch: bool) -> None:
    settings = settings_of("s3://b/top")
    assert (replace(settings, **changes).arguments != settings.arguments) is is_other_batch  # type: ignore[arg-type] # a table


def test_the_state_is_stored_below_the_outputs_or_the_state_prefix(account: Account, top: str) -> None:
    upload(account, f"{top}/in/store=1/a")
    assert planned(settings_of(top)).folder.location.startswith(f"{top}/out/_batch/")
    elsewhere = planned(settings_of(top, state_prefix=f"{top}/state/"))
    assert elsewhere.folder.location.startswith(f"{top}/state/")


class TestModels:
    @pytest.fixture
    def endpoint(self, account: Account, top: str) -> EndpointModels:
        """An endpoint that has the model of store 1 only."""
        upload(account, f"{top}/models/1.tar.gz")
        for store in (1, 2):
            upload(account, f"{top}/in/store={store}/a")
        return EndpointModels(endpoint_name="ratings", prefixes=(f"{top}/models/",))

    def test_a_missing_artefact_is_recorded_and_logged_once(
        self, top: str, endpoint: EndpointModels, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            plan = planned(settings_of(top), endpoint)
        assert {work.target_model: work.missing for work in plan.works} == {
            "1.tar.gz": False,
            "2.tar.gz": True,
        }
        assert plan.plan.missing_models == ("2.tar.gz",)
        (warning,) = (record for record in caplog.records if record.levelno == logging.WARNING)
        assert f"{top}/models/: 2.tar.gz;" in warning.getMessage()

    def test_a_missing_artefact_fails_the_plan_with_fail_on_missing(
        self, account: Account, top: str, endpoint: EndpointModels
    ) -> None:
        with pytest.raises(
            TargetModelNotFound, match=r"nothing was planned: 1 target model has no artefact.*: 2\.tar\.gz"
        ):
            planned(settings_of(top, fail_on_missing=True), endpoint)
        assert keys_below(account, f"{top}/out") == []

    def test_artefacts_are_not_checked_without_check_models_or_a_known_prefix(
        self, top: str, endpoint: EndpointModels
    ) -> None:
        assert planned(settings_of(top, check_models=False), endpoint).plan.missing_models == ()
        assert planned(settings_of(top), EndpointModels(endpoint_name="ratings")).plan.missing_models == ()
        assert planned(settings_of(top), None).plan.missing_models == ()


def test_a_shard_that_cannot_be_written_ends_the_plan_with_the_reason(
    account: Account, top: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error keeps its class, so that Airflow knows whether a retry helps; and there is no plan."""
    for store in range(20):
        upload(account, f"{top}/in/store={store}/a")
    denied = Answer(403, "AccessDenied")
    # The log of plans, the listing, then the writes.
    with answering(None, None, denied, otherwise=account.url) as (url, requests):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        with pytest.raises(
            AccessDenied, match=r"s3:PutObject .*/shards/0000\d/(shard\.json|inputs/00000\.jsonl):"
        ):
            planned(settings_of(top))
    assert not any(
        "plan.json" in request or "/plans/" in request for request in requests if request.startswith("PUT")
    )


@pytest.fixture(scope="module")
def quick() -> Iterator[StubClient]:
    """A stub of S3 for this module, for more objects than moto handles in reasonable time."""
    with running() as stub:
        yield stub


def test_many_inputs_are_planned_at_one_request_for_each_page_and_chunk(
    quick: StubClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", quick.url)
    top, count = f"s3://bench/{unique('plan')}", 3_000
    prefix = top.removeprefix("s3://bench/")
    quick.fill([f"{prefix}/in/store={number % 7}/{number:06d}" for number in range(count)])
    quick.take_calls()
    plan = planned(settings_of(top, max_shards=2))
    calls = quick.take_calls()
    assert sorted(shard.inputs for shard in plan.shards) == [1_286, 1_714]
    chunks = sum(-(-shard.inputs // CHUNK) for shard in plan.shards)
    assert calls["list"] == 3 + 1  # of the inputs, and of the log of plans
    assert calls["put"] == chunks + 2 + 2
    assert plan.sources == sorted(f"{top}/in/store={number % 7}/{number:06d}" for number in range(count))
