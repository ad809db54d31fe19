"""CreateModel: one container or a pipeline; a retry finds what it made, environments stay secret."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import ResourceConflict
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from tests.support import IMAGE, ROLE, Account, Requests, context_for, run_task, unique

SECRET = "hunter2-very-secret"
ARCHIVE = "s3://bucket/model.tar.gz"


def create(**arguments: Any) -> SageMakerCreateModelOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"execution_role": ROLE, "aws_conn_id": None}
    return SageMakerCreateModelOperator(task_id="create", **usual | arguments)


def container(environment: dict[str, str], archive: str = ARCHIVE) -> dict[str, Any]:
    return {"Image": IMAGE, "ModelDataUrl": archive, "Environment": environment}


def test_a_model_of_one_container_is_created_once_and_then_reused(
    account: Account, requests: Requests
) -> None:
    archive = account.upload_model()
    operator = partial(create, image=IMAGE, model_data_url=archive, environment={"GREETING": "hello"})

    first, second = run_task(operator), run_task(operator)

    described = account.sagemaker.describe_model(ModelName=first["model_name"])
    assert (first["model_arn"], first["created"]) == (described["ModelArn"], True)
    assert second == first | {"created": False}
    assert requests.changes() == ["CreateModel"]
    made = described["PrimaryContainer"]
    assert (made["Image"], made["ModelDataUrl"], made["Environment"]) == (
        IMAGE,
        archive,
        {"GREETING": "hello"},
    )


def test_a_pipeline_keeps_its_order_and_its_order_makes_the_name(account: Account) -> None:
    stages = [container({"STAGE": "first"}), container({"STAGE": "second"})]
    result = run_task(partial(create, containers=stages, model_name_prefix="pipeline"))
    described = account.sagemaker.describe_model(ModelName=result["model_name"])
    assert [one["Environment"] for one in described["Containers"]] == [
        {"STAGE": "first"},
        {"STAGE": "second"},
    ]
    assert result["model_name"].startswith("pipeline-")
    turned = run_task(partial(create, containers=stages[::-1], model_name_prefix="pipeline"))
    assert turned["model_name"] != result["model_name"]
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
    tags = account.sagemaker.list_tags(ResourceArn=result["model_arn"])["Tags"]
    assert {"Key": "team", "Value": "churn"} in tags
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
    assert isinstance(caught.value.__cause__, ResourceConflict)
    message = str(caught.value)
    assert f"model {name} exists already with other content" in message
    assert "container 1 Environment (TOKEN)" in message
    assert "container 1 Image" in message
    assert "Choose another name, leave the name out to derive one from the content, or delete" in message
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
        ({}, "give either image (one container)"),
        ({"image": IMAGE, "containers": []}, "give either image"),
        ({"containers": []}, "a model has 1 to 15 containers, not 0"),
        ({"containers": [container({})] * 16}, "a model has 1 to 15 containers, not 16"),
        ({"containers": [{"ModelDataUrl": ARCHIVE}]}, "container 1 has neither Image nor ModelPackageName"),
        (
            {"containers": [container({})], "environment": {"TOKEN": SECRET}},
            "model_data_url and environment go with image",
        ),
        ({"image": IMAGE, "execution_role": ""}, "execution_role is empty"),
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
        ({"image": IMAGE, "environment": {"WORKERS": 2}}, "'WORKERS' is int, not text: put it in quotes"),
        (
            {"image": IMAGE, "environment": {f"K{number}": "x" * 1024 for number in range(33)}},
            "SageMaker takes 32768 together",
        ),
    ],
)
def test_bad_input_is_told_without_its_secrets_and_before_any_call(
    requests: Requests, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        create(**arguments).execute(context_for())
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not requests.count()
