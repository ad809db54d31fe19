"""Base classes of the operators and sensors: AWS arguments, hooks, templates, errors that Airflow does not retry.

This module imports no boto3, botocore or Amazon provider: a DAG file that uses the operators parses in milliseconds,
whereas the provider's ``AwsBaseOperator`` costs 0.4 s at every parse.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin import exceptions
from airflow_sm_plugin._compat import (
    AirflowFailException,
    AirflowSkipException,
    BaseOperator,
    BaseSensorOperator,
    Context,
    base_url,
)
from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.console import Console
from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.core.template_values import as_text, is_given, text
from airflow_sm_plugin.exceptions import (
    InvalidRequest,
    SageMakerInferenceError,
    ServiceUnavailable,
    TaskKilled,
)
from airflow_sm_plugin.killable import Killable
from airflow_sm_plugin.lineage import S3Lineage
from airflow_sm_plugin.links import forget_links
from airflow_sm_plugin.resources.made_in import MadeIn, airflow_site

if TYPE_CHECKING:
    import jinja2

    from airflow_sm_plugin.hooks.container_logs import ContainerLogsHook
    from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
    from airflow_sm_plugin.hooks.result_store import ResultStoreHook
    from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
    from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
    from airflow_sm_plugin.triggers.polling import PollingTrigger

log = get_log(__name__)

AWS_FIELDS: tuple[str, ...] = ("aws_conn_id", "region_name", "verify")
"""Those of the Amazon provider. ``botocore_config`` is not among them: Airflow stores and shows template fields, and a
proxy's URL can hold a password."""
_MASK = "***"
GRACE_SECONDS = 120
"""Airflow's deferral time-out comes so much later than the trigger's own deadline: it is only the safety net."""


@contextmanager
def failing_well() -> Iterator[None]:
    """Convert an error that is not ``retryable`` to ``AirflowFailException``; let every other error pass.

    Its text is the whole text. The error itself is its ``__context__``, whose stack is logged at DEBUG only.
    """
    try:
        yield
    except SageMakerInferenceError as error:
        if error.retryable:
            raise
        log.debug("the stack of the error", exc_info=True)
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None
    except AirflowSkipException as skip:
        log.info("skipped: %s", skip)
        raise


def broken_wait(doing: str, event: Mapping[str, Any]) -> SageMakerInferenceError:
    """Rebuild the error of a trigger's event, with its class, which decides whether Airflow retries.

    An error of another library (a bug, a client that cannot be created) becomes ``ServiceUnavailable``.

    :param doing: the wait and its object, which begin the message
    """
    kind = getattr(exceptions, str(event.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, SageMakerInferenceError)):
        kind = ServiceUnavailable
    return kind.from_text(str(event["message"])).during(doing)


def check_event(doing: str, event: Mapping[str, Any]) -> None:
    """Raise the error of :func:`broken_wait` if the wait failed."""
    if event.get("status") == "error":
        raise broken_wait(doing, event)


def task_instance_owner(context: Context) -> str | None:
    """Name the task instance, with the same name at all its tries; None outside of Airflow."""
    made_in = task_instance_of(context)
    return None if made_in is None else made_in.owner


def task_instance_of(context: Context) -> MadeIn | None:
    """Identify the task instance; None outside of Airflow."""
    if (ti := context.get("ti")) is None:
        return None
    map_index = -1 if ti.map_index is None else ti.map_index
    return MadeIn(ti.dag_id, ti.run_id, ti.task_id, map_index, site=airflow_site(base_url()))


def run_of(context: Context) -> str | None:
    """Name the task's run, with the same name at all its retries, and another after the task is cleared.

    Airflow raises ``max_tries`` when a task is cleared, and not for a retry. None outside of Airflow.
    """
    max_tries = getattr(context.get("ti"), "max_tries", None)
    return None if max_tries is None else str(max_tries)


def try_of(context: Context) -> TaskTry:
    """Identify the current try of the task instance; outside of Airflow the first try of an unknown run."""
    dag_run = context.get("dag_run")
    started, cleared = getattr(dag_run, "start_date", None), getattr(dag_run, "clear_number", None)
    return TaskTry(
        run_started=started.timestamp() if isinstance(started, datetime) else None,
        number=int(getattr(context.get("ti"), "try_number", None) or 1),
        times_cleared=cleared if isinstance(cleared, int) else None,
    )


def writer_of(context: Context) -> StateWriter:
    return StateWriter(try_of(context), run_of(context))


class Sensitive:
    """A rendered value that shows as ``***`` wherever Airflow stores or prints it."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return _MASK

    __repr__ = __str__

    def serialize(self) -> str:
        return _MASK


class SensitiveField:
    """A template field whose rendered value is masked, since Airflow stores rendered fields.

    The first value is the template. It stays unmasked, so that Airflow can render it and detect the tasks it depends
    on; each later value is a rendered one. A literal is therefore readable in Airflow's copy of the DAG: pass a secret
    as a template (``{{ conn.x.password }}``) or as another task's output.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._slot = f"_sensitive_{name}"

    def __get__(self, instance: object, owner: type) -> Any:  # noqa: ANN401 - a field of any type
        return self if instance is None else instance.__dict__.get(self._slot)

    def __set__(self, instance: object, value: object) -> None:
        rendered = self._slot in instance.__dict__ and not isinstance(value, Sensitive) and value is not None
        instance.__dict__[self._slot] = Sensitive(value) if rendered else value


def reveal(value: object) -> Any:  # noqa: ANN401 - the type is the field's
    """Unmask the value of a sensitive field."""
    return value.value if isinstance(value, Sensitive) else value


def _defaults_of(kind: type) -> Mapping[str, object]:
    """Map each constructor argument to its default; ``Parameter.empty`` for a required one."""
    return {
        name: parameter.default
        for base in reversed(kind.__mro__)
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items()
    }


class TemplatedArguments:
    """Templated arguments: text stays text in every DAG; numbers, lists and mappings are read after rendering.

    With ``render_template_as_native_obj=True`` Jinja reads each rendered text as a Python literal where possible:
    ``1.0`` and ``1,2,3`` become a number and a tuple, ``'a'`` loses its quotes, and the original text is lost. Here
    only a single expression, like ``{{ ti.xcom_pull('t') }}``, keeps its object; each argument that can be a number, a
    list or a mapping parses text by itself.
    """

    not_templated: Sequence[str]
    """Constructor arguments that are no templates. A class that declares this gets its ``template_fields`` and
    ``text_fields`` from all others. Another subclass, such as a user's, inherits or declares those two."""
    text_fields: Sequence[str] = ()
    """Template fields that are converted to text, whatever type a template or another task gives them."""
    none_fields: Sequence[str] = ()
    """Template fields in which None, or the text ``None``, is a value and not a missing argument."""

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - Python's own
        super().__init_subclass__(**kwargs)
        if "not_templated" not in vars(cls):
            return
        names = inspect.signature(cls.__init__).parameters
        own = [name for name in names if name not in ("self", "kwargs", *cls.not_templated)]
        cls.template_fields = (*own, *AWS_FIELDS)  # type: ignore[attr-defined]  # of Airflow's operators
        cls.text_fields = tuple(name for name in own if names[name].annotation in ("str", "str | None"))

    def _render(self, template: jinja2.Template, context: Context, dag: Any = None) -> Any:  # noqa: ANN401 - Airflow's
        from jinja2 import Undefined
        from jinja2.nativetypes import NativeEnvironment

        environment = template.environment
        if not isinstance(environment, NativeEnvironment):
            return super()._render(template, context, dag=dag)  # type: ignore[misc]  # of Airflow's operators
        variables: Any = copy.copy(context)
        variables.update((name, value) for name, value in template.globals.items() if name not in variables)
        try:
            scope = environment.context_class(environment, variables, template.name, template.blocks)
            values = list(template.root_render_func(scope))
        except Exception:  # noqa: BLE001 - Jinja raises it again, with the template's lines
            environment.handle_exception()
        alone = len(values) == 1 and not isinstance(values[0], Undefined)
        return values[0] if alone else "".join(map(str, values))

    def read_texts(self) -> None:
        """Convert the rendered values of text fields to text, and empty values to the argument's default.

        :raises InvalidRequest: a value is no text, or a required one is empty; names the argument, not its value
        """
        defaults = _defaults_of(type(self))
        for name in self.template_fields:  # type: ignore[attr-defined]  # as above
            if name in AWS_FIELDS or name in self.none_fields or is_given(reveal(getattr(self, name))):
                continue
            if defaults.get(name) is inspect.Parameter.empty:
                raise InvalidRequest(
                    f"{name} must be given: it is None or empty, or its template rendered to nothing"
                )
            setattr(self, name, defaults.get(name))
        for name in self.text_fields:
            value = reveal(getattr(self, name))
            if not (value is None or isinstance(value, str)):
                setattr(self, name, as_text(value, name))

    def texts(self, *names: str) -> dict[str, Any]:
        """Map arguments to their text, or to None where they are not given."""
        return {name: text(getattr(self, name), name) for name in names}

    @contextmanager
    def reading_arguments(self) -> Iterator[None]:
        """Convert the arguments as :meth:`read_texts` does, then run the block in :func:`failing_well`.

        The task has only the links that the block stores.
        """
        forget_links(self)
        with failing_well():
            self.read_texts()
            yield


class AwsArguments(TemplatedArguments, Killable, S3Lineage):
    """The four AWS arguments as attributes, and the hooks made from them."""

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: Mapping[str, Any] | None
    _aws: AwsConnection | None = None

    @property
    def log(self) -> Any:  # noqa: ANN401 - Airflow's logger has another type in each of its versions
        """Airflow's logger of this operator. Each argument is logged as one line."""
        kind = type(self)
        return get_log(f"airflow.task.operators.{kind.__module__}.{kind.__qualname__}")

    @property
    def aws(self) -> AwsConnection:
        """The connection of the rendered arguments, whose hooks share a session."""
        connection = AwsConnection(
            aws_conn_id=text(self.aws_conn_id, "aws_conn_id"),
            region_name=text(self.region_name, "region_name"),
            verify=_verify(self.verify),
            botocore_config=self.botocore_config,
        )
        if self._aws != connection:
            self._aws = connection
        return self._aws

    def wait_with(
        self, trigger: PollingTrigger | AsyncInferenceTrigger, *, deferrable: bool
    ) -> Mapping[str, Any]:
        """Defer, after which ``execute_complete`` gets the trigger's event; or wait here and return the event."""
        if deferrable:
            self.check_not_killed()
            self.defer_to(trigger, "execute_complete")
        return self.run_until_killed(trigger.event_here())

    def defer_to(self, trigger: PollingTrigger | AsyncInferenceTrigger, method_name: str) -> None:
        timeout = timedelta(seconds=max(0.0, trigger.deadline - time.time()) + GRACE_SECONDS)
        self.defer(trigger=trigger, method_name=method_name, timeout=timeout)  # type: ignore[attr-defined]  # of Airflow's operators

    def control_plane(self) -> SageMakerControlPlaneHook:
        """Create a hook for SageMaker's control plane that sends no call once the task is killed."""
        from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

        hook = SageMakerControlPlaneHook(**self.aws.hook_arguments())
        hook.before_call = self.check_not_killed
        return hook

    def console(self, hook: SageMakerControlPlaneHook | ResultStoreHook | None = None) -> Console:
        """Find where the task's links lead: AWS's console, or the pages of an embedded SageMaker, which is asked.

        :param hook: one at hand; with that of S3, only links to objects and folders are right
        """
        from airflow_sm_plugin.hooks.embedded_pages import console_of

        return console_of(hook or self.control_plane())

    @contextmanager
    def naming_what_is_left(self, endpoint_name: str) -> Iterator[None]:
        """Write to an error of the block, unless it names that already, the endpoint that goes on and costs money."""
        try:
            yield
        except SageMakerInferenceError as error:
            if not error.left_behind and not isinstance(error, InvalidRequest | TaskKilled):
                error.left_behind = self.control_plane().left_behind(endpoint_name) or ""
            raise

    def runtime(self) -> SageMakerRuntimeHook:
        from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook

        return SageMakerRuntimeHook(**self.aws.hook_arguments())

    def container_logs(self) -> ContainerLogsHook:
        from airflow_sm_plugin.hooks.container_logs import ContainerLogsHook

        return ContainerLogsHook(**self.aws.hook_arguments())

    def result_store(self) -> ResultStoreHook:
        from airflow_sm_plugin.hooks.result_store import ResultStoreHook

        return ResultStoreHook(**self.aws.hook_arguments())


def _verify(value: object) -> bool | str | None:
    """Read a boolean, which a template renders to text, or the path of a CA bundle."""
    if (spelled := text(value, "verify")) is None:
        return None
    return {"true": True, "false": False}.get(spelled.lower(), spelled)


class SageMakerInferenceOperator(AwsArguments, BaseOperator):
    """Base of all operators. The arguments and errors that several operators share are described here.

    Arguments are templates unless described as "not templated". Numbers and booleans can also be text, and lists and
    mappings can be JSON or Python text, since templates render to text. Each operator returns a mapping whose keys are
    also separate XComs: ``export.output["model_name"]`` works in a DAG.

    :param aws_conn_id: Airflow connection with AWS credentials; default ``aws_default``. None uses boto's default chain
        (MWAA's execution role)
    :param region_name: AWS region; default that of the connection or the environment
    :param verify: whether, or against which CA bundle, TLS is verified
    :param botocore_config: keyword arguments of :class:`botocore.config.Config`; not templated, so that Airflow does
        not store it with the task. A trigger gets it in its arguments, which Airflow encrypts
    :param deferrable: wait in the triggerer; default Airflow's ``[operators] default_deferrable``; not templated
    :param max_wait_seconds: seconds from the start of the wait; a deferral or a restart does not extend it
    :param poll_interval: seconds between polls; default 30
    :param container_log_lines: number of a container's last log lines that the task's log shows when the container
        failed; default 20, 0 shows none
    :param execution_role: ARN or name of the role with which SageMaker runs the model
    :param endpoint_name: up to 63 letters, digits and inner hyphens, as is ``model_name``
    :param vpc_config: ``{"SecurityGroupIds": [...], "Subnets": [...]}``
    :param enable_network_isolation: no network in or out of the containers; default False
    :param tags: as a mapping or in boto3's form. A resource that exists already gets them too (needs
        ``sagemaker:AddTags``), and keeps its other tags
    :param output_kms_key_id: KMS key (id, ARN or alias) of the S3 objects that the task itself writes; default the
        bucket's. SageMaker encrypts asynchronous results with the key of the endpoint's configuration
    :param output_acl: canned ACL of the same objects, e.g. ``bucket-owner-full-control``
    :raises InvalidRequest: an argument breaks a limit: nothing was sent
    :raises TaskKilled: Airflow ended the task
    :raises ServiceError: AWS refused a call or did not answer; subclasses say which of both

    Each class of :mod:`airflow_sm_plugin.exceptions` says when it is raised and whether Airflow retries the task.
    """

    template_fields: Sequence[str] = AWS_FIELDS
    ui_color = "#e6d9f5"

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
        multiple_outputs: bool = True,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config


class SageMakerInferenceSensor(AwsArguments, BaseSensorOperator):
    """Base of the sensors. :class:`SageMakerInferenceOperator` describes the shared arguments."""

    template_fields: Sequence[str] = AWS_FIELDS
    ui_color = "#f5ecd9"

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own sensor arguments
    ) -> None:
        super().__init__(**kwargs)
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
