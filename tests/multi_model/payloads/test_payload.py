"""The options for splitting an input, and the repr of a payload. The splitting is tested with the splitter."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions, records_of, split_in_two

REFUSED = [
    ({"split_type": "TFRecord"}, "split_type='TFRecord' is none of 'None', 'Line'"),
    ({"split_type": None}, "split_type=None is none of"),
    ({"batch_strategy": "Multi"}, "batch_strategy='Multi' is none of 'SingleRecord', 'MultiRecord'"),
    ({"max_payload_bytes": 0}, "up to 0 bytes .* 1 to 26214400 bytes; set max_payload_in_mb to 25 or less"),
    ({"max_payload_bytes": 26_214_401}, "up to 26214401 bytes is not possible"),
    ({"split_type": "None", "batch_strategy": "MultiRecord"}, "makes no lines: use split_type='Line'"),
    ({"split_type": "None", "skip_header": True}, "skip_header=True drops a line"),
    ({"batch_strategy": "MultiRecord", "max_records": 0}, "max_records=0 leaves nothing to send"),
    ({"max_records": 5}, "max_records=5 goes with batch_strategy='MultiRecord'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_invalid_options_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        SplitOptions(**arguments).checked()  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.parametrize(
    "options",
    [
        SplitOptions(),
        SplitOptions(split_type="None", max_payload_bytes=26_214_400),
        SplitOptions(batch_strategy="MultiRecord", max_payload_bytes=1, skip_header=True, max_records=1),
    ],
)
def test_valid_options_are_returned_unchanged(options: SplitOptions) -> None:
    assert options.checked() is options


def test_no_repr_shows_the_body() -> None:
    assert "secret" not in repr(Payload(b"secret", 0, 7, 0, 1))


def test_a_single_record_cannot_be_split_in_two() -> None:
    with pytest.raises(ValueError, match="1 record cannot be split"):
        split_in_two(Payload(b"a", 0, 2, 0, 1))


def test_the_first_half_is_never_the_larger() -> None:
    first, second = split_in_two(Payload(b"a\nb\r\nc", 10, 17, 4, 3))
    assert first == Payload(b"a", 10, 12, 4, 1)
    assert second == Payload(b"b\r\nc", 12, 17, 5, 2)
    assert records_of(second) == [b"b", b"c"]
