"""Requests and answers as bytes: JSON for all but arrays, and these as `.npy` without pickle, one for each dtype.

Not as the archive of `np.savez`, which holds the same: packing, its checksums and unpacking took half of a crossing.

What crosses to another process is plain data of types that are named here. Nothing is imported because a message says
so, but for the optimizations of a variant, which the other side has to find where this side found them.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from pytest_llmopt.core import answers, engine, inspection, loading, logprobs, probing, requests, sampling, tokens
from pytest_llmopt.core.errors import LlmoptError
from pytest_llmopt.core.variant import Variant

HEAD = struct.Struct(">QQ")
"""Before each message: the bytes of its JSON, and of its arrays."""
LARGEST = 2**36
"""Bytes beyond which a message is none: what was read is not ours."""
WORTH_NARROWING = 1024
"""Numbers of an array, from which on it is worth looking whether they need all their bytes."""
NPY: Any = np.lib.format
LONGEST_HEAD = 1024
"""Bytes of the head of an array, at most."""
TYPES: Mapping[str, type] = {
    kind.__name__: kind
    for module in (answers, engine, inspection, loading, logprobs, probing, requests, sampling, tokens)
    for kind in vars(module).values()
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__
}
"""The dataclasses that cross, by name."""


class WireError(LlmoptError):
    """What cannot cross, or did not come across as it was sent."""


def pack(value: object) -> bytes:
    """A value as a message.

    Raises:
        WireError: something in it is no plain data; names its type.
    """
    return b"".join(pieces(value))


def pieces(value: object) -> list[bytes | memoryview]:
    """A message as what follows each other in it: an answer may have many megabytes, and joining them is a copy.

    Raises:
        WireError: something in it is no plain data; names its type.
    """
    writer = _Writer()
    content = json.dumps(writer.node(value), separators=(",", ":")).encode()
    arrays = writer.arrays()
    return [HEAD.pack(len(content), sum(map(len, arrays))) + content, *arrays]


def sizes(head: bytes | memoryview) -> tuple[int, int]:
    """How many bytes of JSON and of arrays follow.

    Raises:
        WireError: this is no beginning of a message.
    """
    content, arrays = HEAD.unpack(head)
    if content > LARGEST or arrays > LARGEST:
        msg = f"{bytes(head)!r} is no beginning of a message"
        raise WireError(msg)
    return content, arrays


def unpack(content: bytes | memoryview, arrays: bytes | memoryview) -> Any:
    """The value of a message; lists come back as tuples.

    Raises:
        WireError: it is no message, or of a type that is not known here.
    """
    try:
        return _Reader(_arrays_in(arrays)).value(json.loads(bytes(content)))
    except LlmoptError:
        raise
    except Exception as error:
        msg = f"a message cannot be read: {type(error).__name__}: {error}"
        raise WireError(msg) from error


@dataclass
class _Writer:
    """Arrays of one dtype are laid end to end, so that an answer of many small ones is a few members of a file."""

    parts: dict[str, list[np.ndarray[Any, Any]]] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    def node(self, value: object) -> Any:  # noqa: C901, PLR0911 - one line for each kind of value
        if isinstance(value, Enum):
            msg = f"{value!r} cannot cross to another process: send its value"
            raise WireError(msg)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value if not isinstance(value, np.generic) else value.item()
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return {"array": self._array(value)}
        if isinstance(value, (tuple, list)):
            return [self.node(item) for item in value]
        if isinstance(value, (set, frozenset)):
            return {"set": [self.node(item) for item in sorted(value, key=repr)]}
        if isinstance(value, Mapping):
            return {"map": [[self.node(key), self.node(item)] for key, item in value.items()]}
        if isinstance(value, Path):
            return {"path": str(value)}
        if isinstance(value, Variant):
            return {"variant": value.to_json()}
        name = type(value).__name__
        if TYPES.get(name) is type(value):
            fields = dataclasses.fields(value)  # type: ignore[arg-type]
            return {"type": name, "fields": {item.name: self.node(getattr(value, item.name)) for item in fields}}
        msg = f"{type(value).__module__}.{name} is no plain data and cannot cross to another process"
        raise WireError(msg)

    def _array(self, value: np.ndarray[Any, Any]) -> list[Any]:
        if value.dtype.hasobject:
            msg = "an array of objects cannot cross to another process"
            raise WireError(msg)
        own = value.dtype.str
        flat = _narrowed(value.ravel())
        key = flat.dtype.str
        place = self.lengths.get(key, 0)
        self.parts.setdefault(key, []).append(flat)
        self.lengths[key] = place + value.size
        return [key, list(value.shape), place] + ([own] if own != key else [])

    def arrays(self) -> list[bytes | memoryview]:
        found: list[bytes | memoryview] = []
        for key, parts in self.parts.items():
            head, whole = io.BytesIO(), np.concatenate(parts)
            described = {"descr": key, "fortran_order": False, "shape": whole.shape}
            NPY.write_array_header_1_0(head, described)
            found += [head.getvalue(), whole.view(np.uint8).data]
        return found


def _arrays_in(given: bytes | memoryview) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a message by their dtypes, where they lie: nothing is copied.

    Raises:
        ValueError: it is no `.npy`, or holds objects.
    """
    found, place = {}, 0
    while place < len(given):
        head = io.BytesIO(given[place : place + LONGEST_HEAD])
        NPY.read_magic(head)
        (size,), _, dtype = NPY.read_array_header_1_0(head)
        if dtype.hasobject:
            msg = "an array of objects"
            raise ValueError(msg)
        place += head.tell()
        found[dtype.str] = np.frombuffer(given, dtype, size, place)
        place += found[dtype.str].nbytes
    return found


def _narrowed(flat: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same whole numbers in as few bytes as they need: token ids are half of an answer, and most fit into two."""
    if flat.dtype not in {np.dtype(np.int64), np.dtype(np.int32)} or flat.size < WORTH_NARROWING:
        return flat
    low, high = flat.min(), flat.max()
    for kind in (np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return flat.astype(kind, copy=False)
    return flat


@dataclass(frozen=True)
class _Reader:
    flat: Mapping[str, np.ndarray[Any, Any]]

    def value(self, node: Any) -> Any:  # noqa: PLR0911 - one line for each kind of value
        if isinstance(node, list):
            return tuple(self.value(item) for item in node)
        if not isinstance(node, dict):
            return node
        if "array" in node:
            key, shape, place, *own = node["array"]
            size = int(np.prod(shape, dtype=np.int64))
            found = self.flat[key][place : place + size].reshape(shape)
            return found.astype(*own) if own else found
        if "set" in node:
            return frozenset(self.value(item) for item in node["set"])
        if "map" in node:
            return {self.value(key): self.value(item) for key, item in node["map"]}
        if "path" in node:
            return Path(node["path"])
        if "variant" in node:
            return Variant.from_json(node["variant"])
        kind = TYPES.get(str(node.get("type")))
        if kind is None:
            msg = f"a message holds a {node.get('type')!r}, which is not known here: are both sides of one version?"
            raise WireError(msg)
        return kind(**{name: self.value(item) for name, item in node["fields"].items()})
