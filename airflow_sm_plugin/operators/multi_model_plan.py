"""Plan a batch through a multi-model endpoint: which inputs, whose model, which shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, max_map_length
from airflow_sm_plugin.base import SageMakerInferenceOperator
from airflow_sm_plugin.core.template_values import boolean, choice, whole_number
from airflow_sm_plugin.links import EndpointConsoleLink, EndpointLogsLink, persist_endpoint
from airflow_sm_plugin.multi_model.plan.estimate import Splitting
from airflow_sm_plugin.operators.multi_model_arguments import object_options, payload_bytes, plan_settings

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings

PLAN_KEY = "plan"
"""XCom key of the plan as a whole."""

_S3_CONNECTIONS = 32


class SageMakerPlanMultiModelBatchOperator(SageMakerInferenceOperator):
    """List inputs, give each its target model, and pack them into balanced shards for mapped batch tasks.

    Nothing is invoked. The plan lies in S3, so XCom carries small references only; a hundred thousand inputs take a few
    seconds and some megabytes of memory. Shards are even by bytes, and a model is in as few of them as possible, since
    each loads it anew. Where the endpoint and its model prefix may be looked at, a missing artefact is known now.

    **A retry** returns the plan that the killed try made, if it had finished it. **Clearing** the task returns the same
    plan while no input has changed; else it makes the next one, without the inputs that were done before and are the
    same still (source, ETag, target model, output name). A DAG run that was deleted and created again under its run id
    plans everything.

    Returns on XCom: a list with ``{"plan_location", "shard", "inputs", "models", "bytes"}`` for each shard, to
    ``expand`` the batch task over; empty when there is nothing to do. XCom ``plan`` is ``{"plan_location", "inputs",
    "models", "shards", "bytes", "carried", "missing_models", "passed_over"}``, all counts but the location, which alone
    is there, and empty, with ``plan_only``; ``passed_over`` are the objects below ``inputs`` that are hidden, or that
    patterns leave out.

    :param endpoint_name: of a real-time multi-model endpoint (templated)
    :param inputs: ``s3://bucket/prefix`` whose objects are the inputs, but for hidden ones such as ``_SUCCESS`` and
        ``.part-0.crc``; or ``s3://bucket/key`` of a manifest (templated)
    :param outputs: ``s3://bucket/prefix`` of the results, not among the inputs nor above them (templated)
    :param target_model: template of an input's model below the endpoint's model prefix, with fields in single braces:
        the key's Hive partitions by name, ``{parent}``, ``{stem}``, ``{name}``, ``{suffix}``, ``{relative}`` and
        ``{key}``, e.g. ``"store-{store_id}.tar.gz"``; a manifest's ``target-model`` wins (templated)
    :param inputs_type: ``"S3Prefix"`` (default), or ``"ManifestFile"``: SageMaker's JSON array ``[{"prefix": "s3://…/"},
        "relative/key.csv", …]``, or JSON Lines ``{"source-ref": "s3://…", "target-model"?, "content-type"?,
        "custom-attributes"?}``, of which labels of an augmented manifest are passed over (templated)
    :param include: list of patterns such as ``["*.csv"]``: of the objects below the prefix only those are inputs whose
        ``{relative}`` key matches one. ``*`` matches slashes, too, as in ``aws s3 cp --include``; what is hidden has to
        be named, as in ``_raw/*``. Default None, all (templated)
    :param exclude: list of such patterns of what is no input; it wins over ``include`` (templated)
    :param split_type: ``"Line"`` (default) or ``"None"``; for ``plan_only``'s estimate (templated)
    :param output_name: template of a result's name below ``outputs``, over the same fields and ``{target_model}``;
        default ``"{relative}"``, the key below ``inputs``, whether that ends in a slash or not, as Batch Transform has
        it. No two inputs may have the same (templated)
    :param max_shards: how many shards at most; default 8, never more than ``[core] max_map_length`` (templated)
    :param check_models: look for each model's artefact: a HeadObject each, of more than a thousand a listing; default
        True (templated)
    :param on_missing_model: ``"record"`` (default) plans such a model's inputs, whose records then fail in the report;
        ``"fail"`` fails this task (templated)
    :param on_rerun: what clearing the task means: ``"resume"`` (default) leaves out what was done, ``"restart"`` plans
        everything anew (templated)
    :param empty_ok: whether no input at all is fine; default False (templated)
    :param check_inputs: look at each object that a manifest lists: whether it exists, how large it is, and which
        content it has, which ``on_rerun="resume"`` goes by; a HeadObject each; default True (templated)
    :param state_prefix: ``s3://bucket/prefix`` for plans, journals and reports, which lie in ``_batch`` below it;
        default ``outputs``. The role needs s3:ListBucket, s3:GetObject and s3:PutObject there (templated)
    :param plan_only: write nothing and return no shards, but log inputs, models, bytes, and an estimate of payloads and
        time; default False (templated)
    :param batch_strategy: ``"SingleRecord"`` (default) or ``"MultiRecord"``; for ``plan_only``'s estimate (templated)
    :param max_payload_in_mb: of a MultiRecord payload, up to 25; default 6; for the same (templated)
    :param output_kms_key_id: KMS key of the plan's objects (templated)
    :param output_acl: canned ACL of the plan's objects, e.g. ``bucket-owner-full-control`` (templated)
    :raises InvalidRequest: an argument or an input breaks a limit, two outputs would have one name, or there is no
        input; not retried
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist; not retried
    :raises EndpointNotFound: no such endpoint; not retried
    :raises EndpointNotMultiModel: it serves no target models; not retried
    :raises EndpointNotRealTime: it is asynchronous; not retried
    :raises EndpointNotInService: it does not serve now; retried
    :raises TargetModelNotFound: artefacts are missing, with ``on_missing_model="fail"``; not retried
    :raises FencedOff: a later try has planned, and this one was left behind; not retried
    :raises TaskKilled: Airflow ended the task; retried
    :raises ServiceUnavailable: S3 or SageMaker did not answer; retried
    """

    not_templated = ("multiple_outputs",)
    none_fields = ("split_type",)
    operator_extra_links = (EndpointConsoleLink(), EndpointLogsLink())

    def __init__(
        self,
        *,
        endpoint_name: str,
        inputs: str,
        outputs: str,
        target_model: str | None = None,
        inputs_type: str = "S3Prefix",
        include: Sequence[str] | str | None = None,
        exclude: Sequence[str] | str | None = None,
        split_type: str = "Line",
        output_name: str = "{relative}",
        max_shards: int | str = 8,
        check_models: bool | str = True,
        on_missing_model: str = "record",
        on_rerun: str = "resume",
        empty_ok: bool | str = False,
        check_inputs: bool | str = True,
        state_prefix: str | None = None,
        plan_only: bool | str = False,
        batch_strategy: str = "SingleRecord",
        max_payload_in_mb: float | str = 6,
        output_kms_key_id: str | None = None,
        output_acl: str | None = None,
        multiple_outputs: bool = False,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.endpoint_name = endpoint_name
        self.inputs = inputs
        self.outputs = outputs
        self.target_model = target_model
        self.inputs_type = inputs_type
        self.include = include
        self.exclude = exclude
        self.split_type = split_type
        self.output_name = output_name
        self.max_shards = max_shards
        self.check_models = check_models
        self.on_missing_model = on_missing_model
        self.on_rerun = on_rerun
        self.empty_ok = empty_ok
        self.check_inputs = check_inputs
        self.state_prefix = state_prefix
        self.plan_only = plan_only
        self.batch_strategy = batch_strategy
        self.max_payload_in_mb = max_payload_in_mb
        self.output_kms_key_id = output_kms_key_id
        self.output_acl = output_acl

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan, or find the plan that there is already."""
        with self.reading_arguments():
            settings = plan_settings(self, context, max_shards=self._most_shards())
            splitting = self._splitting()
            region_name = self.control_plane().conn_region_name
            persist_endpoint(context, region_name=region_name, endpoint_name=self.endpoint_name)
            if boolean(self.plan_only, "plan_only"):
                self._show(self.run_until_killed(self._estimate(settings, splitting)))
                _push(context, {"plan_location": ""})
                return []
            summary, references = self.run_until_killed(self._plan(settings))
        _push(context, summary)
        return references

    async def _plan(self, settings: PlanSettings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        from airflow_sm_plugin.aws.s3.objects import S3Objects
        from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
        from airflow_sm_plugin.multi_model.plan.make import make_plan, shard_references

        endpoint = await EndpointFacts(self.aws, settings.endpoint_name).models()
        options = object_options(self)
        async with S3Objects.open(self.aws, max_connections=_S3_CONNECTIONS, options=options) as s3:
            plan, folder = await make_plan(s3, settings, endpoint)
            return plan.summary(folder.location), await shard_references(s3, plan, folder)

    async def _estimate(self, settings: PlanSettings, splitting: Splitting) -> list[str]:
        from airflow_sm_plugin.aws.s3.objects import S3Objects
        from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
        from airflow_sm_plugin.multi_model.plan.sampling import estimate_plan

        endpoint = await EndpointFacts(self.aws, settings.endpoint_name).models()
        async with S3Objects.open(self.aws, max_connections=_S3_CONNECTIONS) as s3:
            return (await estimate_plan(s3, settings, endpoint, splitting)).lines()

    def _show(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.log.info("%s", line)

    # Arguments

    def _most_shards(self) -> int:
        asked, allowed = whole_number(self.max_shards, "max_shards", at_least=1), max_map_length()
        if asked > allowed:
            self.log.info("at most %d shards, as [core] max_map_length says, not %d", allowed, asked)
        return min(asked, allowed)

    def _splitting(self) -> Splitting:
        from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions

        split_type = str(self.split_type)
        SplitOptions(split_type=split_type, batch_strategy=self.batch_strategy).checked()
        return Splitting(
            split_type=choice(split_type, "split_type", ("Line", "None")),
            batch_strategy=choice(self.batch_strategy, "batch_strategy", ("SingleRecord", "MultiRecord")),
            max_payload_bytes=payload_bytes(self.max_payload_in_mb),
        )


def _push(context: Context, plan: Mapping[str, Any]) -> None:
    if (ti := context.get("ti")) is not None:
        ti.xcom_push(key=PLAN_KEY, value=plan)
