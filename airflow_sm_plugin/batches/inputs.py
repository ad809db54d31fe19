"""Inputs of a batch, their limits and sources, and the lines of a manifest in JSON Lines.

A manifest's line is ``{"source-ref": "s3://bucket/key"}``, as in SageMaker's augmented manifests. An input may have its
own ``"content-type"`` and ``"custom-attributes"``, and in a multi-model batch its ``"target-model"``. Labels and all
other keys are ignored, but a key that is one edit away from one of these is refused as a misspelling. An object that is
listed twice is sent twice. The other form of manifest is in :mod:`~airflow_sm_plugin.core.manifest_array`.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.header_values import check_header
from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.lines import LONGEST_LINE
from airflow_sm_plugin.core.s3 import S3Uri, check_input_location
from airflow_sm_plugin.core.template_values import choice
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidRequest, InvalidS3Uri

_SOURCE, _CONTENT_TYPE, _CUSTOM_ATTRIBUTES = "source-ref", "content-type", "custom-attributes"
TARGET_MODEL = "target-model"
"""A manifest's key that is permitted in multi-model batches only."""

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
"""JSON keys of an input's fields, which are written in the fields' order."""
_NAMES = {key: name for name, key in _STORED.items()}

_INLINE = "source"
"""The key of an augmented manifest's line for a record within the line."""

_FOREIGN_KEYS = {"entries": "Redshift's", "fileLocations": "QuickSight's"}
_CONTINUED = (
    ", and this one goes on in the next line: write it on one; manifests of Redshift (entries) and QuickSight "
    "(fileLocations) are others, so list their objects"
)

_EXAMPLE = '{"source-ref": "s3://bucket/key"}'


@dataclass(frozen=True, kw_only=True)
class BatchInput:
    """One object to infer on.

    :param source: ``s3://bucket/key``
    :param size: bytes; None if unknown
    :param etag: without its quotes; None if unknown
    :param content_type: None for the batch's content type
    :param custom_attributes: as they are sent; sensitive, so no repr shows them
    :param target_model: path below a multi-model endpoint's model prefix; None in an asynchronous batch
    :param output: name of its results below the batch's outputs, without ``.out``; None for the default
    :param relative: key below the inputs' prefix, for templates; None for the full key
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
        """Encode the input as one line of ASCII JSON, without a line break."""
        stored = {_STORED[name]: value for name, value in vars(self).items() if value is not None}
        return json.dumps(stored, separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> BatchInput:
        """Read what :meth:`as_line` wrote, without any check."""
        return cls(**{_NAMES[key]: value for key, value in json.loads(line).items() if key in _NAMES})


@dataclass(frozen=True, kw_only=True)
class InputLimits:
    """An endpoint's limits on one input.

    :param most_bytes: of the object; None if the batch reads it piece by piece
    :param remedy: for the message about a larger object
    :param is_fetched: whether SageMaker fetches the object: its location is then sent in an HTTP header
    """

    most_bytes: int | None = None
    remedy: str = ""
    is_fetched: bool = False

    def check(self, item: BatchInput) -> BatchInput:
        """Return the input itself; raise InvalidRequest, with the limit and the remedy, if it exceeds one."""
        if item.size is not None and self.most_bytes is not None and item.size > self.most_bytes:
            raise InvalidRequest(
                f"the input {item.source} has {item.size} bytes, SageMaker takes up to {self.most_bytes}: {self.remedy}"
            )
        if self.is_fetched:
            check_input_location(item.source, name="the location")
        if item.custom_attributes is not None:
            _check_attributes(item.custom_attributes, f"the input {item.source}")
        return item


ASYNC_LIMITS = InputLimits(
    most_bytes=2**30,
    remedy="split it, or let the model read it from S3 itself and send its location",
    is_fetched=True,
)
"""AWS documents "up to 1 GB" for asynchronous inference. The larger reading is taken: SageMaker refuses the rest."""

MULTI_MODEL_LIMITS = InputLimits()
"""None: a multi-model batch reads inputs itself and sends their records."""


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """An input of a manifest, its position for messages (``line 3``), and the ignored keys, such as labels."""

    position: str
    input: BatchInput
    passed_over: Sequence[str] = ()


def entry_of_line(line: str, *, number: int, target_models: bool = False) -> ManifestEntry | None:
    """Read one line of a manifest; None for an empty one.

    :param number: of the line, from 1
    :param target_models: whether ``target-model`` is permitted
    :raises InvalidRequest: the line is not valid; the message never shows custom attributes
    """
    text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
    if not text:
        return None
    where = f"line {number} of the manifest"
    if len(text) > LONGEST_LINE:
        raise InvalidRequest(
            f"{where} is longer than {LONGEST_LINE} characters: is it one JSON object a line?"
        )
    line_fields, passed_over = _recognised(_pairs(text, where), where, target_models=target_models)
    for name, value in line_fields.items():
        if not isinstance(value, str) or not value:
            kind = "empty" if value == "" else _json_type(value)
            raise InvalidRequest(f"{where}: {name} must be a text, not {kind}; leave out what is not needed")
    if _SOURCE not in line_fields:
        raise _without_source(where, passed_over)
    return ManifestEntry(
        position=f"line {number}", input=_checked(line_fields, where), passed_over=passed_over
    )


def _pairs(text: str, where: str) -> Sequence[tuple[str, object]]:
    """Read an object as pairs of key and value, so that a repeated key can be refused."""
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        # Not chained: a JSONDecodeError keeps the whole line, custom attributes and all.
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        hint = _CONTINUED if text == "{" else ""
        raise InvalidRequest(
            f"{where} is not JSON ({reason}); a manifest has one JSON object a line, such as {_EXAMPLE}{hint}"
        ) from None
    if not isinstance(pairs, tuple):
        raise InvalidRequest(
            f"{where} is a JSON {_json_type(pairs)}, not an object; a manifest has one JSON object a line, "
            f"such as {_EXAMPLE}"
        )
    return pairs


def _json_type(value: object) -> str:
    return "dict" if isinstance(value, tuple) else type(value).__name__


def _recognised(
    pairs: Sequence[tuple[str, object]], where: str, *, target_models: bool
) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """Separate the recognized keys from the ignored ones; refuse repeated, misspelled and misplaced ones."""
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
    line_fields = {name: value for name, value in pairs if _meant(name)}
    counts = Counter(names)
    if twin := next((name for name in line_fields if counts[name] > 1), None):
        raise InvalidRequest(f"{where} has the key {twin!r} more than once")
    return line_fields, tuple(name for name in counts if name not in line_fields)


def _without_source(where: str, passed_over: Sequence[str]) -> InvalidRequest:
    if _INLINE in passed_over:
        return InvalidRequest(
            f"{where} has a record of its own in {_INLINE!r}: a batch sends objects in S3, so write the records to "
            f"objects, and list those as {_SOURCE!r}"
        )
    if whose := next((whose for name, whose in _FOREIGN_KEYS.items() if name in passed_over), None):
        return InvalidRequest(
            f"{where} has no {_SOURCE}: this looks like {whose} own kind of manifest; write a line such as {_EXAMPLE} "
            f"for each of its objects"
        )
    return InvalidRequest(
        f"{where} has no {_SOURCE}: it says which object in S3 is the input, as in {_EXAMPLE}"
    )


@functools.lru_cache(maxsize=256)
def _meant(name: str) -> str | None:
    """Match a name with a manifest's key, ignoring case, separators and one differing character; None for no match."""
    short = _letters(name)
    if len(short) > len(_letters(_CUSTOM_ATTRIBUTES)) + 1:
        return None
    keys = (_SOURCE, _CONTENT_TYPE, _CUSTOM_ATTRIBUTES, TARGET_MODEL)
    return next((key for key in keys if not _shortened(short).isdisjoint(_shortened(_letters(key)))), None)


def _letters(name: str) -> str:
    return re.sub(r"[-_. ]", "", name[:80]).lower()


def _shortened(text: str) -> set[str]:
    """Return the text, and the text without each of its characters: texts that are one edit apart share a member."""
    return {text, *(text[:cut] + text[cut + 1 :] for cut in range(len(text)))}


def _checked(line_fields: Mapping[str, Any], where: str) -> BatchInput:
    try:
        S3Uri.parse_object(line_fields[_SOURCE], name=_SOURCE)
    except InvalidS3Uri as error:
        raise InvalidS3Uri(f"{where}: {error}") from None
    for name in (_CONTENT_TYPE, TARGET_MODEL):
        check_header(line_fields.get(name), f"{where}: {name}")
    if _CUSTOM_ATTRIBUTES in line_fields:
        _check_attributes(line_fields[_CUSTOM_ATTRIBUTES], where)
    return BatchInput(**{name: line_fields[key] for name, key in _STORED.items() if key in line_fields})


def _check_attributes(value: str, where: str) -> None:
    try:
        validate(value)
    except InvalidCustomAttributes as error:
        raise InvalidCustomAttributes(f"{where}: {error}") from None


SHARD = 1_000
"""Inputs that share an output path extension: as many as one page of ListObjectsV2 lists."""

CHUNK = 250
"""Inputs of a multi-model shard in one object: about 60 KB, so that the chunks of many models fit into memory."""

S3_PREFIX, MANIFEST_FILE = "S3Prefix", "ManifestFile"
"""Batch Transform's names of the types of inputs."""


@dataclass(frozen=True, kw_only=True)
class InputSource:
    """The source of a batch's inputs: a prefix or a manifest.

    :param location: ``s3://bucket/prefix`` for the objects below it, in the order of their keys, except for hidden ones
        (:mod:`airflow_sm_plugin.core.input_selection`); or ``s3://bucket/key`` of a manifest
    :param inputs_type: ``S3Prefix`` or ``ManifestFile``
    :param include: patterns of relative keys below a prefix; empty for all
    :param exclude: patterns of relative keys below a prefix
    :param custom_attributes: template over :func:`~airflow_sm_plugin.batches.templates.fields_of` the key, ``run`` and
        ``{number}``, the number of the input in the plan, from 0; a manifest's own attributes of an input go first
    :param run: further fields, e.g. ``dag_id``; they override Hive partitions of the same name
    :param check_inputs: whether each object of a manifest is checked for existence, size and ETag by a HeadObject
    :param target_models: whether a manifest may contain ``target-model``
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
        """Return the source itself; raise InvalidRequest for a malformed one, or a manifest with patterns."""
        if choice(self.inputs_type, "inputs_type", (S3_PREFIX, MANIFEST_FILE)) == MANIFEST_FILE:
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
        prefix = S3Uri.parse(self.location, name="inputs").key
        return InputSelection(prefix, include=self.include, exclude=self.exclude)

    def no_inputs(self, selection: InputSelection, effect: str, *, remedy: str = "") -> InvalidRequest:
        """Make the error of a listing without any input; *effect* is a clause such as ``nothing was sent``."""
        if self.inputs_type == MANIFEST_FILE:
            return InvalidRequest(f"the manifest {self.location} lists no inputs: {effect}{remedy}")
        return InvalidRequest(
            f"there are no inputs below {self.location}: {effect}{selection.why_nothing()}; check the prefix, or wait "
            f"for the data before this task{remedy}"
        )
