"""Names of a batch's asynchronous invocations, chosen so that one listing shows a thousand results.

``S3OutputPathExtension`` and ``Filename`` are derived from the batch, the round and the input's number in the round:
these three suffice to find a result, also when the task was killed before it recorded SageMaker's answer. No example in
SageMaker's documentation shows how extension and file name are combined, so :class:`LocationPattern` is learned from
the locations in a real answer; a prediction serves only requests in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from airflow_sm_plugin.batches.inputs import SHARD
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.exceptions import InvalidRequest

_NUMBER = "{:07}"
OUTPUT_NAME = f"{_NUMBER}.out"
"""The file name of a result, for ``str.format``: in number order when listed."""

_LAST_NUMBER = 9_999_999
_EXTENSION, _NAME, _STEM = "{extension}", "{filename}", "{stem}"


def batch_root(owner: str, arguments: str, plan: int, *, nonce: str) -> str:
    """Make the common beginning of all names of one plan of a batch, the same for all tries of its task instance.

    :param plan: number of the plan, from 0; a batch whose task was cleared gets the next
    :param nonce: unique to the plan: a plan that is created again after its state was removed, or the same task in
        another Airflow, must not find its results under the same names
    """
    return f"airflow-{digest([owner, arguments, nonce])}-p{plan}"


def shard_of(number: int) -> int:
    return number // SHARD


def shards_of(count: int) -> int:
    return -(-count // SHARD)


def extension(root: str, round_number: int, shard: int) -> str:
    """Make the ``S3OutputPathExtension`` of a shard's invocations: at most 40 characters of 512."""
    return f"{root}/r{round_number}/{shard:05d}"


def filename(number: int) -> str:
    """Make the ``Filename`` of a number of the round.

    :raises ValueError: a negative number, or one that would break the listing's order
    """
    if not 0 <= number <= _LAST_NUMBER:
        raise ValueError(f"numbers of a round go from 0 to {_LAST_NUMBER}, not {number}")
    return OUTPUT_NAME.format(number)


def inference_id(root: str, round_number: int, number: int) -> str:
    """Make the ``InferenceId`` of a number: at most 64 characters."""
    return inference_id_form(root, round_number).format(number)


def inference_id_form(root: str, round_number: int) -> str:
    return f"{root}-r{round_number}-{{:07}}"


class Forms(NamedTuple):
    """A folder, with its slash, and the form of the names in it: :meth:`str.format` fills in a number."""

    folder: str
    names: str


@dataclass(frozen=True)
class LocationPattern:
    """Locations of outputs and failure objects, with ``{extension}`` and ``{filename}`` (or ``{stem}``) to fill in."""

    output_form: str
    failure_form: str | None

    @classmethod
    def learned(
        cls, extension: str, filename: str, *, output: str, failure: str | None
    ) -> LocationPattern | None:
        """Derive the pattern from one accepted invocation; None when its locations lack the names it was given.

        None as well when both locations are equal (:func:`check_apart`): a pattern holds for all of a round.
        """
        output_form = _form(output, extension, filename)
        failure_form = _form(failure, extension, filename) if failure else None
        if output == failure or output_form is None or (failure and failure_form is None):
            return None
        return cls(output_form, failure_form)

    @classmethod
    def guessed(cls, output_path: str, failure_path: str | None) -> LocationPattern:
        """Predict ``<S3OutputPath>/<extension>/<filename>``, as the documentation reads most naturally."""
        paths = (output_path, failure_path)
        output, failure = (path and f"{_literal(path.rstrip('/'))}/{_EXTENSION}/{_NAME}" for path in paths)
        return cls(str(output), failure or None)

    @property
    def is_apart(self) -> bool:
        return self.output_form != self.failure_form

    def output(self, extension: str, filename: str) -> str:
        return _filled(self.output_form, extension, filename)

    def failure(self, extension: str, filename: str) -> str | None:
        return self.failure_form and _filled(self.failure_form, extension, filename)

    def forms(self, extension: str) -> tuple[Forms, Forms | None]:
        failures = None if self.failure_form is None else _forms(self.failure_form, extension)
        return _forms(self.output_form, extension), failures

    def matches(self, extension: str, filename: str, *, output: str, failure: str | None) -> bool:
        expected = (self.output(extension, filename), self.failure(extension, filename))
        return expected == (output, failure or None)


def check_apart(output: str, failure: str | None, *, endpoint_name: str, then: str) -> None:
    """Refuse an invocation whose output and failure object have the same location.

    A ``Filename`` names both objects, so that with equal output and failure paths they get one location; without it
    their names differ.

    :param then: the remedy after the endpoint is corrected, for the message
    :raises InvalidRequest: naming the location, and the remedy
    """
    if output == failure:
        raise InvalidRequest(
            f"endpoint {endpoint_name} answered the same location as OutputLocation and as FailureLocation, {output}: "
            f"a failure would be taken for an output. Deploy it with an async_failure_path (S3FailurePath) that is not "
            f"its async_output_path (S3OutputPath), then {then}"
        )


def _form(location: str, extension: str, filename: str) -> str | None:
    """Replace the names in a location by placeholders; None unless it contains both, the extension first."""
    before, separator, behind = location.rpartition(f"/{extension}/")
    if not separator:
        return None
    for name, holder in ((filename, _NAME), (filename.rpartition(".")[0], _STEM)):
        if name and behind.count(name) == 1:
            left, _, right = behind.partition(name)
            return f"{_literal(before)}/{_EXTENSION}/{_literal(left)}{holder}{_literal(right)}"
    return None


def _forms(form: str, extension: str) -> Forms:
    holder = _NAME if _NAME in form else _STEM
    before, _, behind = form.partition(holder)
    folder, slash, left = before.format(extension=extension).rpartition("/")
    return Forms(folder + slash, left + (OUTPUT_NAME if holder == _NAME else _NUMBER) + behind.format())


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _filled(form: str, extension: str, filename: str) -> str:
    return form.format(extension=extension, filename=filename, stem=filename.rpartition(".")[0])
