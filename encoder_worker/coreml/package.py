"""Reading a saved ``.mlpackage`` without the Core ML framework: its program, and its weights as numpy arrays.

Layout: ``Manifest.json`` names the root model below ``Data/``, a serialised ``Model`` message; next to it lies the
folder ``weights`` with ``weight.bin``. There a 64-byte record in front of each array describes it. Source:
``mlmodel/format/MIL.proto`` and ``mlmodel/src/MILBlob/Blob`` of https://github.com/apple/coremltools.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from dotsctl.encoder_worker.coreml.library import import_coremltools
from dotsctl.protocol.errors import MissingError
from dotsctl.protocol.model.files import read_file
from numpy.typing import NDArray

BLOB_SENTINEL = 0xDEADBEEF
BLOB_TYPES = {1: ("<f2", 0), 2: ("<f4", 0), 4: ("i1", 0), 8: ("u1", 4), 13: ("u1", 6), 14: ("<i4", 0)}
"""numpy type and, where elements are packed, their bits: float16, float32, int8, int4, uint6, int32."""
SIGNED_PACKED = (8,)
DTYPES: dict[int, np.dtype[Any]] = {
    10: np.dtype(np.float16),
    11: np.dtype(np.float32),
    21: np.dtype(np.int8),
    23: np.dtype(np.int32),
}
"""Data types of the program; the others are only held in files, packed."""
IMMEDIATE: dict[str, Any] = {"floats": np.float32, "ints": np.int32, "bools": np.bool_, "strings": object}


class Package:
    """One package, mapped into memory."""

    def __init__(self, path: Path) -> None:
        """Read the program; raises MissingError for a package that is incomplete or damaged."""
        self.path = path
        self._files: dict[str, NDArray[np.uint8]] = {}
        model_pb2 = import_coremltools("coremltools.proto.Model_pb2")
        try:
            manifest = json.loads(read_file(path / "Manifest.json"))
            entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
            self._model_file = path / "Data" / entry["path"]
            self.model = model_pb2.Model.FromString(read_file(self._model_file))
        except Exception as error:  # protobuf's own class for damage is found in no public module
            raise MissingError(f"{path} is not a valid Core ML package ({error})", "convert the model again") from None
        if self.model.WhichOneof("Type") != "mlProgram":
            raise MissingError(f"{path} holds no ML program", "convert the model again")

    @property
    def function_names(self) -> list[str]:
        """Names of the functions in it."""
        return sorted(self.model.mlProgram.functions)

    def function(self, name: str) -> tuple[Any, Any]:
        """The message of a function, and that of its block of operations. Raises MissingError for an unknown name."""
        functions = self.model.mlProgram.functions
        if name not in functions:
            raise MissingError(f"{self.path} has no function {name!r}; it has: {', '.join(self.function_names)}")
        function = functions[name]
        return function, function.block_specializations[function.opset]

    def value(self, message: Any) -> Any:
        """A constant: an array as it is stored, or a Python string, number or truth value for a scalar."""
        shape = tuple(d.constant.size for d in message.type.tensorType.dimensions)
        if message.WhichOneof("value") == "blobFileValue":
            blob = message.blobFileValue
            return self._blob(blob.fileName, blob.offset).reshape(shape)
        tensor = message.immediateValue.tensor
        kind = tensor.WhichOneof("value")
        if kind == "bytes":  # float16 has no list of its own
            dtype = DTYPES.get(message.type.tensorType.dataType)
            values = None if dtype is None else np.frombuffer(tensor.bytes.values, dtype)
        else:
            values = np.array(list(getattr(tensor, kind).values), IMMEDIATE[kind]) if kind in IMMEDIATE else None
        if values is None:
            raise MissingError(f"{self.path} has a constant of a kind that dotsctl never writes ({kind})")
        return values.reshape(shape) if shape else values.reshape(-1)[0]

    def _blob(self, name: str, offset: int) -> NDArray[Any]:
        """The array, flat, whose record stands at ``offset`` of a weight file."""
        raw = self._file(name)
        damaged = MissingError(
            f"{self.path}: the record at byte {offset} of {name} is damaged", "convert the model again"
        )
        if offset + 64 > len(raw):
            raise damaged
        sentinel, kind = raw[offset : offset + 8].view("<u4").tolist()
        size, start, unused_bits = raw[offset + 8 : offset + 32].view("<u8").tolist()
        if sentinel != BLOB_SENTINEL or start + size > len(raw) or kind not in BLOB_TYPES:
            raise damaged
        stored = raw[start : start + size]
        dtype, bits = BLOB_TYPES[kind]
        if not bits:
            return stored.view(dtype)
        return unpack(stored, bits, (8 * size - unused_bits) // bits, signed=kind in SIGNED_PACKED)

    def _file(self, name: str) -> NDArray[np.uint8]:
        if name not in self._files:
            path = self._model_file.parent / name.removeprefix("@model_path/")
            try:
                self._files[name] = np.memmap(path, np.uint8, "r")
            except (OSError, ValueError) as error:
                raise MissingError(f"{path} cannot be read ({error})", "convert the model again") from None
        return self._files[name]


def unpack(packed: NDArray[np.uint8], bits: int, count: int, *, signed: bool) -> NDArray[Any]:
    """Small integers, one in a byte each, from a stream in which the lowest bits come first."""
    if bits == 4:
        levels = np.stack([packed & 0x0F, packed >> 4], axis=1).reshape(-1)[:count]
    else:
        single = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
        levels = np.packbits(single, axis=1, bitorder="little")[:, 0]  # (count,)
    return ((levels.astype(np.int8) ^ (1 << (bits - 1))) - (1 << (bits - 1))) if signed else levels
