"""The Amazon provider's ``SageMakerEndpointOperator`` and ours in the same situations: ``make side-by-side``.

Every run is real: the operators work over HTTP against the embedded SageMaker, which also tells what they called. The
table of ``docs/side-by-side.md`` is written from what happened.
"""

from __future__ import annotations

import datetime
import json
import multiprocessing
import os
import platform
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerEndpointConfigOperator,
    SageMakerEndpointOperator,
    SageMakerModelOperator,
)

from airflow_sm_plugin._compat import AirflowFailException, BaseOperator
from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.model import SageMakerCreateModelOperator
from tests.support import (
    BROKEN,
    IMAGE,
    ROLE,
    Account,
    TaskDeferred,
    TaskInstanceDouble,
    account_at,
    context_for,
    event_of,
    rebuilt,
    unique,
)

PAGE = Path(__file__).parents[2] / "docs" / "side-by-side.md"
BEGIN, END = "<!-- made by make side-by-side -->", "<!-- up to here -->"
RETRIES = 1
LONGEST_TEXT = 220
POLL_SECONDS = 0.02
IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
INSTANCE = "ml.m5.large"
AGE = {True: "from before", False: "of this run"}
COLUMNS = (
    *("situation", "operator", "how each try ended", "endpoint, its configuration"),
    *("unused configurations", "s", "calls", "of which changed something"),
)

Side = Literal["provider", "provider, 2 tasks", "ours"]
SIDES: tuple[Side, ...] = ("provider", "provider, 2 tasks", "ours")


@dataclass(frozen=True)
class Task:
    """A deploying task as a user writes it for either operator; configurations are named by hand for the provider's.

    :param config: the configuration's name for the provider's operator: the same over retries, another in every run
    :param seconds: its deadline; :param interval: seconds between its polls
    """

    endpoint: str
    model: str
    config: str
    seconds: int = 60
    interval: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def operator(self, side: Side) -> BaseOperator:
        """Make a new operator, as a worker does for every try."""
        shared: dict[str, Any] = {
            "task_id": "deploy",
            "aws_conn_id": None,
            "deferrable": False,
            **self.options,
        }
        if side == "ours":
            return SageMakerDeployEndpointOperator(
                endpoint_name=self.endpoint,
                model_name=self.model,
                instance_type=INSTANCE,
                max_wait_seconds=self.seconds,
                poll_interval=self.interval,
                **shared,
            )
        endpoint = {"EndpointName": self.endpoint, "EndpointConfigName": self.config}
        both = {"EndpointConfig": self._config(), "Endpoint": endpoint}
        return SageMakerEndpointOperator(
            config=both if side == "provider" else endpoint,
            max_ingestion_time=self.seconds,
            check_interval=self.interval,
            **shared,
        )

    def before(self, side: Side) -> BaseOperator | None:
        """Make the operator of the task before, that creates the configuration, where there is one."""
        if side != "provider, 2 tasks":
            return None
        return SageMakerEndpointConfigOperator(task_id="config", aws_conn_id=None, config=self._config())

    def _config(self) -> dict[str, Any]:
        instances = {"InstanceType": INSTANCE, "InitialInstanceCount": 1}
        variant = {"VariantName": "AllTraffic", "ModelName": self.model, **instances}
        return {"EndpointConfigName": self.config, "ProductionVariants": [variant]}


@dataclass(frozen=True)
class ModelTask(Task):
    """A task that creates the model, before any deployment.

    :param model_data_url: where its artefact should be
    """

    model_data_url: str = ""

    def operator(self, side: Side) -> BaseOperator:
        """Make a new operator."""
        if side == "ours":
            return SageMakerCreateModelOperator(
                task_id="model",
                aws_conn_id=None,
                execution_role=ROLE,
                image=IMAGE,
                model_data_url=self.model_data_url,
                model_name=self.model,
            )
        container = {"Image": IMAGE, "ModelDataUrl": self.model_data_url}
        request = {"ModelName": self.model, "ExecutionRoleArn": ROLE, "PrimaryContainer": container}
        return SageMakerModelOperator(task_id="model", aws_conn_id=None, config=request)

    def before(self, side: Side) -> BaseOperator | None:  # noqa: ARG002 - as a task that deploys
        """Return None: a model needs nothing before it."""
        return None


@dataclass(frozen=True)
class Stage:
    """Where one run happens: the account, the side, and the endpoint's name."""

    account: Account
    side: Side
    endpoint: str

    def model(self) -> str:
        """Create a model, of the kind that starts no process."""
        name = unique(f"{self.endpoint}-m")
        url = f"s3://{self.account.bucket}/models/"
        return self.account.create_model(name=name, model_data_url=url, multi_model=True)

    def task(self, model: str, *, run: int = 1, **changes: Any) -> Task:  # noqa: ANN401 - fields of any type
        """Return the task of one DAG run."""
        return Task(self.endpoint, model, f"{self.endpoint}-run-{run}", **changes)

    def deployed(self) -> str:
        """Deploy with this side's operator, return the model."""
        model = self.model()
        error = run_once(self.task(model), self.side, number=0) or run_once(
            self.task(model), self.side, number=1
        )
        if error:
            raise RuntimeError(error)
        return model

    def control(self, method: str, route: str, value: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call the embedded service's own routes."""
        body = None if value is None else json.dumps(value).encode()
        request = urllib.request.Request(f"{self.account.url}/_embedded/{route}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)

    def next_deployment(self, **outcome: object) -> None:
        """Say how this endpoint's next deployment goes."""
        self.control("PUT", f"endpoints/{self.endpoint}/next", outcome)


@dataclass(frozen=True)
class Situation:
    """One situation.

    :param prepare: makes what is there before, and returns the task to run
    :param kill_at: the first try is killed (SIGKILL) while this operation is under way, before it has an effect
    """

    name: str
    prepare: Callable[[Stage], Task]
    kill_at: str | None = None


def _created(stage: Stage) -> Task:
    return stage.task(stage.model())


def _unchanged(stage: Stage) -> Task:
    return stage.task(stage.deployed(), run=2)


def _updated(stage: Stage) -> Task:
    stage.deployed()
    return stage.task(stage.model(), run=2)


def _rolled_back(stage: Stage) -> Task:
    task = _updated(stage)
    stage.next_deployment(end="RolledBack", on="update", reason=None)
    return task


def _missing(stage: Stage) -> Task:
    url = f"s3://{stage.account.bucket}/not-uploaded/model.tar.gz"
    return ModelTask(stage.endpoint, unique(f"{stage.endpoint}-m"), "", model_data_url=url)


def _deleted(stage: Stage) -> Task:
    return stage.task(stage.account.create_model_without_artefact(unique(f"{stage.endpoint}-m")))


def _crashes(stage: Stage) -> Task:
    return stage.task(stage.account.create_model(BROKEN, name=unique(f"{stage.endpoint}-m")))


def _no_capacity(stage: Stage) -> Task:
    stage.next_deployment(end="Failed", on="create", times=1)
    return stage.task(stage.model())


def _deadline(stage: Stage) -> Task:
    stage.next_deployment(end="InService", on="create", seconds=7)
    return stage.task(stage.model(), seconds=4, interval=2)


def _not_waited_for(stage: Stage) -> Task:
    stage.next_deployment(end="InService", on="create", seconds=4)
    return stage.task(stage.model(), options={"deferrable": True, "wait_for_completion": False})


def _busy(stage: Stage) -> Task:
    stage.deployed()
    colleagues = stage.account.create_config(stage.model(), name=f"{stage.endpoint}-colleague")
    stage.next_deployment(end="InService", on="update", seconds=3)
    stage.account.sagemaker.update_endpoint(EndpointName=stage.endpoint, EndpointConfigName=colleagues)
    return stage.task(stage.model(), run=2)


SITUATIONS = (
    Situation("Create", _created),
    Situation("The next run, nothing changed", _unchanged),
    Situation("Killed between configuration and endpoint, then retried", _created, kill_at="CreateEndpoint"),
    Situation("Update to another model", _updated),
    Situation("Update that SageMaker rolls back without a reason", _rolled_back),
    Situation("The artefact was never uploaded: the task that creates the model", _missing),
    Situation("The artefact was deleted after CreateModel", _deleted),
    Situation("The container crashes when it starts", _crashes),
    Situation("No capacity at the first try", _no_capacity),
    Situation("Deadline of 4 s, a poll every 2 s; creation takes 7 s", _deadline),
    Situation("Deferrable, `wait_for_completion=False`; creation takes 4 s", _not_waited_for),
    Situation("A colleague's update is under way, 3 s", _busy),
)


def attempt(operator: BaseOperator, ti: TaskInstanceDouble) -> None:
    """Run one try to its end, deferral included; Airflow fails a deferral that lasts longer than its timeout."""
    context = context_for(ti)
    operator.render_template_fields(context)
    try:
        operator.execute(context)
    except TaskDeferred as deferral:
        longest = deferral.timeout.total_seconds() if deferral.timeout else 60
        event = event_of(rebuilt(deferral.trigger), within=longest)
        getattr(operator, deferral.method_name)(context, event=event, **(deferral.kwargs or {}))


@dataclass(frozen=True)
class Happened:
    """The course of one side in one situation.

    :param endpoint: its status once nothing moves any more, and whether its configuration is of this run
    :param unused: configurations that no endpoint uses in the end
    """

    tries: list[str]
    endpoint: str
    unused: list[str]
    seconds: float
    calls: int
    changes: list[str]


def happened(account: Account, situation: Situation, side: Side) -> Happened:
    """Run a situation for one side: the first try and its retry, if it fails in a way that Airflow retries."""
    stage = Stage(account, side, unique("e"))
    task = situation.prepare(stage)
    there = set(account.configs(stage.endpoint))
    since = stage.control("GET", "calls?operation=-")["sequence"]
    began = time.monotonic()
    tries = [text for text in [run_once(task, side, number=0)] if text]
    if situation.kill_at:
        _killed(stage, task, situation.kill_at)
        tries.append("killed")
    while len(tries) <= RETRIES:
        error = run_once(task, side, number=len(tries) + 1)
        tries.append(error or "success")
        if not error or error.startswith("AirflowFailException"):
            break
    seconds = time.monotonic() - began
    calls = stage.control("GET", "calls?" + urlencode({"since": since, "service": "*"}))["calls"]
    status, serving = _at_rest(account, stage.endpoint)
    unused = sorted(set(account.configs(stage.endpoint)) - {serving})
    return Happened(
        tries=[_shown(text, stage.endpoint) for text in tries],
        endpoint=f"{status}, {AGE[serving in there]}" if status else "none",
        unused=[AGE[name in there] for name in unused],
        seconds=seconds,
        calls=len(calls),
        changes=[call["operation"] for call in calls if call["effect"]],
    )


def run_once(task: Task, side: Side, *, number: int) -> str:
    """Run one try and return its error's text, empty when it succeeded; number 0 is the task before."""
    operator = task.operator(side) if number else task.before(side)
    try:
        if operator is not None:
            attempt(operator, TaskInstanceDouble(run_id=task.config, try_number=max(1, number)))
    except AirflowFailException as error:
        return f"AirflowFailException: {error}"
    except TimeoutError:
        return "TaskDeferralTimeout: the deferral lasted longer than its timeout"
    except Exception as error:  # noqa: BLE001 - whatever an operator raises is what the table tells
        return f"{type(error).__name__}: {error}"
    return ""


def _killed(stage: Stage, task: Task, operation: str) -> None:
    """Run the first try in a process of its own and kill it while the call is held; the call has no effect."""
    rule = {"operation": operation, "resource": stage.endpoint, "fault": "drop", "seconds": 60}
    stage.control("PUT", "faults", [rule])
    process = multiprocessing.get_context("fork").Process(
        target=run_once, args=(task, stage.side), kwargs={"number": 1}
    )
    process.start()
    give_up = time.monotonic() + 300
    while not stage.control("GET", "faults")["rules"][0]["matched"]:
        if time.monotonic() > give_up:
            raise TimeoutError(f"the task never came to {operation}")
        time.sleep(POLL_SECONDS)
    process.kill()
    process.join()
    stage.control("DELETE", "faults")


def _at_rest(account: Account, endpoint: str) -> tuple[str | None, str | None]:
    """Return the endpoint's status once nothing moves, and its configuration."""
    while (status := account.status(endpoint)) in IN_PROGRESS:
        time.sleep(POLL_SECONDS)
    if status is None:
        return None, None
    return status, account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]


def _shown(text: str, endpoint: str) -> str:
    """Cut a text to what a table's cell holds, its names made alike."""
    text = re.sub(r"arn:aws:\S+?(?=[\"'.]*(?:\s|$))", "<arn>", text.replace(endpoint, "<endpoint>"))
    text = re.sub(r"-[0-9a-f]{12}\b", "-<digest>", " ".join(text.split()))
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _table(results: Mapping[str, Mapping[Side, Happened]]) -> list[str]:
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
    ]
    for name, sides in results.items():
        for side in SIDES:
            one = sides[side]
            cells = [
                name if side == SIDES[0] else "",
                side,
                " → ".join(_cell(text) for text in one.tries),
                one.endpoint,
                ", ".join(one.unused) or "none",
                f"{one.seconds:.1f}",
                str(one.calls),
                ", ".join(one.changes) or "none",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(text: str) -> str:
    return text if text in ("success", "killed") else "`" + text.replace("|", "\\|").replace("`", "'") + "`"


def _written(results: Mapping[str, Mapping[Side, Happened]]) -> None:
    """Put the table between the page's marks."""
    packages = ("apache-airflow", "apache-airflow-providers-amazon", "botocore", "airflow-sm-plugin")
    made = [
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in packages),
        "",
        *_table(results),
    ]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([f"{before}{BEGIN}", "", *made, "", f"{END}{after}"]))


def main() -> None:
    """Run every situation for both sides and write the page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedProcess(Path(folder) / "embedded.log") as embedded,
    ):
        os.environ.update({**AWS_SETTINGS, "AWS_ENDPOINT_URL": embedded.url})
        account = account_at(embedded.url)
        results: dict[str, dict[Side, Happened]] = {}
        for situation in SITUATIONS:
            results[situation.name] = {}
            for side in SIDES:
                one = results[situation.name][side] = happened(account, situation, side)
                sys.stdout.write(f"{situation.name}, {side}: {one.tries[-1][:60]} ({one.seconds:.1f} s)\n")
    _written(results)
    sys.stdout.write(f"written: {PAGE}\n")


if __name__ == "__main__":
    main()
