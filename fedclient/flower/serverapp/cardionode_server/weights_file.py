"""safetensors files as numpy arrays: u64 little-endian header length, JSON header, raw little-endian data.

A file is read tensor by tensor (memory-mapped) and written durably: beside the target, synced, then renamed. What is
not a plain, complete file of known dtypes is refused (ValueError) with its name.
"""
from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
NAMES = {np.dtype(code): name for name, code in DTYPES.items()}
LARGEST_HEADER = 100_000_000


class WeightsFile(Mapping):
    """Tensor name -> array, read when asked for."""

    def __init__(self, file: Path):
        self.file = Path(file)
        size = self.file.stat().st_size
        with open(self.file, "rb") as data:
            length = int.from_bytes(data.read(8), "little")
            if size < 8 or length > min(size - 8, LARGEST_HEADER):
                raise ValueError(f"{file}: not a safetensors file")
            try:
                header = json.loads(data.read(length))
            except ValueError as error:
                raise ValueError(f"{file}: damaged header") from error
        if not isinstance(header, dict):
            raise ValueError(f"{file}: damaged header")
        header.pop("__metadata__", None)
        self._entries = {}
        for name, entry in header.items():
            try:
                dtype, shape, (begin, end) = np.dtype(DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
                count = int(np.prod(shape, dtype=np.int64))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{file}: tensor {name}: unknown dtype or damaged entry") from error
            if count < 0 or begin < 0 or end - begin != count * dtype.itemsize or 8 + length + end > size:
                raise ValueError(f"{file}: tensor {name}: lies outside of the file or has a wrong size")
            self._entries[name] = (dtype, tuple(shape), count, 8 + length + begin)

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, count, offset = self._entries[name]
        return np.fromfile(self.file, dtype, count, offset=offset).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def replace_durably(file: Path, write) -> None:
    """Calls write(stream) on a new file and puts it in place; a crash leaves the old file or the new one."""
    part = file.with_name(file.name + ".part")
    with open(part, "wb") as stream:
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_weights(file: Path, weights: Mapping[str, np.ndarray]) -> None:
    header, offset = {}, 0
    for name in sorted(weights):
        array = np.asarray(weights[name])
        dtype = array.dtype.newbyteorder("<")
        if dtype not in NAMES:
            raise ValueError(f"tensor {name}: {array.dtype} cannot be written")
        place = [offset, offset + array.nbytes]
        header[name] = {"dtype": NAMES[dtype], "shape": list(array.shape), "data_offsets": place}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(stream):
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in sorted(weights):
            array = np.asarray(weights[name])
            stream.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())

    replace_durably(Path(file), write)
