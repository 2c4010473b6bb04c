"""Read JSON that a damaged disk or another program may have changed, and give mkfa's own JSON a checksum."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mkfa.errors import one_line

CRC = "crc32"
"""Key of the checksum in records that mkfa writes. Records without it are read unchecked."""


class JsonError(ValueError):
    """Text that is not the JSON that was expected; the message says why, as in "is damaged (...)"."""


def parse_json(data: bytes | str, *, nan: bool = False) -> Any:
    """Return the value of a JSON text.

    A byte order mark is skipped. NaN and infinity, which JSON does not have, are accepted only with `nan`.

    Raises JsonError: the text is not UTF-8 or not JSON, is nested too deeply, has a key twice in one object, or has
    NaN, infinity or an integer of thousands of digits.

    Examples
    --------
    >>> parse_json(b'{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse_json('{"a": 1, "a": 2}')
    Traceback (most recent call last):
    mkfa.storage.json_text.JsonError: the key 'a' occurs twice
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=float if nan else _refuse_constant)
    except JsonError:
        raise
    except UnicodeDecodeError as error:
        raise JsonError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise JsonError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise JsonError(one_line(str(error))[:100]) from None
    except ValueError:  # Python's limit for the digits of an integer
        raise JsonError("it has an integer of thousands of digits") from None


def with_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of plain values with the CRC-32 of its content under the key `CRC`.

    Examples
    --------
    >>> with_checksum({"epoch": 1})
    {'epoch': 1, 'crc32': 'd67a9279'}
    >>> without_checksum({"epoch": 2, "crc32": "d67a9279"})
    Traceback (most recent call last):
    mkfa.storage.json_text.JsonError: its content differs from what was written
    """
    return {**record, CRC: _checksum(record)}


def without_checksum(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record that was read, without its checksum; raises JsonError if that differs from its content."""
    content = {key: value for key, value in record.items() if key != CRC}
    if CRC in record and record[CRC] != _checksum(content):
        raise JsonError("its content differs from what was written")
    return content


def parse_record(data: bytes | str, *, nan: bool = False) -> Any:
    """Return the value of a JSON text as `parse_json`, a record without its checksum; raises JsonError as both.

    Examples
    --------
    >>> parse_record('{"epoch": 1, "crc32": "d67a9279"}')
    {'epoch': 1}
    """
    value = parse_json(data, nan=nan)
    return without_checksum(value) if isinstance(value, dict) else value


def _checksum(record: Mapping[str, Any]) -> str:
    content = json.loads(json.dumps(record))  # as it will be read: text keys, lists
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise JsonError(f"the key {twice[:60]!r} occurs twice")
    return value


def _refuse_constant(name: str) -> Any:
    raise JsonError(f"it has {name}, which is not a number in JSON")
