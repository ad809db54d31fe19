"""What a batch reads: one input, and the manifest that lists inputs as JSON Lines.

A manifest's line is ``{"source-ref": "s3://bucket/key"}``, as SageMaker's augmented manifests spell it, with
``"content-type"`` and ``"custom-attributes"`` where one input needs its own, and ``"target-model"`` where the batch is
one of many models. Labels and all other keys are passed over, but for those that look like a misspelled key of ours. A
line is an input: an object that is listed twice is sent twice.
:mod:`~airflow_sm_plugin.core.manifest_array` is the other form.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.header_values import check_header
from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.lines import LONGEST_LINE
from airflow_sm_plugin.core.s3 import S3Uri, check_input_location
from airflow_sm_plugin.core.template_values import choice
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidRequest, InvalidS3Uri

_SOURCE, _CONTENT_TYPE, _CUSTOM_ATTRIBUTES = MANIFEST_KEYS = (
    "source-ref",
    "content-type",
    "custom-attributes",
)
TARGET_MODEL = "target-model"
"""The key that only a multi-model batch's manifest may have."""

_STORED = {
    "source": _SOURCE,
    "size": "size",
    "etag": "etag",
    "content_type": _CONTENT_TYPE,
    "custom_attributes": _CUSTOM_ATTRIBUTES,
    "target_model": TARGET_MODEL,
    "output": "output",
    "relative": "relative",
}
"""The keys of a planned input's fields, in the order in which they are written: digests rest on it."""

_INLINE = "source"
"""The key of a record that stands in an augmented manifest itself."""

_OTHERS = {"entries": "Redshift's", "fileLocations": "QuickSight's"}
"""Keys of manifests of other services."""
_BEGUN = (
    ", and this one goes on in the next line: write it on one; manifests of Redshift (entries) and QuickSight "
    "(fileLocations) are others, so list their objects"
)

_EXAMPLE = '{"source-ref": "s3://bucket/key"}'


@dataclass(frozen=True, kw_only=True)
class BatchInput:
    """One object to infer on.

    :param source: ``s3://bucket/key``
    :param size: bytes, None where they are not known
    :param etag: without its quotes, None where it is not known
    :param content_type: of this input, None for the batch's own
    :param custom_attributes: ready to send; they are sensitive, so no repr shows them
    :param target_model: path below a multi-model endpoint's model prefix, None where there is no such endpoint
    :param output: name of its results below the batch's outputs, without ``.out``; None where none was chosen
    :param relative: its key below the inputs' prefix, as templates have it; None for the whole key
    """

    source: str
    size: int | None = None
    etag: str | None = None
    content_type: str | None = None
    custom_attributes: str | None = field(default=None, repr=False)
    target_model: str | None = None
    output: str | None = None
    relative: str | None = None

    def as_line(self) -> str:
        """Return it as one line of JSON without a line break, as :meth:`from_line` reads it."""
        values = ((key, getattr(self, name)) for name, key in _STORED.items())
        return json.dumps({key: value for key, value in values if value is not None}, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> BatchInput:
        """Read what :meth:`as_line` wrote; it is not checked again."""
        given = json.loads(line)
        return cls(**{name: given[key] for name, key in _STORED.items() if key in given})


@dataclass(frozen=True, kw_only=True)
class InputLimits:
    """What an endpoint takes of one input.

    :param most_bytes: of the object, None where it is read piece by piece
    :param remedy: what to do about a larger one, for the message
    :param is_fetched: whether SageMaker fetches the object itself: its location then goes in an HTTP header
    """

    most_bytes: int | None
    remedy: str
    is_fetched: bool = False

    def check(self, one: BatchInput) -> BatchInput:
        """Return the input itself when it keeps every limit.

        :raises InvalidRequest: naming the object, what it has, the limit and the remedy
        """
        if one.size is not None and self.most_bytes is not None and one.size > self.most_bytes:
            raise InvalidRequest(
                f"the input {one.source} has {one.size} bytes, SageMaker takes up to {self.most_bytes}: {self.remedy}"
            )
        if self.is_fetched:
            check_input_location(one.source, name="the location")
        if one.custom_attributes is not None:
            _check_attributes(one.custom_attributes, f"the input {one.source}")
        return one


ASYNC_LIMITS = InputLimits(
    most_bytes=2**30,
    remedy="split it, or let the model read it from S3 itself and send its location",
    is_fetched=True,
)
"""Of asynchronous inference. AWS says "up to 1 GB"; the larger reading is taken, the service has the last word."""


MULTI_MODEL_LIMITS = InputLimits(most_bytes=None, remedy="")
"""Of a multi-model batch, which reads inputs itself and sends their records."""


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """An input as a manifest lists it.

    :param place: where, for messages: ``line 3``
    :param passed_over: keys that mean nothing here, such as labels
    """

    place: str
    input: BatchInput
    passed_over: Sequence[str] = ()


def entry_of_line(line: str, *, number: int, target_models: bool = False) -> ManifestEntry | None:
    """Read one line of a manifest; None for an empty one.

    :param number: of the line, from 1, for the message, which never shows the custom attributes
    :param target_models: whether a line may say which model is its input's
    :raises InvalidRequest: it is not what it must be
    """
    text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
    if not text:
        return None
    where = f"line {number} of the manifest"
    if len(text) > LONGEST_LINE:
        raise InvalidRequest(
            f"{where} is longer than {LONGEST_LINE} characters: is it one JSON object a line?"
        )
    pairs = _pairs(text, where)
    given, passed_over = _sorted(pairs, where, target_models=target_models)
    for name, value in given.items():
        if not isinstance(value, str) or not value:
            kind = "empty" if value == "" else _json_type(value)
            raise InvalidRequest(f"{where}: {name} must be a text, not {kind}; leave out what is not needed")
    if _SOURCE not in given:
        raise _without_source(where, passed_over)
    checked = _checked(cast("dict[str, str]", given), where)
    return ManifestEntry(place=f"line {number}", input=checked, passed_over=passed_over)


def _pairs(text: str, where: str) -> Sequence[tuple[str, object]]:
    """Read an object as pairs of key and value: a key may be there twice, of which a dict would keep the last."""
    try:
        given = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        # Not chained: a JSONDecodeError keeps the whole line, custom attributes and all.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        hint = _BEGUN if text == "{" else ""
        raise InvalidRequest(
            f"{where} is not JSON ({reason}); a manifest has one JSON object a line, such as {_EXAMPLE}{hint}"
        ) from None
    if not isinstance(given, tuple):
        raise InvalidRequest(
            f"{where} is a JSON {_json_type(given)}, not an object; a manifest has one JSON object a line, "
            f"such as {_EXAMPLE}"
        )
    return given


def _json_type(value: object) -> str:
    return "dict" if isinstance(value, tuple) else type(value).__name__


def _sorted(
    pairs: Sequence[tuple[str, object]], where: str, *, target_models: bool
) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """Separate the keys that count, each there once, from those that are passed over.

    :raises InvalidRequest: one is there twice, is misspelled, or is not for this kind of batch
    """
    names = [name for name, _ in pairs]
    for name in names:
        meant = _meant(name)
        if meant == TARGET_MODEL and not target_models:
            raise InvalidRequest(
                f"{where} has the key {name!r:.80}: an asynchronous endpoint has no target models; leave it out, or "
                f"take a multi-model batch"
            )
        if meant not in (None, name):
            raise InvalidRequest(
                f"{where} has the key {name!r:.80}: write {meant!r}, or give a label another name"
            )
    given = {name: value for name, value in pairs if _meant(name)}
    counts = Counter(names)
    if twin := next((name for name in given if counts[name] > 1), None):
        raise InvalidRequest(f"{where} has the key {twin!r} more than once")
    return given, tuple(name for name in counts if name not in given)


def _without_source(where: str, passed_over: Sequence[str]) -> InvalidRequest:
    if _INLINE in passed_over:
        return InvalidRequest(
            f"{where} has a record of its own in {_INLINE!r}: a batch sends objects in S3, so write the records to "
            f"objects, and list those as {_SOURCE!r}"
        )
    if whose := next((whose for name, whose in _OTHERS.items() if name in passed_over), None):
        return InvalidRequest(
            f"{where} has no {_SOURCE}: this looks like {whose} own kind of manifest; write a line such as {_EXAMPLE} "
            f"for each of its objects"
        )
    return InvalidRequest(
        f"{where} has no {_SOURCE}: it says which object in S3 is the input, as in {_EXAMPLE}"
    )


@functools.lru_cache(maxsize=256)
def _meant(name: str) -> str | None:
    """Return the key of ours that a name is, or is up to one character, case and separators; None for any other."""
    short = _letters(name)
    if len(short) > len(_letters(_CUSTOM_ATTRIBUTES)) + 1:
        return None
    keys = (*MANIFEST_KEYS, TARGET_MODEL)
    return next((key for key in keys if not _shortened(short).isdisjoint(_shortened(_letters(key)))), None)


def _letters(name: str) -> str:
    return re.sub(r"[-_. ]", "", name[:80]).lower()


def _shortened(text: str) -> set[str]:
    """Return a text, and what is left of it without one of its characters: texts one edit apart share one of these."""
    return {text, *(text[:cut] + text[cut + 1 :] for cut in range(len(text)))}


def _checked(given: Mapping[str, str], where: str) -> BatchInput:
    try:
        S3Uri.parse_object(given[_SOURCE], name=_SOURCE)
    except InvalidS3Uri as error:
        raise InvalidS3Uri(f"{where}: {error}") from None
    attributes = given.get(_CUSTOM_ATTRIBUTES)
    for name in (_CONTENT_TYPE, TARGET_MODEL):
        check_header(given.get(name), f"{where}: {name}")
    if attributes is not None:
        _check_attributes(attributes, where)
    return BatchInput(
        source=given[_SOURCE],
        content_type=given.get(_CONTENT_TYPE),
        custom_attributes=attributes,
        target_model=given.get(TARGET_MODEL),
    )


def _check_attributes(value: str, where: str) -> None:
    try:
        validate(value)
    except InvalidCustomAttributes as error:
        raise InvalidCustomAttributes(f"{where}: {error}") from None


SHARD = 1_000
"""Inputs that share an output path extension: as many as one page of ListObjectsV2 shows."""

CHUNK = 250
"""Inputs that a shard keeps in one object: some 60 KB, so that many models' inputs can be in memory at once."""

S3_PREFIX = "S3Prefix"
MANIFEST_FILE = "ManifestFile"
INPUTS_TYPES = (S3_PREFIX, MANIFEST_FILE)
"""As Batch Transform calls them."""


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """Where a batch's inputs come from.

    :param location: ``s3://bucket/prefix``: the objects whose keys begin so, in the order of the keys, but for what is
        hidden (:mod:`airflow_sm_plugin.core.input_selection`); or ``s3://bucket/key`` of a manifest
        (:mod:`airflow_sm_plugin.batches.inputs`, :mod:`airflow_sm_plugin.core.manifest_array`), of which every
        object is taken
    :param inputs_type: ``S3Prefix`` or ``ManifestFile``
    :param include: patterns of relative keys below a prefix, empty for all
    :param exclude: patterns of relative keys below a prefix that are no inputs
    :param custom_attributes: template over :func:`~airflow_sm_plugin.batches.templates.fields_of` the key, ``run`` and
        ``{number}``, the input's place in the plan from 0; an input that a manifest gives attributes keeps them as they
        are
    :param run: further fields, e.g. ``dag_id``; they go before Hive partitions of the same name
    :param check_inputs: whether a manifest's objects are checked (a HeadObject each): that they exist, how large they
        are, and which content they have
    :param target_models: whether a manifest may say which model is an input's
    """

    location: str
    inputs_type: str = S3_PREFIX
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    custom_attributes: str | None = field(default=None, repr=False)
    run: Mapping[str, str] = field(default_factory=dict)
    limits: InputLimits = ASYNC_LIMITS
    check_inputs: bool = True
    target_models: bool = False

    def checked(self) -> InputSource:
        """Return the source itself when it can be read.

        :raises InvalidRequest: ``inputs_type`` is another, the location is none, or a manifest has patterns
        """
        if choice(self.inputs_type, "inputs_type", INPUTS_TYPES) == MANIFEST_FILE:
            S3Uri.parse_object(self.location, name="inputs")
            if self.include or self.exclude:
                raise InvalidRequest(
                    "include and exclude choose among the objects below a prefix; a manifest says by itself which are "
                    "meant: leave them out, or give inputs_type='S3Prefix'"
                )
        else:
            S3Uri.parse(self.location, name="inputs")
        return self

    def selection(self) -> InputSelection:
        """Return what chooses among the objects below the prefix, and counts for one listing."""
        prefix = S3Uri.parse(self.location, name="inputs").key
        return InputSelection(prefix, include=self.include, exclude=self.exclude)

    def no_inputs(self, selection: InputSelection, effect: str, *, remedy: str = "") -> InvalidRequest:
        """Return the error of a listing without any input.

        :param effect: what follows of it, such as ``nothing was sent``
        :param remedy: a clause more for the end
        """
        if self.inputs_type == MANIFEST_FILE:
            return InvalidRequest(f"the manifest {self.location} lists no inputs: {effect}{remedy}")
        return InvalidRequest(
            f"there are no inputs below {self.location}: {effect}{selection.why_nothing()}; check the prefix, or wait "
            f"for the data before this task{remedy}"
        )
