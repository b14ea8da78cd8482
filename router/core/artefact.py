"""The file of a fitted classifier: arrays and a description, checked when they are read, without pickle.

A zip of numpy arrays (``.npz``), at most ``MAX_FILE_BYTES``: the arrays of ``core.learned.Heads``, and ``meta``, JSON. Its
``version`` is a hash of the content, not of the file: what is equal has one version, however it was packed.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import xxhash
from numpy.typing import NDArray

from router.contract.errors import PointsmanError
from router.core.features import BITS, SURFACE
from router.core.learned import Heads
from router.core.slicing import KIND
from router.core.usual import Usual

FORMAT = 1
#: It also travels to the routers as one Kafka record.
MAX_FILE_BYTES = 4 * 1024 * 1024
#: Of what is in it, unpacked: a small file must not fill the memory.
MAX_UNPACKED_BYTES = 64 * 1024 * 1024

_ARRAYS: Mapping[str, type[np.generic]] = {
    "weights": np.int8,
    "scales": np.float32,
    "surface": np.float32,
    "bias": np.float32,
    "mean": np.float32,
    "deviation": np.float32,
}


class ArtefactError(PointsmanError):
    """The file is no classifier, or one of another format."""

    code = "bad_classifier"


@dataclass(frozen=True, slots=True)
class Artefact:
    """Heads, and what else was learned of the rows.

    ``gain_edges``: by strong and cheap model, ascending bounds of ``p_ok(strong) - p_ok(cheap)`` between bands of difficulty,
    quantiles of the rows. ``card``: what it was fitted on and how well it did, for people. ``usual``: by class, what requests are held against
    later; empty in a file of before, and where no models were learned.
    """

    heads: Heads
    gain_edges: Mapping[tuple[str, str], tuple[float, ...]]
    card: Mapping[str, Any]
    usual: Mapping[str, Usual] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """16 hex digits."""
        return xxhash.xxh3_64_hexdigest(b"".join(part for _, part in sorted(self._parts().items())))

    def to_bytes(self) -> bytes:
        """The file. ``ArtefactError`` when it would be too large: fewer classes or models."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, part in self._parts().items():
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part, zipfile.ZIP_DEFLATED)
        if packed.tell() > MAX_FILE_BYTES:
            heads = len(self.heads.models) + len(self.heads.classes)
            raise ArtefactError(f"{packed.tell():,} bytes with {heads} models and classes, {MAX_FILE_BYTES:,} at most")
        return packed.getvalue()

    @classmethod
    def from_bytes(cls, file: bytes) -> Artefact:
        """The inverse of ``to_bytes``. ``ArtefactError`` says what is wrong."""
        arrays = _arrays(file)
        try:
            meta = orjson.loads(arrays.pop("meta").tobytes())
            if meta["format"] != FORMAT:
                raise ArtefactError(f"format {meta['format']}; this version reads {FORMAT}")
            heads = Heads(models=tuple(meta["models"]), classes=tuple(meta["classes"]), **arrays)
            edges = {(strong, cheap): tuple(map(float, bounds)) for strong, cheap, bounds in meta["gain_edges"]}
            usual = {str(name): Usual.load(one) for name, one in meta.get("usual", {}).items()}
            found = cls(heads, edges, dict(meta["card"]), usual)
        except (orjson.JSONDecodeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(f"its description does not fit: {error!r}") from None
        _check(heads)
        return found

    def _parts(self) -> dict[str, bytes]:
        meta = {
            "format": FORMAT,
            "models": self.heads.models,
            "classes": self.heads.classes,
            "gain_edges": [[*pair, bounds] for pair, bounds in sorted(self.gain_edges.items())],
            "card": self.card,
        }
        if self.usual:  # a file without it keeps its version
            meta["usual"] = {name: one.dump() for name, one in self.usual.items()}
        arrays = {name: getattr(self.heads, name) for name in _ARRAYS}
        arrays["meta"] = np.frombuffer(orjson.dumps(meta, option=orjson.OPT_SORT_KEYS), np.uint8)
        return {name: _npy(array) for name, array in arrays.items()}


def _npy(array: NDArray[Any]) -> bytes:
    packed = io.BytesIO()
    np.lib.format.write_array(packed, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return packed.getvalue()


_PACKED = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})

#: What damaged or hostile entries lead to: numpy reads an array's header as Python, and makes room for the shape that it names. RuntimeError: encrypted.
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OverflowError,
    ValueError,
    EOFError,
    RuntimeError,
    OSError,
)


def _arrays(file: bytes) -> dict[str, NDArray[Any]]:
    if len(file) > MAX_FILE_BYTES:
        raise ArtefactError(f"{len(file):,} bytes, {MAX_FILE_BYTES:,} at most")
    wanted = {*_ARRAYS, "meta"}
    try:
        with zipfile.ZipFile(io.BytesIO(file)) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            if entries.keys() != wanted:
                raise ArtefactError(f"holds {sorted(entries)}, not {sorted(wanted)}")
            if any(entry.compress_type not in _PACKED for entry in entries.values()):
                raise ArtefactError("no classifier: an entry is packed by another method than deflate")
            if sum(entry.file_size for entry in entries.values()) > MAX_UNPACKED_BYTES:
                raise ArtefactError(f"unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
            return {name: _array(archive.read(entry)) for name, entry in entries.items()}
    except _UNREADABLE as error:
        raise ArtefactError(f"no classifier: {str(error)[:200] or type(error).__name__}") from None


def _array(part: bytes) -> NDArray[Any]:
    found: NDArray[Any] = np.lib.format.read_array(io.BytesIO(part), allow_pickle=False)
    return found


def _check(heads: Heads) -> None:
    count = len(heads.models) + len(heads.classes)
    shapes = {
        "weights": (2**BITS, count),
        "scales": (count,),
        "surface": (count, len(SURFACE)),
        "bias": (count,),
        "mean": (len(SURFACE),),
        "deviation": (len(SURFACE),),
    }
    for name, shape in shapes.items():
        array = getattr(heads, name)
        if array.shape != shape or array.dtype != _ARRAYS[name]:
            raise ArtefactError(f"{name}: {array.dtype} {array.shape}, not {np.dtype(_ARRAYS[name])} {shape}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ArtefactError(f"{name}: holds what is no number")
    if heads.deviation.min() <= 0.0:
        raise ArtefactError("deviation: not above 0")
    if not count or len(set(heads.models)) + len(set(heads.classes)) != count:
        raise ArtefactError("models and classes: none at all, or one of them twice")
    if KIND in heads.classes:
        raise ArtefactError(f"classes: none may be called {KIND!r}, as alerts and orders call slices of traffic")
