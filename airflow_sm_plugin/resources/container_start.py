"""What the log group of an endpoint that is being created shows: whether a container runs, and its first errors.

A log group that exists means that a container runs. Without capacity there is none, for about half an hour; a container
that crashes is started again for up to an hour. SageMaker reports neither before the endpoint is Failed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_sm_plugin.core.text import duration

CHECK_SECONDS = 60.0
"""Seconds between two checks, and before the first one: each costs up to two calls of CloudWatch Logs."""

_USUAL_SECONDS = 240.0
"""Seconds within which the first container usually runs."""

_MOST_LINES = 20
"""Lines shown from the first error on: enough for a traceback."""

_MOST_FAILED_CHECKS = 3

_ERROR = re.compile(
    r"\b(?:\w*error|\w*exception|traceback|fatal|critical|failed|cannot|killed|not found|no such file|out of memory)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ContainerLines:
    """The first lines of the container that started last, of this endpoint."""

    stream: str
    lines: Sequence[str]

    @property
    def errors(self) -> list[str]:
        """Select the lines from the first one on that reports an error."""
        first = next((number for number, line in enumerate(self.lines) if _ERROR.search(line)), None)
        return [] if first is None else list(self.lines[first : first + _MOST_LINES])


@dataclass(frozen=True)
class StartReport:
    """A message for the log, followed by lines of the container."""

    message: str
    lines: Sequence[str] = ()
    is_warning: bool = True


@dataclass(frozen=True)
class ContainerStart:
    """What was reported of one endpoint's creation so far, so that nothing is reported twice.

    :param began: epoch seconds of the creation
    :param checked_at: epoch seconds of the last check
    """

    endpoint_name: str
    began: float
    checked_at: float = -math.inf
    runs: bool = False
    is_late: bool = False
    failed_checks: int = 0
    is_over: bool = False

    def is_due(self, now: float) -> bool:
        """Decide whether the log group is read now; *now* is in epoch seconds."""
        return not self.is_over and now - max(self.began, self.checked_at) >= CHECK_SECONDS

    def checked(
        self, found: ContainerLines | None, *, now: float
    ) -> tuple[ContainerStart, StartReport | None]:
        """Note a check, and decide what to report.

        :param found: None where no container of this endpoint has logged
        """
        after = replace(self, checked_at=now, failed_checks=0)
        about = f"endpoint {self.endpoint_name} is still Creating after {duration(now - self.began)}"
        if found is None:
            if self.is_late or self.runs or now - self.began < _USUAL_SECONDS:
                return after, None
            return replace(after, is_late=True), StartReport(
                f"{about}, and no container runs yet: SageMaker waits for capacity of the instance type, or pulls "
                f"image and model. Instances cost nothing before a container runs"
            )
        if found.errors:
            report = StartReport(
                f"{about}, and its container reports errors in {found.stream}:", found.errors
            )
            return replace(after, runs=True, is_over=True), report
        if self.runs:
            return after, None
        report = StartReport(f"{about}: a container runs, and logs to {found.stream}", is_warning=False)
        return replace(after, runs=True), report

    def unchecked(
        self, problem: str, *, now: float, is_denied: bool
    ) -> tuple[ContainerStart, StartReport | None]:
        """Note a check that failed: it is no error, and the last one of these is reported."""
        failed = self.failed_checks + 1
        is_over = is_denied or failed >= _MOST_FAILED_CHECKS
        after = replace(self, checked_at=now, failed_checks=failed, is_over=is_over)
        if not is_over:
            return after, None
        return after, StartReport(
            f"what the containers of endpoint {self.endpoint_name} log while it is Creating is not shown: {problem}",
            is_warning=False,
        )
