"""A stand-in for the parts of flwr 1.43 that server_app.py uses, with the names and signatures of its documentation.
It proves that our file calls what it means to call, not that Flower answers as we think."""
import hashlib
import sys
import types
from collections import OrderedDict

import numpy as np


class Array:
    def __init__(self, ndarray):
        assert isinstance(ndarray, np.ndarray)
        self._data = ndarray.copy()

    def numpy(self):
        return self._data


class ArrayRecord(OrderedDict):
    def __init__(self, array_dict):
        assert isinstance(array_dict, OrderedDict) and all(isinstance(a, Array) for a in array_dict.values())
        super().__init__(array_dict)

    @property
    def object_id(self):
        digest = hashlib.sha256()
        for name, array in self.items():
            digest.update(name.encode() + array.numpy().tobytes())
        return digest.hexdigest()


class ConfigRecord(dict):
    def __init__(self, values):
        for key, value in values.items():
            values_of = value if isinstance(value, list) and value else [value]
            assert all(isinstance(v, (bool, int, float, str, bytes)) for v in values_of), key
        super().__init__(values)


class MetricRecord(dict):
    pass


class RecordDict(dict):
    def _of(self, kind):
        return {key: value for key, value in self.items() if isinstance(value, kind)}

    array_records = property(lambda self: self._of(ArrayRecord))
    metric_records = property(lambda self: self._of(MetricRecord))
    config_records = property(lambda self: self._of(ConfigRecord))


class Message:
    def __init__(self, content=None, dst_node_id=None, message_type=None, *, ttl=None, group_id=None, error=None,
                 reply_to=None):
        self.content, self.error = content, error
        self.metadata = types.SimpleNamespace(dst_node_id=dst_node_id, message_type=message_type, ttl=ttl,
                                              group_id=group_id, message_id="", reply_to_message_id=reply_to or "")

    def has_error(self):
        return self.error is not None


class _App:
    def __init__(self):
        self.functions = {}

    def _named(self, name):
        def register(function):
            self.functions[name] = function
            return function
        return lambda: register

    main = property(lambda self: self._named("main"))
    train = property(lambda self: self._named("train"))


def install():
    flwr, app, serverapp, clientapp = (types.ModuleType(n) for n in ("flwr", "flwr.app", "flwr.serverapp",
                                                                     "flwr.clientapp"))
    for kind in (Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict, Message):
        setattr(app, kind.__name__, kind)
    app.Context = types.SimpleNamespace
    serverapp.Grid, serverapp.ServerApp, clientapp.ClientApp = object, _App, _App
    for module in (flwr, app, serverapp, clientapp):
        sys.modules[module.__name__] = module
