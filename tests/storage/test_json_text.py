"""JSON that is odd in any way is refused with a reason; a record that was changed is noticed."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkfa.storage.json_text import CRC, JsonError, parse_json, with_checksum, without_checksum

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda key: key != CRC), VALUES))
def test_a_record_comes_back_as_it_was_written(record):
    for text in (json.dumps(with_checksum(record)), json.dumps(with_checksum(record), indent=1, sort_keys=True)):
        assert without_checksum(parse_json(text)) == record


def test_a_changed_record_is_noticed_and_one_without_checksum_is_read():
    record = with_checksum({"a": 0.1, "b": ["x", 2]})
    for changed in ({"a": 0.2}, {"b": ["x", 3]}, {"c": 1}, {CRC: "0"}, {CRC: None}):
        with pytest.raises(JsonError, match="its content differs from what was written"):
            without_checksum(record | changed)
    assert without_checksum({"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"9" * 5000, "an integer of thousands of digits"),
        (b"[NaN]", "it has NaN"),
        (b'{"a": -Infinity}', "it has -Infinity"),
        (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' occurs twice"),
        (b'{"caf\xe9": 1}', "byte 5 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "byte 0 is not UTF-8"),
        (b"", "Expecting value"),
        (b"\0", "Expecting value"),
        (b'{"a": 1}\0', "Extra data"),
    ],
)
def test_odd_text_is_refused_with_a_reason(data, reason):
    with pytest.raises(JsonError, match=reason) as caught:
        parse_json(data)
    assert len(str(caught.value)) < 120 and "\n" not in str(caught.value)


def test_a_byte_order_mark_is_skipped_and_nan_is_read_on_request():
    assert parse_json(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert parse_json("\ufeff[1]") == [1]
    assert math.isnan(parse_json("NaN", nan=True))
