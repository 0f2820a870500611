#!/usr/bin/env python3
"""Reads a PyTorch checkpoint as torch.load(..., weights_only=True) would, with Python's own unpickler and no torch.

Only the names that weights_only accepts resolve; anything else is an error. Prints JSON: {name: {dtype, shape, values}},
and with --no-values the same without values. Exit code 1 with the reason when something is not as PyTorch wants it.
"""
import collections
import io
import json
import pickle
import pickletools
import struct
import sys
import zipfile

TYPES = {"FloatStorage": ("f", 4), "HalfStorage": ("e", 2), "DoubleStorage": ("d", 8), "LongStorage": ("q", 8),
         "IntStorage": ("i", 4), "ByteStorage": ("B", 1)}


class Storage:
    def __init__(self, kind, key, count, archive, folder):
        code, size = TYPES[kind]
        raw = archive.read(f"{folder}/data/{key}")
        assert len(raw) == count * size, f"storage {key}: {len(raw)} bytes for {count} elements of {size}"
        self.kind, self.values = kind, struct.unpack(f"<{count}{code}", raw)


def rebuild(storage, offset, shape, stride, requires_grad, hooks):
    assert requires_grad is False and isinstance(hooks, collections.OrderedDict) and not hooks
    places = [offset]
    for n, step in zip(shape, stride):
        places = [p + i * step for p in places for i in range(n)]
    return {"dtype": storage.kind, "shape": list(shape), "values": [storage.values[p] for p in places]}


class Restricted(pickle.Unpickler):
    def __init__(self, file, archive, folder):
        super().__init__(file)
        self.archive, self.folder = archive, folder

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild
        if module == "torch" and name in TYPES:
            return name
        raise pickle.UnpicklingError(f"weights_only refuses {module}.{name}")

    def persistent_load(self, saved):
        word, kind, key, place, count = saved
        assert word == "storage" and place == "cpu"
        return Storage(kind, key, count, self.archive, self.folder)


def main():
    path = sys.argv[1]
    archive = zipfile.ZipFile(path)
    assert archive.testzip() is None, "a checksum is wrong"
    folder = archive.namelist()[0].split("/")[0]
    assert archive.namelist()[0] == f"{folder}/data.pkl"
    assert int(archive.read(f"{folder}/version")) == 3
    raw = open(path, "rb").read()
    for info in archive.infolist():
        assert info.compress_type == zipfile.ZIP_STORED
        name, extra = struct.unpack("<HH", raw[info.header_offset + 26:info.header_offset + 30])
        assert (info.header_offset + 30 + name + extra) % 64 == 0, f"{info.filename} is not aligned"
    data = archive.read(f"{folder}/data.pkl")
    assert max(op.proto for op, _, _ in pickletools.genops(data)) == 2
    state = Restricted(io.BytesIO(data), archive, folder).load()
    assert type(state) in (collections.OrderedDict, dict)
    if "--no-values" in sys.argv:
        for tensor in state.values():
            tensor.pop("values")
    print(json.dumps({"kind": type(state).__name__, "order": list(state), "tensors": state}))


if __name__ == "__main__":
    main()
