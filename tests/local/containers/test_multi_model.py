"""Multi-model endpoints over real HTTP: lazy loading, what waits for it, what is evicted, and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.containers.model_data import unpack
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import ECHO, IMAGE, ROLE, Clients, clients_of, unique
from tests.local.faults.test_faults import control

SAYS = """
import json, os

class Model:
    def __init__(self, folder):
        self.word, self.folder = open(os.path.join(folder, "word.txt")).read(), folder

    def __del__(self):
        if os.environ.get("GONE"):
            open(os.path.join(os.environ["GONE"], self.word), "w").close()

def model_fn(model_dir):
    return Model(model_dir)

def transform_fn(model, data, content_type, accept, context):
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", f"from {model.word}")
    seen = [context.get_request_header(0, f"X-Amzn-SageMaker-{name}") for name in ("Target-Model", "Custom-Attributes")]
    return json.dumps([model.word, os.getpid(), model.folder, *seen]), "application/json"
"""
"""It answers the word in its archive, its process, its folder, and the headers of the request."""

WAITS = """
import pathlib, time
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    gate = pathlib.Path(data.decode())
    gate.with_suffix(".here").touch()
    while not gate.exists(): time.sleep(0.01)
    return "done"
"""
"""It answers once a file, whose path is the body, is there; beside it a file says that it waits."""


class Many:
    """A service of its own with one multi-model endpoint."""

    def __init__(self, embedded: EmbeddedSageMaker, **container: object) -> None:
        self.embedded = embedded
        self.clients: Clients = clients_of(embedded.url)
        self.name = unique("endpoint")
        self.container: dict[str, object] = {
            "Image": IMAGE,
            "Mode": "MultiModel",
            "ModelDataUrl": f"s3://{self.clients.bucket}/many/",
            **container,
        }

    def put(self, name: str, word: str = "", *, code: str = SAYS, **files: str | bytes) -> None:
        """Upload one model's archive."""
        content = {"code/inference.py": code, "word.txt": word or name.partition(".")[0], **files}
        self.clients.upload_archive(content, key=f"many/{name}")

    def config(self, *, before: tuple[str, ...] = (), **others: Any) -> str:  # noqa: ANN401 - as create_config
        """Create the model, behind containers of this code, and an endpoint configuration."""
        model = unique("model")
        inner = [
            {"Image": IMAGE, "ModelDataUrl": self.clients.upload_archive({"code/inference.py": code})}
            for code in before
        ]
        containers = cast("Any", [*inner, self.container])
        self.clients.sagemaker.create_model(ModelName=model, ExecutionRoleArn=ROLE, Containers=containers)
        return self.clients.create_config(model, **others)

    def deploy(self, *names: str, **others: Any) -> Many:  # noqa: ANN401 - as config
        """Put models that say their names, and have the endpoint InService."""
        for name in names:
            self.put(name)
        config = self.config(**others)
        self.clients.sagemaker.create_endpoint(EndpointName=self.name, EndpointConfigName=config)
        self.clients.wait_for_endpoint(self.name)
        return self

    def ask(self, model: str, body: bytes = b"x", **others: str) -> Mapping[str, Any]:
        """Invoke a model; return boto3's answer with the body read."""
        answer = self.clients.runtime.invoke_endpoint(
            EndpointName=self.name, TargetModel=model, Body=body, **others
        )
        return {**answer, "Body": answer["Body"].read()}

    def says(self, model: str) -> list[Any]:
        """Invoke a model that SAYS."""
        return cast("list[Any]", json.loads(self.ask(model)["Body"]))

    def refusal(self, model: str, body: bytes = b"x") -> tuple[int, str, str, int | None]:
        """Invoke a model in vain: HTTP status, code, message, and the container's status."""
        with pytest.raises(ClientError) as refused:
            self.ask(model, body)
        response = cast("Mapping[str, Any]", refused.value.response)
        error, status = response["Error"], response["ResponseMetadata"]["HTTPStatusCode"]
        return status, error["Code"], error["Message"], response.get("OriginalStatusCode")

    def instances(self) -> list[dict[str, Any]]:
        """Return each instance's models."""
        answer = control(self.embedded, "GET", f"models?endpoint={self.name}")
        return cast("list[dict[str, Any]]", answer["instances"])

    def instance(self) -> dict[str, Any]:
        """Return the models of the only instance."""
        (only,) = self.instances()
        return only

    def eventually(self, ready: Callable[[], object]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + 600
        while not ready():
            assert time.monotonic() < deadline, self.instances()
            time.sleep(0.01)

    def answers(self, model: str) -> bool:
        """Say whether a model can be invoked now."""
        with contextlib.suppress(ClientError):
            return bool(self.ask(model))
        return False


@contextlib.contextmanager
def many(settings: Settings | None = None, **container: object) -> Iterator[Many]:
    with EmbeddedSageMaker(settings=settings) as embedded:
        yield Many(embedded, **container)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event that a model's download waits for, until the test's end at the latest."""
    permitted = threading.Event()

    def held(*arguments: Any) -> None:  # noqa: ANN401 - as unpack
        permitted.wait(600)
        unpack(*arguments)

    monkeypatch.setattr("airflow_sm_plugin.local.containers.model_host.unpack", held)
    yield permitted
    permitted.set()


@pytest.fixture(scope="module")
def simple() -> Iterator[Many]:
    """An endpoint whose models say their names, for the tests that change nothing."""
    with many() as endpoint:
        yield endpoint.deploy("a.tar.gz", "b.tar.gz", "deep/below/c.tar.gz")


def test_one_process_serves_many_models_each_from_a_folder_of_its_own(simple: Many) -> None:
    answers = {name: simple.says(name) for name in ("a.tar.gz", "b.tar.gz", "deep/below/c.tar.gz")}
    assert [(answer[0], answer[3]) for answer in answers.values()] == [
        ("a", "a.tar.gz"),
        ("b", "b.tar.gz"),
        *_deep(answers),
    ]
    assert len({answer[1] for answer in answers.values()}) == 1
    assert len({answer[2] for answer in answers.values()}) == 3


def _deep(answers: Mapping[str, list[Any]]) -> list[tuple[str, str]]:
    assert answers["deep/below/c.tar.gz"][0] == "deep/below/c"
    return [("deep/below/c", "deep/below/c.tar.gz")]


def test_custom_attributes_reach_the_model_and_come_back(simple: Many) -> None:
    answer = simple.ask("a.tar.gz", CustomAttributes="Trace ID: 7")
    assert json.loads(answer["Body"])[4] == "Trace ID: 7"
    assert (answer["CustomAttributes"], answer["ContentType"]) == ("from a", "application/json")
    assert answer["InvokedProductionVariant"] == "AllTraffic"


def test_an_endpoint_starts_no_process_before_it_is_invoked() -> None:
    with many() as endpoint:
        endpoint.deploy("a.tar.gz")
        assert endpoint.instance()["pid"] is None
        assert endpoint.says("a.tar.gz")[1] == endpoint.instance()["pid"]


@pytest.mark.parametrize(
    ("prefix", "found", "missing"),
    [("many", "/a.tar.gz", "a.tar.gz"), ("many/", "a.tar.gz", "/a.tar.gz")],
)
def test_prefix_and_target_model_are_joined_as_they_are(prefix: str, found: str, missing: str) -> None:
    with many() as endpoint:
        endpoint.container["ModelDataUrl"] = f"s3://{endpoint.clients.bucket}/{prefix}"
        endpoint.deploy("a.tar.gz")
        assert endpoint.says(found)[0] == "a"
        assert "Failed to download model data" in str(endpoint.refusal(missing))


def test_a_model_is_loaded_once_however_many_ask_for_it() -> None:
    """Far more calls wait than the server began with threads, and loading needs some of them, too."""
    settings = Settings(multi_model_load_seconds=0.3, multi_model_ready_wait_seconds=600)
    with many(settings) as endpoint:
        names = [f"m{number}.tar.gz" for number in range(5)]
        endpoint.deploy(*names)
        with ThreadPoolExecutor(100) as pool:
            words = list(pool.map(lambda name: endpoint.says(name)[0], names * 20))
        assert Counter(words) == {f"m{number}": 20 for number in range(5)}
        held = endpoint.instance()
        assert (held["loads"], held["evictions"]) == (dict.fromkeys(names, 1), 0)
        assert sorted(held["loaded"]) == names


def test_a_model_that_is_not_ready_in_time_is_a_429_and_loading_goes_on(downloads: threading.Event) -> None:
    with many(Settings(multi_model_download_seconds=0.2, multi_model_load_seconds=0.3)) as endpoint:
        endpoint.embedded.settings.multi_model_ready_wait_seconds = 0
        endpoint.deploy("a.tar.gz")
        began = time.monotonic()
        refused = endpoint.refusal("a.tar.gz")
        message = "The model is not ready for inference yet. Please try your request later."
        assert refused == (429, "ModelNotReadyException", message, None)
        assert (endpoint.instance()["loading"], endpoint.instance()["loaded"]) == (["a.tar.gz"], [])
        downloads.set()
        endpoint.eventually(lambda: endpoint.answers("a.tar.gz"))
        assert time.monotonic() - began >= 0.5
        assert endpoint.instance()["loads"] == {"a.tar.gz": 1}


def test_the_model_that_was_not_used_for_longest_is_unloaded(tmp_path: Path) -> None:
    with many(Settings(multi_model_capacity=2), Environment={"GONE": str(tmp_path)}) as endpoint:
        endpoint.deploy("a.tar.gz", "b.tar.gz", "c.tar.gz")
        folders = {name: Path(endpoint.says(f"{name}.tar.gz")[2]) for name in "aba"}
        assert endpoint.instance()["loaded"] == ["b.tar.gz", "a.tar.gz"]
        assert endpoint.says("c.tar.gz")[0] == "c"
        held = endpoint.instance()
        assert (held["loaded"], held["evictions"]) == (["a.tar.gz", "c.tar.gz"], 1)
        assert [path.name for path in tmp_path.iterdir()] == ["b"]  # freed, not only forgotten
        assert (folders["a"].exists(), folders["b"].exists()) == (True, False)
        assert endpoint.says("b.tar.gz")[2] != str(folders["b"])
        assert endpoint.instance()["loads"] == {"a.tar.gz": 1, "b.tar.gz": 2, "c.tar.gz": 1}


def test_a_model_in_use_is_not_evicted_and_without_room_the_next_is_a_507(tmp_path: Path) -> None:
    settings = Settings(multi_model_capacity=1, multi_model_ready_wait_seconds=0.2)
    with many(settings) as endpoint, ThreadPoolExecutor(1) as pool:
        endpoint.put("busy.tar.gz", code=WAITS)
        endpoint.deploy("b.tar.gz")
        endpoint.eventually(lambda: endpoint.instance() and _starts(endpoint, "busy.tar.gz", tmp_path))
        gate = tmp_path / "gate"
        running = pool.submit(endpoint.ask, "busy.tar.gz", str(gate).encode())
        endpoint.eventually(gate.with_suffix(".here").exists)
        status, code, message, original = _refused_for_want_of_room(endpoint, "b.tar.gz", settings)
        assert (status, code, original) == (424, "ModelError", 507)
        assert 'with message "Insufficient memory to load model b.tar.gz."' in message
        settings.multi_model_ready_wait_seconds = 600
        waiting = threading.Thread(target=endpoint.says, args=("b.tar.gz",))
        waiting.start()
        endpoint.eventually(lambda: endpoint.instance()["loading"])
        gate.touch()
        assert running.result()["Body"] == b"done"
        waiting.join(600)  # it waited for the room that the busy one then left
        assert endpoint.instance()["loaded"] == ["b.tar.gz"]


def _refused_for_want_of_room(
    endpoint: Many, model: str, settings: Settings
) -> tuple[int, str, str, int | None]:
    """Return the refusal of a call that waits for as long as a busy machine needs to download the model."""
    for seconds in (0.2, 2, 20, 200):
        settings.multi_model_ready_wait_seconds = seconds
        refusal = endpoint.refusal(model)
        if refusal[0] != 429:
            break
        endpoint.eventually(lambda: not endpoint.instance()["loading"])
        endpoint.refusal(model)  # the next call gets the failure of that load: this call takes it
    return refusal


def _starts(endpoint: Many, model: str, folder: Path) -> bool:
    """Have a model that WAITS loaded: starting the process may take longer than a call waits here."""
    gate = folder / "open"
    gate.touch()
    with contextlib.suppress(ClientError):
        return bool(endpoint.ask(model, str(gate).encode()))
    return False


def test_memory_is_bounded_by_the_unpacked_size_of_the_models() -> None:
    with many(Settings(multi_model_memory_mb=1)) as endpoint:
        for name, size in (("a", 600), ("b", 300), ("c", 500), ("large", 1100)):
            endpoint.put(f"{name}.tar.gz", weights=os.urandom(size * 1024))
        endpoint.deploy()
        for name in "abc":
            assert endpoint.says(f"{name}.tar.gz")[0] == name
        assert endpoint.instance()["loaded"] == ["b.tar.gz", "c.tar.gz"]
        assert 800 * 1024 < endpoint.instance()["bytes"] < 810 * 1024
        assert endpoint.refusal("large.tar.gz")[3] == 507  # at once: nothing is evicted in vain
        held = endpoint.instance()
        assert (held["loaded"], held["evictions"]) == (["b.tar.gz", "c.tar.gz"], 1)


def test_a_container_without_memory_has_others_unloaded_first() -> None:
    full = "def model_fn(model_dir): raise MemoryError('full')"
    with many() as endpoint:
        endpoint.put("full.tar.gz", code=full)
        endpoint.deploy("a.tar.gz")
        assert endpoint.says("a.tar.gz")[0] == "a"
        assert endpoint.refusal("full.tar.gz")[3] == 507
        held = endpoint.instance()
        assert (held["loaded"], held["evictions"]) == ([], 1)


def test_a_missing_artefact_is_refused_until_it_is_there(simple: Many) -> None:
    status, code, message, _ = simple.refusal("later.tar.gz")
    assert (status, code) == (400, "ValidationError")
    where = f"(bucket: {simple.clients.bucket}, key: many/later.tar.gz)"
    assert message.startswith(f"Failed to download model data {where}. Please ensure that")
    simple.put("later.tar.gz")
    assert simple.says("later.tar.gz")[0] == "later"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "def model_fn(model_dir): raise KeyError('no weights')",
            "Failed to load model bad.tar.gz: 'no weights'",
        ),
        ("raise SystemExit(3)", "Failed to load model bad.tar.gz: 3"),
        ("def predict_fn(data, model): pass", "the archive's code has no model_fn"),
        (b"no archive", "Failed to extract model data archive from URL s3://"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_a_model_error_until_it_is_mended(
    simple: Many, code: str | bytes, says: str
) -> None:
    if isinstance(code, bytes):
        simple.clients.s3.put_object(Bucket=simple.clients.bucket, Key="many/bad.tar.gz", Body=code)
    else:
        simple.put("bad.tar.gz", code=code)
    status, error, message, original = simple.refusal("bad.tar.gz")
    assert (status, error, original) == (424, "ModelError", 500)
    assert says in message
    name = unique("good")
    simple.put("bad.tar.gz", word=name)
    assert simple.says("bad.tar.gz")[0] == name
    _evict(simple, "bad.tar.gz")


def _evict(endpoint: Many, model: str) -> None:
    """Have every idle model unloaded."""
    endpoint.put("nothing.tar.gz", code="def model_fn(model_dir): raise MemoryError")
    endpoint.refusal("nothing.tar.gz")
    assert model not in endpoint.instance()["loaded"]


def test_a_failure_without_a_waiting_call_is_reported_to_the_next_call_and_then_forgotten(
    downloads: threading.Event,
) -> None:
    with many(Settings(multi_model_ready_wait_seconds=0)) as endpoint:
        endpoint.deploy()
        for _ in range(2):
            downloads.clear()
            assert endpoint.refusal("none.tar.gz")[1] == "ModelNotReadyException"
            downloads.set()
            endpoint.eventually(lambda: not endpoint.instance()["loading"])
            assert endpoint.refusal("none.tar.gz")[1] == "ValidationError"


def test_an_overwritten_artefact_is_served_from_the_cache_while_it_is_loaded(simple: Many) -> None:
    simple.put("o.tar.gz", "old")
    assert simple.says("o.tar.gz")[0] == "old"
    simple.put("o.tar.gz", "new")
    assert simple.says("o.tar.gz")[0] == "old"
    _evict(simple, "o.tar.gz")
    assert simple.says("o.tar.gz")[0] == "new"


def test_without_a_cache_a_model_is_unloaded_after_each_call() -> None:
    with many(MultiModelConfig={"ModelCacheSetting": "Disabled"}) as endpoint:
        endpoint.deploy("a.tar.gz")
        folders = [Path(endpoint.says("a.tar.gz")[2]) for _ in range(2)]
        endpoint.eventually(lambda: not any(folder.exists() for folder in folders))
        held = endpoint.instance()
        assert (held["loaded"], held["loads"], held["evictions"]) == ([], {"a.tar.gz": 2}, 0)


def test_a_multi_model_container_takes_part_in_a_pipeline_and_logs_like_any_other() -> None:
    first = ECHO.replace("return data, content_type", "return data + b'>first', 'text/first'")
    second = """
print("imported")
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    print("asked")
    return f"{data.decode()}>second {content_type} {accept}"
"""
    with many() as endpoint:
        endpoint.put("a.tar.gz", code=second)
        endpoint.deploy(before=(first,))
        answer = endpoint.ask("a.tar.gz", b"in", ContentType="application/x", Accept="text/last")
        assert answer["Body"] == b"in>first>second text/first text/last"
        endpoint.clients.sagemaker.delete_endpoint(EndpointName=endpoint.name)
        endpoint.clients.wait_until_deleted(endpoint.name)
        group, logs = f"/aws/sagemaker/Endpoints/{endpoint.name}", endpoint.clients.logs
        _, stream = logs.describe_log_streams(logGroupName=group)["logStreams"]
        name = stream["logStreamName"]
        assert name.endswith("/container_2")
        events = logs.get_log_events(logGroupName=group, logStreamName=name)["events"]
        assert [event["message"] for event in events] == [
            "Starting container container_2",
            "imported",
            "asked",
        ]


def test_models_spread_over_the_instances_and_stay_where_they_are() -> None:
    names = [f"m{number}.tar.gz" for number in range(8)]
    with many() as endpoint:
        endpoint.deploy(*names, instances=2)
        first = {name: endpoint.says(name)[1] for name in names}
        assert sorted(Counter(first.values()).values()) == [4, 4]
        with ThreadPoolExecutor(8) as pool:
            again = list(pool.map(lambda name: endpoint.says(name)[1], names * 5))
        assert again == [first[name] for name in names] * 5
        assert [sum(instance["loads"].values()) for instance in endpoint.instances()] == [4, 4]


def test_scaling_takes_models_away_and_brings_instances_for_new_ones() -> None:
    names = [f"m{number}.tar.gz" for number in range(4)]
    with many() as endpoint:
        endpoint.deploy(*names, instances=2)
        before = {endpoint.says(name)[1] for name in names}
        _scale(endpoint, 1)
        endpoint.eventually(lambda: len(_running(before)) == 1)
        assert {endpoint.says(name)[1] for name in names} == _running(before)
        _scale(endpoint, 3)
        endpoint.put("new.tar.gz")
        assert endpoint.says("new.tar.gz")[1] not in before
        assert [len(instance["loaded"]) for instance in endpoint.instances()] == [4, 1, 0]


def _scale(endpoint: Many, count: int) -> None:
    wanted: Any = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
    endpoint.clients.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint.name, DesiredWeightsAndCapacities=wanted
    )
    endpoint.clients.wait_for_endpoint(endpoint.name)


def _running(pids: set[int]) -> set[int]:
    return {pid for pid in pids if Path(f"/proc/{pid}").exists()}


def test_an_update_serves_on_and_a_deletion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with many() as endpoint:
        endpoint.deploy("a.tar.gz")
        threads = _threads()
        _, first, folder, *_ = endpoint.says("a.tar.gz")
        assert Path(folder).is_relative_to(tmp_path)
        config = endpoint.config()
        endpoint.clients.sagemaker.update_endpoint(EndpointName=endpoint.name, EndpointConfigName=config)
        while (
            endpoint.clients.sagemaker.describe_endpoint(EndpointName=endpoint.name)["EndpointStatus"]
            != "InService"
        ):
            assert endpoint.says("a.tar.gz")[0] == "a"
        second = endpoint.says("a.tar.gz")[1]
        assert second != first
        endpoint.clients.sagemaker.delete_endpoint(EndpointName=endpoint.name)
        endpoint.clients.wait_until_deleted(endpoint.name)
        _wait(lambda: not _running({first, second}) and not list(tmp_path.iterdir()))
        _wait(lambda: _threads() <= threads)


def test_a_deletion_while_models_load_leaves_nothing_and_answers_waiting_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings(multi_model_load_seconds=3600, multi_model_ready_wait_seconds=3600)
    with many(settings) as endpoint, ThreadPoolExecutor(1) as pool:
        endpoint.deploy("a.tar.gz")
        waiting = pool.submit(endpoint.refusal, "a.tar.gz")
        endpoint.eventually(lambda: endpoint.instance()["pid"])
        endpoint.clients.sagemaker.delete_endpoint(EndpointName=endpoint.name)
        assert waiting.result(600)[:2] == (503, "ServiceUnavailable")
        endpoint.clients.wait_until_deleted(endpoint.name)
        assert list(tmp_path.iterdir()) == []


def _threads() -> set[threading.Thread]:
    """Return what runs beside the threads that answer requests."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("waitress-")}


def _wait(ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + 600
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_container_that_dies_is_started_again_with_the_next_model() -> None:
    with many() as endpoint:
        endpoint.deploy("a.tar.gz", "b.tar.gz")
        first = {endpoint.says(name)[1] for name in ("a.tar.gz", "b.tar.gz")}
        os.kill(first.pop(), signal.SIGKILL)
        assert endpoint.refusal("a.tar.gz")[3] == 0
        endpoint.eventually(lambda: endpoint.answers("a.tar.gz"))
        endpoint.eventually(lambda: endpoint.answers("b.tar.gz"))
        assert endpoint.instance()["loads"] == {"a.tar.gz": 2, "b.tar.gz": 2}


def test_fault_rules_and_the_call_log_name_target_models() -> None:
    with many() as endpoint:
        endpoint.deploy("a.tar.gz", "b.tar.gz")
        rule = {"operation": "InvokeEndpoint", "target_model": "a*", "fault": "throttle", "times": 1}
        endpoint.embedded.faults.replace([rule])
        assert endpoint.says("b.tar.gz")[0] == "b"
        assert endpoint.refusal("a.tar.gz")[1] == "ThrottlingException"
        assert endpoint.says("a.tar.gz")[0] == "a"
        calls = cast("Any", control(endpoint.embedded, "GET", "calls?operation=InvokeEndpoint"))["calls"]
        assert [(call["target_model"], call["fault"]) for call in calls] == [
            ("b.tar.gz", None),
            ("a.tar.gz", "throttle"),
            ("a.tar.gz", None),
        ]
        bare = cast("Any", control(endpoint.embedded, "GET", "calls?operation=CreateEndpoint"))["calls"]
        assert [call["target_model"] for call in bare] == [None]


def test_an_asynchronous_endpoint_cannot_name_a_model_so_its_invocations_fail() -> None:
    with many() as endpoint:
        bucket = endpoint.clients.bucket
        output = {"S3OutputPath": f"s3://{bucket}/out", "S3FailurePath": f"s3://{bucket}/failed"}
        endpoint.deploy("a.tar.gz", AsyncInferenceConfig={"OutputConfig": output})
        endpoint.clients.s3.put_object(Bucket=bucket, Key="in", Body=b"x")
        accepted = endpoint.clients.runtime.invoke_endpoint_async(
            EndpointName=endpoint.name, InputLocation=f"s3://{bucket}/in"
        )
        key = accepted["FailureLocation"].partition(f"{bucket}/")[2]
        endpoint.clients.s3.get_waiter("object_exists").wait(
            Bucket=bucket,
            Key=key,
            WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000},  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
        )
        assert (
            b"names no target model" in endpoint.clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        )


def test_a_transform_job_cannot_name_a_model_so_it_fails() -> None:
    with many() as endpoint:
        endpoint.deploy()
        client, bucket, name = endpoint.clients.sagemaker, endpoint.clients.bucket, unique("job")
        endpoint.clients.s3.put_object(Bucket=bucket, Key="in/one", Body=b"x")
        models = client.list_models()["Models"]
        client.create_transform_job(
            TransformJobName=name,
            ModelName=models[0]["ModelName"],
            TransformInput={
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/in/"}}
            },
            TransformOutput={"S3OutputPath": f"s3://{bucket}/out"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        )

        def status() -> str:
            return client.describe_transform_job(TransformJobName=name)["TransformJobStatus"]

        endpoint.eventually(lambda: status() != "InProgress")
        assert status() == "Failed"


def test_the_view_has_one_endpoint_or_all_and_refuses_a_missing_one(simple: Many) -> None:
    everything = cast("Any", control(simple.embedded, "GET", "models"))["instances"]
    assert [instance["endpoint"] for instance in everything] == [simple.name]
    only = simple.instance()
    assert (only["variant"], only["container"], only["instance"][:2]) == ("AllTraffic", "primary", "i-")
    with pytest.raises(Exception, match="400") as refused:
        control(simple.embedded, "GET", "models?endpoint=missing")
    cast("Any", refused.value).close()
