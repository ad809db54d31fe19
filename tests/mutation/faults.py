"""Thirty small slips in the package, each of which a user could meet; the tests should find at least 28 of them.

The legs are 1 Autopilot export, 2 models and endpoints, 3 asynchronous invocation, 4 multi-model batches.
"kill-safe" marks code that a killed try, its orphan, or its retry depends on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A text in a module of the package, and the faulty text that replaces it.

    :param leg: 1 to 4
    :param kill_safe: whether the code is there for kills, retries, and processes left behind
    :param path: below ``airflow_sm_plugin``
    :param before: it occurs exactly once
    """

    name: str
    leg: int
    kill_safe: bool
    path: str
    before: str
    after: str

    @property
    def file(self) -> str:
        """The module's path from the root of the repository."""
        return f"airflow_sm_plugin/{self.path}"

    def planted(self, source: str) -> str:
        """Return the module's source with the fault in it.

        :raises ValueError: the text is not there exactly once, or nothing changes
        """
        if source.count(self.before) != 1 or self.before == self.after:
            raise ValueError(f"{self.name}: the text occurs {source.count(self.before)} times in {self.file}")
        return source.replace(self.before, self.after)


FAULTS = (
    Fault(
        "candidates are ranked with the worst first",
        1,
        False,
        "autopilot/candidates.py",
        'pair[0]["value"] if is_minimised(pair[0]) else -pair[0]["value"]',
        '-pair[0]["value"] if is_minimised(pair[0]) else pair[0]["value"]',
    ),
    Fault(
        "a job that is stopping counts as ended",
        1,
        False,
        "autopilot/job.py",
        'status in ("InProgress", "Stopping")',
        'status == "InProgress"',
    ),
    Fault(
        "response keys come in the candidate's order",
        1,
        False,
        "core/response_keys.py",
        "key for key in keys if key in supported)",
        "key for key in supported if key in keys)",
    ),
    Fault(
        "only the first page of candidates is read",
        1,
        False,
        "hooks/automl.py",
        'for page in pages for candidate in page["Candidates"]',
        'for page in list(pages)[:1] for candidate in page["Candidates"]',
    ),
    Fault(
        "failed polls of a job add up over the whole wait",
        1,
        False,
        "triggers/polling.py",
        "payload = await self.poll(client, now=time.time())\n                self._failed = FailedPolls()\n",
        "payload = await self.poll(client, now=time.time())\n",
    ),
    Fault(
        "a named model with another artefact is reused",
        2,
        True,
        "hooks/models.py",
        'return spec.tag_differences(self._hook.tags_of(existing["ModelArn"]) or {})',
        "return []",
    ),
    Fault(
        "a later try's endpoint is cleaned up by an earlier one",
        2,
        True,
        "endpoints/ownership.py",
        "not try_number.isdigit() or int(try_number) > self.try_number",
        "not try_number.isdigit()",
    ),
    Fault(
        "an endpoint created again meanwhile is deleted as well",
        2,
        True,
        "hooks/control_plane.py",
        "return description is None or (target is not None and not is_same(description, target))",
        "return description is None",
    ),
    Fault(
        "UpdateEndpoint is repeated by botocore",
        2,
        True,
        "hooks/control_plane.py",
        "client: Any = self.get_client_type(config=self.config.merge(_SENT_ONCE))",
        "client: Any = self.client",
    ),
    Fault(
        "the replaced configuration is forgotten over a deferral",
        2,
        False,
        "endpoints/deployment.py",
        "created_at=self._work.claim.created_at,\n            replaced_config=self._replaced_config,\n",
        "created_at=self._work.claim.created_at,\n",
    ),
    Fault(
        "models that others made are removed with earlier configurations",
        2,
        True,
        "endpoints/deletion.py",
        "elif self._hook.models.is_made_here(name) and self._serves_ours():",
        "elif self._serves_ours():",
    ),
    Fault(
        "a configuration that an endpoint is moved to counts as unused",
        2,
        True,
        "resources/endpoint_status.py",
        'names = {description.get("EndpointConfigName"), pending.get("EndpointConfigName")}',
        'names = {description.get("EndpointConfigName") or pending.get("EndpointConfigName")}',
    ),
    Fault(
        "policies are deleted before the alarms that set them off",
        2,
        True,
        "endpoints/apply_scaling.py",
        """\
        deleted = [f"alarm {name}" for name in alarms if self.alarms.delete(name)]
        return deleted + [
            f"policy {name} of {variant.resource_id}"
            for variant, names in policies.items()
            for name in names
            if self.variants.delete_policy(variant, name)
        ]
""",
        """\
        deleted = [
            f"policy {name} of {variant.resource_id}"
            for variant, names in policies.items()
            for name in names
            if self.variants.delete_policy(variant, name)
        ]
        return [f"alarm {name}" for name in alarms if self.alarms.delete(name)] + deleted
""",
    ),
    Fault(
        "a check of a claim holds from its answer on, not from its question",
        3,
        True,
        "batches/claim.py",
        "self._good_at = began\n",
        "self._good_at = time.monotonic()\n",
    ),
    Fault(
        "a part of another process's ledger is taken for our own",
        3,
        True,
        "async_inference/batch/ledger_store.py",
        """\
            if written.token != self.claim.token:
                raise fenced_off(self.folder.location)
""",
        "",
    ),
    Fault(
        "numbers are sent before the ledger intends them",
        3,
        True,
        "async_inference/batch/ledger_store.py",
        """\
        try:
            await self._store.append(part)
        except BaseException:
            # The last part may still be written, and must not lack these answers.
            self._accepted += accepted
            self._refused = refused | self._refused
            self._odd = odd | self._odd
            self._submitted_at = max(submitted_at or 0.0, self._submitted_at or 0.0) or None
            raise
        if block:
            self.todo &= ~block
            self._left += block.bit_count()
            self._allow(numbers_of(block))
""",
        """\
        if block:
            self.todo &= ~block
            self._left += block.bit_count()
            self._allow(numbers_of(block))
        try:
            await self._store.append(part)
        except BaseException:
            # The last part may still be written, and must not lack these answers.
            self._accepted += accepted
            self._refused = refused | self._refused
            self._odd = odd | self._odd
            self._submitted_at = max(submitted_at or 0.0, self._submitted_at or 0.0) or None
            raise
""",
    ),
    Fault(
        "expired credentials end a submission",
        3,
        False,
        "async_inference/batch/submission.py",
        "except (CredentialsExpired, ServiceUnavailable) as error:",
        "except ServiceUnavailable as error:",
    ),
    Fault(
        "403 and 503 count as absence after the time to live",
        3,
        True,
        "async_inference/single/state.py",
        "now >= self.intent.over_at and presence == ResultPresence(Presence.ABSENT, Presence.ABSENT)",
        "now >= self.intent.over_at",
    ),
    Fault(
        "a result times out before its failure object was polled",
        3,
        False,
        "async_inference/watch_state.py",
        "self.outputs_at if folder.failures is None else min(self.outputs_at, self.failures_at)",
        "self.outputs_at",
    ),
    Fault(
        "a deferred sensor's time-out begins again",
        3,
        False,
        "sensors/async_inference.py",
        'self._begin(event["note"]["first_poll"])',
        "self._begin(self._first_poll_at(context))",
    ),
    Fault(
        "inputs that were written again count as done",
        3,
        True,
        "async_inference/batch/plan.py",
        'as_utf8(f"{source}\\n{etag}")',
        "as_utf8(source)",
    ),
    Fault(
        "a conditional write whose answer was lost counts as another's",
        3,
        True,
        "aws/s3/objects.py",
        """\
            if attempts > 1 and await self._holds(location, body):
                return
""",
        "",
    ),
    Fault(
        "results are swept away without asking whose the shard is",
        4,
        True,
        "multi_model/state/store.py",
        """\
        if names:
            await claim.check()
""",
        "",
    ),
    Fault(
        "a finished shard's failures that may pass are left as they are",
        4,
        True,
        "multi_model/shard.py",
        """\
        if any(ended.retryable for ended in journal.failed.values()):
            return None
""",
        "",
    ),
    Fault(
        "what is replaced is learnt after it was asked whose the batch is",
        4,
        True,
        "multi_model/state/fenced_objects.py",
        """\
        listed = await self._s3.stat(location)
        await self._check()
        if listed is Presence.ABSENT:
""",
        """\
        await self._check()
        listed = await self._s3.stat(location)
        if listed is Presence.ABSENT:
""",
    ),
    Fault(
        "a failure stays when its payload is tried again",
        4,
        True,
        "multi_model/state/journal.py",
        """\
        progress = self.progress_of(reopened.entry)
        progress.failures = [stored for stored in progress.failures if stored.failure.start != reopened.start]
""",
        "        self.progress_of(reopened.entry)\n",
    ),
    Fault(
        "a throttled batch does not slow down",
        4,
        False,
        "multi_model/engine/judgement.py",
        "_PASSING[meaning], status, slow_down=meaning is Meaning.THROTTLED)",
        "_PASSING[meaning], status)",
    ),
    Fault(
        "one payload more than allowed is in flight",
        4,
        False,
        "multi_model/engine/schedule.py",
        "if self.in_flight >= limit:",
        "if self.in_flight > limit:",
    ),
    Fault(
        "a finished model is replaced at once, and one with work left is evicted",
        4,
        False,
        "multi_model/engine/schedule.py",
        "return self._in_use + len(replaceable) < self._limit.value",
        "return self._in_use < self._limit.value",
    ),
    Fault(
        "evictions do not lower the limit of warm models to those that were held",
        4,
        False,
        "multi_model/engine/warm_limit.py",
        "self.value = max(1, min(self.value, kept, active - 1))",
        "self.value = max(1, min(self.value, active - 1))",
    ),
    Fault(
        "a last row that is blank is dropped",
        4,
        False,
        "multi_model/payloads/assembly.py",
        "while len(rows) > records and not rows[-1].strip():",
        "while len(rows) >= records and not rows[-1].strip():",
    ),
    Fault(
        "two planners both choose the plan that counts",
        4,
        True,
        "batches/numbered_log.py",
        "body, only_if_new=True)",
        "body)",
    ),
)
