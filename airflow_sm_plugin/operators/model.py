"""Create SageMaker models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SageMakerInferenceOperator, SensitiveField, reveal, task_instance_owner
from airflow_sm_plugin.core.names import check_name, digest
from airflow_sm_plugin.core.template_values import boolean, mapping, mappings, text, texts_by_name
from airflow_sm_plugin.exceptions import AccessDenied, InvalidRequest
from airflow_sm_plugin.resources.containers import ContainerRequest
from airflow_sm_plugin.resources.model import ModelSpec
from airflow_sm_plugin.resources.model_packages import check_approved, check_package_arn, environment_of
from airflow_sm_plugin.resources.tags import read_tags

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook


class SageMakerCreateModelOperator(SageMakerInferenceOperator):
    """Create a SageMaker model of one container, a pipeline, or a model package; a retry reuses the model.

    Give ``image`` (with ``model_data_url`` and ``environment``) for one container, ``containers`` for a pipeline, or a
    model package of the Model Registry. An existing model of that name is reused if its content is the same; other
    content is an error that shows the difference, except values of the environment. Content includes the artefacts'
    ETags where this task's role can read them. So an overwritten model.tar.gz leads to a new model under a derived
    name, and to an error under a given one.

    SageMaker checks the artefact (not below a multi-model prefix), the image and the execution role at once. It does
    not see a role that was created just now, so that the call is repeated for a minute.

    Returns on XCom: ``{"model_name", "model_arn", "created", "model_package_arn"}``; ``created`` is False for a reused
    model, ``model_package_arn`` is None without a package.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param image: the container image's URI
    :param model_data_url: ``s3://…/model.tar.gz``; with ``mode="MultiModel"`` the prefix of the archives
    :param environment: of the container of ``image`` or of a model package, text to text; masked in Airflow's rendered
        fields
    :param containers: definitions in SageMaker's form (``Image``, ``ModelDataUrl``, ``Environment``, …), up to 15, in
        pipeline order; masked in Airflow's rendered fields
    :param model_package_arn: a version of a model package, ``arn:…:model-package/<group>/<version>``
    :param model_package_group_name: or a group (its ARN, if of another account), for its newest approved version
    :param require_approved: refuse a package that is not Approved, and skip such versions of a group; default True.
        False leaves the check to SageMaker, which demands approval before a deployment
    :param mode: ``SingleModel`` or ``MultiModel`` (one container only); default SageMaker's, a single model
    :param model_cache: ``Enabled`` (SageMaker's default) or ``Disabled``, which unloads a target model after each call;
        with ``mode="MultiModel"``
    :param serving_preset: ``torchserve``, ``mms`` or ``huggingface`` raises the serving container's size and time
        limits for asynchronous inference, except those that the environment sets
    :param model_name: default ``<model_name_prefix>-<digest of the content>``, which stays the same over retries
    :param model_name_prefix: default ``model``
    :param force_new: create a new model in any case, named ``<model_name or model_name_prefix>-<digest>``: the digest
        stays the same over all tries of a task instance; default False
    :param tags: tags of the model; the operator adds ``airflow-sm-plugin:content``
    :raises ResourceConflict: another model has this name
    :raises ModelCreationRefused: ModelDataNotFound, ModelDataNotAccessible, ImageNotAccessible,
        ExecutionRoleNotAssumable
    :raises ModelPackageError: ModelPackageNotFound, ModelPackageNotApproved
    """

    not_templated = ()
    environment = SensitiveField()
    containers = SensitiveField()

    def __init__(
        self,
        *,
        execution_role: str,
        image: str | None = None,
        model_data_url: str | None = None,
        environment: Mapping[str, str] | str | None = None,
        containers: Sequence[Mapping[str, Any]] | str | None = None,
        model_package_arn: str | None = None,
        model_package_group_name: str | None = None,
        require_approved: bool | str = True,
        mode: str | None = None,
        model_cache: str | None = None,
        serving_preset: str | None = None,
        model_name: str | None = None,
        model_name_prefix: str = "model",
        force_new: bool | str = False,
        vpc_config: Mapping[str, Any] | str | None = None,
        enable_network_isolation: bool | str = False,
        tags: Mapping[str, str] | str | None = None,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.execution_role = execution_role
        self.image = image
        self.model_data_url = model_data_url
        self.environment = environment
        self.containers = containers
        self.model_package_arn = model_package_arn
        self.model_package_group_name = model_package_group_name
        self.require_approved = require_approved
        self.mode = mode
        self.model_cache = model_cache
        self.serving_preset = serving_preset
        self.model_name = model_name
        self.model_name_prefix = model_name_prefix
        self.force_new = force_new
        self.vpc_config = vpc_config
        self.enable_network_isolation = enable_network_isolation
        self.tags = tags

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_sm_plugin.hooks.result_store import ArtefactHook

        with self.reading_arguments():
            wanted, tags = self._container_request(), read_tags(self.tags, "tags")
            model_name = text(self.model_name, "model_name")
            if model_name is not None:
                check_name(model_name, "model name")
            hook = self.control_plane()
            owner = task_instance_owner(context) or digest("outside of Airflow")
            package_arn, package_environment = self._package(hook)
            spec = ModelSpec(
                containers=wanted.definitions(package_arn, package_environment),
                execution_role_arn=hook.role_arn(self.execution_role) if self.execution_role else "",
                name=model_name,
                stem=text(self.model_name_prefix, "model_name_prefix") or "model",
                vpc_config=mapping(self.vpc_config, "vpc_config"),
                enable_network_isolation=boolean(self.enable_network_isolation, "enable_network_isolation"),
                tags=tags or {},
                made_for=owner if boolean(self.force_new, "force_new") else None,
            ).checked()
            spec = ArtefactHook(**self.aws.hook_arguments()).with_etags(spec)
            name, arn, created = hook.models.create(spec)
            self.log.info("model %s %s", name, "created" if created else "reused")
            return {
                "model_name": name,
                "model_arn": arn,
                "created": created,
                "model_package_arn": package_arn,
            }

    def _container_request(self) -> ContainerRequest:
        if self.model_package_arn and self.model_package_group_name:
            raise InvalidRequest("give either model_package_arn or model_package_group_name, not both")
        return ContainerRequest(
            environment=texts_by_name(reveal(self.environment), "environment"),
            containers=_definitions(reveal(self.containers)),
            from_package=bool(self.model_package_arn or self.model_package_group_name),
            **self.texts("image", "model_data_url", "mode", "model_cache", "serving_preset"),
        ).checked()

    def _package(self, hook: SageMakerControlPlaneHook) -> tuple[str | None, Mapping[str, str]]:
        """Find the model package's ARN and, for a serving preset, the environment that the package sets."""
        approved = boolean(self.require_approved, "require_approved")
        if self.model_package_group_name:
            newest = hook.model_packages.newest(self.model_package_group_name, require_approved=approved)
            arn = str(newest["ModelPackageArn"])
            if not self.serving_preset:
                return arn, {}
        elif self.model_package_arn:
            arn = check_package_arn(self.model_package_arn)
        else:
            return None, {}
        package = self._described(hook, arn, approved=approved)
        return str(package.get("ModelPackageArn", arn)), environment_of(package)

    def _described(self, hook: SageMakerControlPlaneHook, arn: str, *, approved: bool) -> Mapping[str, Any]:
        try:
            package = hook.model_packages.describe(arn)
        except AccessDenied as denied:
            if approved:
                raise
            self.log.info("the model package is taken as it is: %s", denied)
            return {}
        if approved:
            check_approved(package)
        return package


def _definitions(containers: object) -> list[Mapping[str, Any]] | None:
    """Read a pipeline's definitions, and convert the values of their environments to text."""
    definitions, key = mappings(containers, "containers"), "Environment"
    if definitions is None:
        return None
    return [
        definition
        if key not in definition
        else {**definition, key: texts_by_name(definition[key], f"containers[{index}].{key}") or {}}
        for index, definition in enumerate(definitions)
    ]
