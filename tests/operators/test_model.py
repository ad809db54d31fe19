"""CreateModel: one container or a pipeline; a retry finds what it made, environments stay secret."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import ResourceConflict, ServiceUnavailable
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from airflow_sm_plugin.resources.model import CONTENT_TAG
from tests.support import (
    IMAGE,
    ROLE,
    Account,
    Requests,
    TaskInstanceDouble,
    archive,
    context_for,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

SECRET = "hunter2-very-secret"
ARCHIVE = "s3://bucket/model.tar.gz"


def create(**arguments: Any) -> SageMakerCreateModelOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"execution_role": ROLE, "aws_conn_id": None}
    return SageMakerCreateModelOperator(task_id="create", **usual | arguments)


Faults = Callable[..., None]


@pytest.fixture
def faults(account: Account) -> Iterator[Faults]:
    """Put rules into the embedded service's fault plan; in the end it is empty again."""

    def put(*rules: dict[str, object]) -> None:
        request = urllib.request.Request(
            f"{account.url}/_embedded/faults", data=json.dumps({"rules": rules}).encode(), method="PUT"
        )
        urllib.request.urlopen(request, timeout=600).close()

    yield put
    put()


@pytest.fixture(scope="module", autouse=True)
def _archive(session_account: Account) -> None:
    """Have the artefact at :data:`ARCHIVE`: SageMaker takes no model without."""
    session_account.s3.create_bucket(Bucket="bucket")
    replace(session_account, bucket="bucket").upload(archive({}), "model.tar.gz")


def container(environment: dict[str, str], archive: str = ARCHIVE) -> dict[str, Any]:
    return {"Image": IMAGE, "ModelDataUrl": archive, "Environment": environment}


def test_a_model_of_one_container_is_created_once_and_then_reused(
    account: Account, requests: Requests
) -> None:
    archive = account.upload_model()
    operator = partial(create, image=IMAGE, model_data_url=archive, environment={"GREETING": "hello"})

    first, second = run_task(operator), run_task(operator)

    described = account.sagemaker.describe_model(ModelName=first["model_name"])
    assert first == {
        "model_name": first["model_name"],
        "model_arn": described["ModelArn"],
        "created": True,
        "model_package_arn": None,
    }
    assert second == first | {"created": False}
    assert requests.changes() == ["CreateModel"]
    primary_container = described["PrimaryContainer"]
    assert (
        primary_container["Image"],
        primary_container["ModelDataUrl"],
        primary_container["Environment"],
    ) == (
        IMAGE,
        archive,
        {"GREETING": "hello"},
    )


def test_a_pipeline_keeps_its_order_and_its_order_makes_the_name(account: Account) -> None:
    stages = [container({"STAGE": "first"}), container({"STAGE": "second"})]
    result = run_task(partial(create, containers=stages, model_name_prefix="pipeline"))
    described = account.sagemaker.describe_model(ModelName=result["model_name"])
    assert [definition["Environment"] for definition in described["Containers"]] == [
        {"STAGE": "first"},
        {"STAGE": "second"},
    ]
    assert result["model_name"].startswith("pipeline-")
    reversed_model = run_task(partial(create, containers=stages[::-1], model_name_prefix="pipeline"))
    assert reversed_model["model_name"] != result["model_name"]
    assert run_task(partial(create, containers=stages, model_name_prefix="pipeline"))["created"] is False


def test_everything_else_of_a_model_reaches_sagemaker(account: Account) -> None:
    vpc = {"SecurityGroupIds": ["sg-0123456789"], "Subnets": ["subnet-0123456789"]}
    operator = partial(
        create,
        image=IMAGE,
        model_name=unique("model"),
        vpc_config=vpc,
        enable_network_isolation=True,
        tags={"team": "churn"},
    )
    result = run_task(operator)
    described = account.sagemaker.describe_model(ModelName=result["model_name"])
    assert described["VpcConfig"] == vpc
    assert described["EnableNetworkIsolation"] is True
    tags = {
        tag["Key"]: tag["Value"]
        for tag in account.sagemaker.list_tags(ResourceArn=result["model_arn"])["Tags"]
    }
    assert tags.pop(CONTENT_TAG)
    assert tags == {"team": "churn"}
    assert run_task(operator)["created"] is False


def test_the_callers_containers_are_never_changed() -> None:
    given = [container({"STAGE": "only"}) | {"Mode": None}]
    create(containers=given, model_name=unique("model")).execute(context_for())
    assert given == [container({"STAGE": "only"}) | {"Mode": None}]


def test_a_name_taken_by_other_content_is_a_conflict_that_shows_no_value(
    requests: Requests, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    name = unique("model")
    run_task(partial(create, image=IMAGE, environment={"TOKEN": SECRET, "SAME": "x"}, model_name=name))
    requests.forget()
    other = partial(
        create, image=f"{IMAGE}1", environment={"TOKEN": f"{SECRET}-2", "SAME": "x"}, model_name=name
    )
    with pytest.raises(AirflowFailException) as caught:
        run_task(other)
    assert isinstance(caught.value.__context__, ResourceConflict)
    message = str(caught.value)
    assert f"model {name} exists already with other content" in message
    assert "container 1 Environment (TOKEN)" in message
    assert "container 1 Image" in message
    assert "Do: choose another name, leave the name out to derive one from the content, or delete" in message
    out, err = capsys.readouterr()
    assert SECRET not in message + caplog.text + out + err
    assert requests.changes() == []


def test_environments_are_masked_in_rendered_fields() -> None:
    context = context_for()
    for arguments in (
        {"image": IMAGE, "environment": {"TOKEN": SECRET}},
        {"containers": [container({"TOKEN": SECRET})]},
    ):
        operator = create(**arguments)
        operator.render_template_fields(context)
        stored = [getattr(operator, field) for field in operator.template_fields]
        assert SECRET not in f"{stored}{operator}{operator!r}"
        assert operator.execute(context)["created"] in (True, False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "give either image (one container), containers (a pipeline), or one of model_package_arn and"),
        ({"image": IMAGE, "force_new": "perhaps"}, "force_new must be true or false, not 'perhaps'"),
        (
            {"image": IMAGE, "enable_network_isolation": "maybe"},
            "enable_network_isolation must be true or false",
        ),
        ({"image": IMAGE, "environment": f"TOKEN={SECRET}"}, "environment must be a mapping, or text of one"),
        ({"containers": f"[{SECRET}]"}, "containers must be a list, or text of one"),
        ({"containers": [container({}), SECRET]}, "containers[1] must be a mapping"),
        ({"image": IMAGE, "vpc_config": ["subnet-1"]}, "vpc_config must be a mapping, or text of one"),
        ({"image": IMAGE, "tags": "team=churn"}, "tags must be a mapping, or text of one"),
        ({"image": IMAGE, "tags": {7: "cost-centre"}}, "tags must be a mapping whose keys are all text"),
        ({"image": IMAGE, "tags": {"cost-centre": None}}, "tags['cost-centre'] must be text, not NoneType"),
        ({"image": IMAGE, "mode": "MultiModel", "model_data_url": ARCHIVE}, "names one archive"),
        ({"containers": [container({})] * 2, "mode": "MultiModel"}, "goes with one container, not 2"),
        ({"image": IMAGE, "serving_preset": "tf"}, "one of torchserve, mms, huggingface, not 'tf'"),
        ({"image": IMAGE, "containers": []}, "give either image"),
        ({"containers": []}, "a model has 1 to 15 containers, not 0"),
        ({"containers": [container({})] * 16}, "a model has 1 to 15 containers, not 16"),
        ({"containers": [{"ModelDataUrl": ARCHIVE}]}, "container 1 has neither Image nor ModelPackageName"),
        (
            {"containers": [container({})], "environment": {"TOKEN": SECRET}},
            "model_data_url and environment go with image",
        ),
        ({"image": IMAGE, "execution_role": ""}, "execution_role must be given"),
        ({"image": IMAGE, "model_name": "m" * 64}, "has 64 characters, SageMaker takes up to 63: shorten it"),
        ({"image": IMAGE, "model_name": "a_b"}, "the model name 'a_b' holds '_'"),
        (
            {"image": IMAGE, "environment": {f"K{number}": SECRET for number in range(101)}},
            "container 1 has 101 environment entries, SageMaker takes 100",
        ),
        (
            {"image": IMAGE, "environment": {"TOKEN": SECRET * 60}},
            "environment 'TOKEN' is longer than the 1024 bytes",
        ),
        ({"image": IMAGE, "environment": {"MY-TOKEN": SECRET}}, "environment 'MY-TOKEN' is not a name"),
        ({"image": IMAGE, "environment": {"WORKERS": {1}}}, "environment['WORKERS'] must be text, not set"),
        (
            {"image": IMAGE, "environment": {f"K{number}": "x" * 1024 for number in range(33)}},
            "SageMaker takes 32768 together",
        ),
    ],
)
def test_bad_input_is_refused_without_its_secrets_and_before_any_call(
    requests: Requests, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        create(**arguments).execute(context_for())
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not requests.count()


def test_booleans_of_templates_are_read_off_text(account: Account) -> None:
    result = run_task(
        partial(create, image=IMAGE, enable_network_isolation="{{ 1 == 1 }}", force_new="{{ 1 == 2 }}")
    )
    described = account.sagemaker.describe_model(ModelName=result["model_name"])
    assert described["EnableNetworkIsolation"] is True
    assert run_task(partial(create, image=IMAGE, enable_network_isolation=True))["created"] is False


@pytest.mark.parametrize("written", [json.dumps, repr], ids=["json", "python"])
def test_lists_and_mappings_of_templates_are_read_off_text(written: Callable[[object], str]) -> None:
    """Airflow renders the output of another task inside a text as Python writes it."""
    context = context_for()
    vpc = {"SecurityGroupIds": ["sg-0123456789"], "Subnets": ["subnet-0123456789"]}
    parts: dict[str, Any] = {
        "environment": {"GREETING": "hello"},
        "vpc_config": vpc,
        "tags": {"team": "churn"},
    }
    stages = [container({"STAGE": "first"}), container({"STAGE": "second"})]
    for arguments in ({"image": IMAGE, **parts}, {"containers": stages}):
        context["params"] = {
            name: written(value) for name, value in arguments.items() if not isinstance(value, str)
        }
        texts = arguments | {name: f"{{{{ params.{name} }}}}" for name in context["params"]}
        plain = run_task(partial(create, **arguments))
        assert run_task(partial(create, **texts), context) == plain | {"created": False}


def test_a_multi_model_container_loads_from_a_prefix_with_one_slash(account: Account) -> None:
    operator = partial(create, image=IMAGE, mode="MultiModel", model_cache="Disabled")
    result = run_task(partial(operator, model_data_url="s3://bucket/models"))
    primary_container = account.sagemaker.describe_model(ModelName=result["model_name"])["PrimaryContainer"]
    assert (primary_container["Mode"], primary_container["ModelDataUrl"]) == (
        "MultiModel",
        "s3://bucket/models/",
    )
    assert primary_container["MultiModelConfig"] == {"ModelCacheSetting": "Disabled"}
    again = run_task(partial(operator, model_data_url="s3://bucket/models//"))
    assert again == result | {"created": False}


def test_a_serving_preset_raises_the_limits_that_the_user_left(account: Account) -> None:
    environment = {"MMS_DEFAULT_RESPONSE_TIMEOUT": "60", "HF_TASK": "summarization"}
    operator = partial(create, image=IMAGE, environment=environment, serving_preset="huggingface")
    result = run_task(operator)
    primary_container = account.sagemaker.describe_model(ModelName=result["model_name"])["PrimaryContainer"]
    assert primary_container["Environment"] == {
        "MMS_MAX_REQUEST_SIZE": "2000000000",
        "MMS_MAX_RESPONSE_SIZE": "2000000000",
        "MMS_DEFAULT_RESPONSE_TIMEOUT": "60",
        "HF_TASK": "summarization",
    }
    assert run_task(operator)["created"] is False


class TestArtefact:
    """A model.tar.gz may change under its name: the model then is another one."""

    def test_an_overwritten_one_makes_a_new_derived_name_and_the_old_one_the_old_name(
        self, account: Account
    ) -> None:
        key = f"{unique('models')}/model.tar.gz"
        operator = partial(create, image=IMAGE, model_data_url=account.upload(b"one", key))
        first = run_task(operator)
        account.upload(b"two", key)
        second = run_task(operator)
        account.upload(b"one", key)
        third = run_task(operator)
        assert (first["created"], second["created"], third["created"]) == (True, True, False)
        assert third["model_name"] == first["model_name"] != second["model_name"]

    def test_an_overwritten_one_is_a_conflict_under_a_given_name(
        self, account: Account, requests: Requests
    ) -> None:
        key = f"{unique('models')}/model.tar.gz"
        operator = partial(
            create, image=IMAGE, model_data_url=account.upload(b"one", key), model_name=unique("model")
        )
        run_task(operator)
        assert run_task(operator)["created"] is False
        account.upload(b"two", key)
        with pytest.raises(AirflowFailException, match=r"content: container 1 artefact .its ETag. differ"):
            run_task(operator)
        assert requests.changes() == ["CreateModel"]

    def test_where_tags_may_not_be_read_the_description_has_to_do(
        self, account: Account, faults: Faults
    ) -> None:
        key = f"{unique('models')}/model.tar.gz"
        operator = partial(
            create, image=IMAGE, model_data_url=account.upload(b"one", key), model_name=unique("model")
        )
        run_task(operator)
        account.upload(b"two", key)
        faults({"fault": "error", "operation": "ListTags", "code": "AccessDeniedException"})
        assert run_task(operator)["created"] is False

    def test_one_that_is_deleted_afterwards_is_a_warning_where_the_model_is_reused(
        self, account: Account, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Endpoints that serve the model go on, but no further instance of them comes up."""
        key = f"{unique('models')}/model.tar.gz"
        location = account.upload(b"one", key)
        operator = partial(create, image=IMAGE, model_data_url=location, model_name=unique("model"))
        run_task(operator)
        account.s3.delete_object(Bucket=account.bucket, Key=key)
        capfd.readouterr()
        assert run_task(operator)["created"] is False
        lines = "".join([caplog.text, *capfd.readouterr()]).splitlines()
        warnings = [line for line in lines if f"the artefact {location} does not exist" in line]
        assert warnings
        for line in warnings:
            assert "warning" in line.lower()
            assert "no instance of it starts" in line

    def test_one_that_may_not_be_read_changes_nothing(self, account: Account, faults: Faults) -> None:
        archive = account.upload_model()
        faults({"fault": "error", "operation": "s3:HeadObject", "status": 403})
        operator = partial(create, image=IMAGE, model_data_url=archive)
        first, second = run_task(operator), run_task(operator)
        assert (first["created"], second) == (True, first | {"created": False})

    def test_when_s3_does_not_answer_a_retry_is_spent_instead_of_another_name(
        self, account: Account, faults: Faults, requests: Requests
    ) -> None:
        archive = account.upload_model()
        faults({"fault": "error", "operation": "s3:HeadObject", "status": 503})
        once = {"retries": {"total_max_attempts": 1}}
        operator = partial(create, image=IMAGE, model_data_url=archive, botocore_config=once)
        with pytest.raises(ServiceUnavailable, match="s3:HeadObject"):
            run_task(operator)
        assert requests.changes() == []
        faults()
        assert run_task(operator)["created"] is True

    def test_one_of_two_containers_is_checked_once(self, account: Account) -> None:
        archive = account.upload_model()
        pipeline = [container({"STAGE": stage}, archive) for stage in ("first", "second")]
        before = _heads(account, archive)
        assert run_task(partial(create, containers=pipeline))["created"] is True
        assert _heads(account, archive) == before + 1


class TestForceNew:
    """A new model whatever there is, but one only for all tries of a task instance."""

    def test_each_task_instance_makes_its_own_and_a_retry_finds_it(self) -> None:
        operator = partial(create, image=IMAGE, force_new="true", model_name_prefix=unique("prefix"))
        instances = [
            TaskInstanceDouble(),
            TaskInstanceDouble(run_id="manual__2026-01-02T00:00:00+00:00"),
            TaskInstanceDouble(map_index=3),
            TaskInstanceDouble(dag_id="another"),
        ]
        results = [run_task(operator, context_for(ti)) for ti in instances]
        assert all(result["created"] for result in results)
        assert len({result["model_name"] for result in results}) == len(instances)
        retried = run_task(operator, context_for(TaskInstanceDouble(try_number=2)))
        assert retried == results[0] | {"created": False}

    def test_beside_one_of_a_given_name_it_makes_another_that_begins_like_it(self) -> None:
        name = unique("model")
        run_task(partial(create, image=IMAGE, model_name=name))
        forced = run_task(partial(create, image=f"{IMAGE}1", model_name=name, force_new=True))
        assert forced["created"] is True
        assert forced["model_name"].startswith(f"{name}-")


@pytest.mark.parametrize("fault", ["lost_answer", "drop"])
def test_when_a_call_goes_astray_there_is_one_model_all_the_same(
    account: Account, requests: Requests, faults: Faults, fault: str
) -> None:
    name = unique("model")
    faults({"fault": fault, "operation": "CreateModel", "resource": name, "times": 1})
    result = run_task(partial(create, image=IMAGE, model_name=name))
    assert result["model_name"] == name
    assert account.models(name) == [name]
    assert requests.count()["CreateModel"] == (2 if fault == "lost_answer" else 1)


def _heads(account: Account, archive: str) -> int:
    """Count the HeadObject calls about an object; the log keeps 20,000 calls only, so others' do not count."""
    query = urlencode({"service": "s3", "operation": "HeadObject", "resource": archive.removeprefix("s3://")})
    with urllib.request.urlopen(f"{account.url}/_embedded/calls?{query}", timeout=600) as answer:
        return len(json.load(answer)["calls"])
