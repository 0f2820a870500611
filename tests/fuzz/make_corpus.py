#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets: small files of the right form, all invented here.

    tests/fuzz/make_corpus.py [FOLDER]    writes FOLDER/<target>/<name>; default: tests/fuzz/corpus
"""
import hashlib
import io
import json
import pathlib
import struct
import sys
import zipfile
import zlib

CT, SEG, SR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
IMPLICIT, EXPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
BIG, JPEG = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.70"
LONG_FORM = ("OB", "OW", "OF", "SQ", "UN", "UT")
UNDEFINED = 0xFFFFFFFF


# --- data sets: a list of (tag, vr, value); the value of a sequence is a list of items, each a list of elements

def header(tag, vr, length, implicit, order):
    out = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if implicit or tag >> 16 == 0xFFFE:
        return out + struct.pack(order + "I", length)
    if vr in LONG_FORM:
        return out + vr.encode() + b"\0\0" + struct.pack(order + "I", length)
    return out + vr.encode() + struct.pack(order + "H", length)


def data_set(elements, implicit=False, order="<", defined=False):
    out = b""
    for tag, vr, value in elements:
        if vr == "SQ":
            items = b""
            for item in value:
                body = data_set(item, implicit, order, defined)
                if defined:
                    items += header(0xFFFEE000, "", len(body), True, order) + body
                else:
                    items += header(0xFFFEE000, "", UNDEFINED, True, order) + body
                    items += header(0xFFFEE00D, "", 0, True, order)
            if defined:
                out += header(tag, vr, len(items), implicit, order) + items
            else:
                out += header(tag, vr, UNDEFINED, implicit, order) + items + header(0xFFFEE0DD, "", 0, True, order)
            continue
        if isinstance(value, str):
            value = value.encode()
            value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
        elif isinstance(value, int):
            value = struct.pack(order + ("I" if vr == "UL" else "H"), value)
        out += header(tag, vr, len(value), implicit, order) + value
    return out


def identity(sop_class, modality):
    return [(0x00080005, "CS", "ISO_IR 100"), (0x00080016, "UI", sop_class), (0x00080018, "UI", "1.2.3.4.5"),
            (0x00080060, "CS", modality), (0x0020000D, "UI", "1.2.3.4"), (0x0020000E, "UI", "1.2.3.4.1")]


def code(tag, value, scheme, meaning):
    return (tag, "SQ", [[(0x00080100, "SH", value), (0x00080102, "SH", scheme), (0x00080104, "LO", meaning)]])


def pixels(rows, columns, bits=16):
    return [(0x00280002, "US", 1), (0x00280004, "CS", "MONOCHROME2"), (0x00280010, "US", rows),
            (0x00280011, "US", columns), (0x00280100, "US", bits), (0x00280101, "US", bits),
            (0x00280102, "US", bits - 1), (0x00280103, "US", 1)]


PLANE = [(0x00200032, "DS", "-10\\-10\\5"), (0x00200037, "DS", "1\\0\\0\\0\\1\\0")]


def ct():
    return (identity(CT, "CT")[:1] + [(0x00080008, "CS", "ORIGINAL\\PRIMARY\\AXIAL")] + identity(CT, "CT")[1:4] +
            [(0x00180050, "DS", "1.5"), (0x00181060, "DS", "70"), (0x00181120, "DS", "0")] + identity(CT, "CT")[4:] +
            PLANE + [(0x00200052, "UI", "1.2.3.4.2")] + pixels(4, 4) +
            [(0x00280030, "DS", "0.5\\0.5"), (0x00280120, "US", 0), (0x00281052, "DS", "-1024"),
             (0x00281053, "DS", "1"), (0x7FE00010, "OW", bytes(range(32)))])


def enhanced_ct():
    frame = [(0x00200032, "DS", "0\\0\\1")]
    shared = [(0x00209116, "SQ", [[(0x00200037, "DS", "1\\0\\0\\0\\1\\0")]]),
              (0x00289110, "SQ", [[(0x00180050, "DS", "1"), (0x00280030, "DS", "1\\1")]]),
              (0x00289145, "SQ", [[(0x00281052, "DS", "0"), (0x00281053, "DS", "1")]])]
    return (identity(ENHANCED_CT, "CT") + [(0x00280008, "IS", "2")] + pixels(2, 2) +
            [(0x52009229, "SQ", [shared]), (0x52009230, "SQ", [[(0x00209113, "SQ", [frame])]] * 2),
             (0x7FE00010, "OW", bytes(16))])


def seg():
    segment = [(0x00620004, "US", 1), (0x00620005, "LO", "Aortic valve"), (0x00620008, "CS", "AUTOMATIC"),
               (0x00620009, "LO", "made up"), code(0x00620003, "91723000", "SCT", "Anatomical Structure"),
               code(0x0062000F, "34202007", "SCT", "Aortic valve")]
    frame = [(0x00209111, "SQ", [[(0x00209157, "UL", struct.pack("<II", 1, 1))]]), (0x00209113, "SQ", [PLANE[:1]]),
             (0x0062000A, "SQ", [[(0x0062000B, "US", 1)]]),
             (0x00089124, "SQ", [[(0x00082112, "SQ", [[(0x00081150, "UI", CT), (0x00081155, "UI", "1.2.3.4.5.6"),
                                                       code(0x0040A170, "121322", "DCM", "Source image")]]),
                                  code(0x00089215, "113076", "DCM", "Segmentation")]])]
    layout = [(t, v, x) for t, v, x in pixels(4, 2, 8)]
    layout[4:7] = [(0x00280100, "US", 1), (0x00280101, "US", 1), (0x00280102, "US", 0)]
    return (identity(SEG, "SEG") + [(0x00081115, "SQ", [[(0x0020000E, "UI", "1.2.3.4.1")]]),
                                    (0x00200052, "UI", "1.2.3.4.2"), (0x00280008, "IS", "1")] + layout +
            [(0x00620001, "CS", "BINARY"), (0x00620002, "SQ", [segment]), (0x52009230, "SQ", [frame]),
             (0x7FE00010, "OW", b"\xa5\0")])


def sr():
    point = [(0x0040A010, "CS", "CONTAINS"), (0x0040A040, "CS", "SCOORD3D"),
             code(0x0040A043, "111001", "DCM", "Image Region"), (0x00700022, "FL", struct.pack("<fff", 1, 2, 3)),
             (0x00700023, "CS", "POINT"), (0x30060024, "UI", "1.2.3.4.2")]
    number = [(0x0040A010, "CS", "CONTAINS"), (0x0040A040, "CS", "NUM"),
              code(0x0040A043, "131144", "DCM", "Annulus minimum diameter"),
              (0x0040A300, "SQ", [[(0x0040A30A, "DS", "23.5"), code(0x004008EA, "mm", "UCUM", "mm")]])]
    group = [(0x0040A010, "CS", "CONTAINS"), (0x0040A040, "CS", "CONTAINER"),
             code(0x0040A043, "125007", "DCM", "Measurement Group"), (0x0040A050, "CS", "SEPARATE"),
             (0x0040A730, "SQ", [point, number])]
    content = [(0x0040A730, "SQ", [group, group])]
    return (identity(SR, "SR") + [(0x0040A040, "CS", "CONTAINER"), (0x0040A050, "CS", "SEPARATE"),
                                  code(0x0040A043, "126000", "DCM", "Imaging Measurement Report"),
                                  (0x0040A491, "CS", "COMPLETE"), (0x0040A493, "CS", "UNVERIFIED")] + content)


def nested(depth):
    item = [(0x0020000D, "UI", "1.2.3")]
    for _ in range(depth):
        item = [(0x00081140, "SQ", [item])]
    return item


def encapsulated():
    body = data_set(ct()[:-1])
    return (body + header(0x7FE00010, "OB", UNDEFINED, False, "<") + header(0xFFFEE000, "", 0, True, "<") +
            header(0xFFFEE000, "", 4, True, "<") + b"\xff\xd8\xff\xd9" + header(0xFFFEE0DD, "", 0, True, "<"))


def deflated(body):
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = squeeze.compress(body) + squeeze.flush()
    return out + b"\0" * (len(out) % 2)


def file_meta(sop_class, syntax):
    body = data_set([(0x00020001, "OB", b"\0\1"), (0x00020002, "UI", sop_class), (0x00020003, "UI", "1.2.3.4.5"),
                     (0x00020010, "UI", syntax), (0x00020012, "UI", "1.2.3.9"), (0x00020016, "AE", "CT1")])
    return bytes(128) + b"DICM" + data_set([(0x00020000, "UL", len(body))]) + body


def data_sets():
    """(name, class, transfer syntax, bytes)"""
    for name, sop_class, elements in (("ct", CT, ct()), ("enhanced_ct", ENHANCED_CT, enhanced_ct()),
                                      ("seg", SEG, seg()), ("sr", SR, sr())):
        yield name + "_explicit", sop_class, EXPLICIT, data_set(elements)
        yield name + "_defined_lengths", sop_class, EXPLICIT, data_set(elements, defined=True)
        yield name + "_implicit", sop_class, IMPLICIT, data_set(elements, implicit=True)
        yield name + "_deflated", sop_class, DEFLATED, deflated(data_set(elements))
    yield "ct_big_endian", CT, BIG, data_set(ct(), order=">")
    yield "ct_jpeg", CT, JPEG, encapsulated()
    yield "nested_64", CT, EXPLICIT, data_set(nested(63))
    yield "nested_65", CT, EXPLICIT, data_set(nested(65))


# --- the upper layer and command sets

def item(kind, body):
    return struct.pack(">BBH", kind, 0, len(body)) + body


def association(answer):
    titles = b"CARDIONODE".ljust(16) + b"CT1".ljust(16) + bytes(32)
    out = struct.pack(">HH", 1, 0) + titles + item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, sop_class in ((1, CT), (3, SEG), (5, "1.2.840.10008.1.20.1")):
        if answer:
            out += item(0x21, bytes((number, 0, 0, 0)) + item(0x40, IMPLICIT.encode()))
        else:
            out += item(0x20, bytes((number, 0, 0, 0)) + item(0x30, sop_class.encode()) +
                        item(0x40, EXPLICIT.encode()) + item(0x40, IMPLICIT.encode()))
    role = b"1.2.840.10008.1.20.1"
    return out + item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4") +
                      item(0x54, struct.pack(">H", len(role)) + role + b"\1\1") + item(0x55, b"TEST") +
                      item(0x58, b"\1\0" + struct.pack(">H", 2) + b"me" + b"\0\0"))


def command(elements):
    body = data_set(elements, implicit=True)
    return data_set([(0, "UL", len(body))], implicit=True) + body


def network():
    store = command([(0x0002, "UI", CT), (0x0100, "US", 1), (0x0110, "US", 1), (0x0700, "US", 0), (0x0800, "US", 0),
                     (0x1000, "UI", "1.2.3.4.5")])
    answer = command([(0x0002, "UI", CT), (0x0100, "US", 0x8001), (0x0120, "US", 1), (0x0800, "US", 0x0101),
                      (0x0900, "US", 0xA700), (0x0902, "LO", "no room"), (0x1000, "UI", "1.2.3.4.5")])
    action = command([(0x0003, "UI", "1.2.840.10008.1.20.1"), (0x0100, "US", 0x0130), (0x0110, "US", 2),
                      (0x0800, "US", 1), (0x1001, "UI", "1.2.840.10008.1.20.1.1"), (0x1008, "US", 1)])
    reference = [(0x00081150, "UI", CT), (0x00081155, "UI", "1.2.3.4.5")]
    asked = [(0x00081195, "UI", "1.2.3.99"), (0x00081199, "SQ", [reference, reference[:1] + [(0x00081155, "UI", "1.2.3.4.6")]])]
    failed = asked + [(0x00081198, "SQ", [reference + [(0x00081197, "US", 0x0112)]])]
    failed.sort(key=lambda element: element[0])
    value = struct.pack(">IBB", len(store) + 2, 1, 3) + store
    yield "associate_request", b"\0" + association(False)
    yield "associate_accept", b"\1" + association(True)
    yield "data_values", b"\2" + value + value
    yield "store_command", b"\3" + store
    yield "store_answer", b"\3" + answer
    yield "action_command", b"\3" + action
    yield "commitment_implicit", b"\4" + data_set(asked, implicit=True)
    yield "commitment_explicit", b"\5" + data_set(failed)
    yield "commitment_defined", b"\5" + data_set(failed, defined=True)
    yield "file_meta", b"\6" + file_meta(CT, EXPLICIT)


# --- weights

def safetensors(entries, data, metadata=None):
    names = {} if metadata is None else {"__metadata__": metadata}
    names.update({name: {"dtype": dtype, "shape": shape, "data_offsets": at} for name, dtype, shape, at in entries})
    text = json.dumps(names, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def pickled_text(text):
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def pickled_tensor(key, elements, shape, strides, offset=0):
    def numbers(values):
        return b"(" + b"".join(b"K" + bytes((v,)) for v in values) + b"t"
    storage = (b"(" + pickled_text("storage") + b"ctorch\nFloatStorage\n" + pickled_text(key) + pickled_text("cpu") +
               b"K" + bytes((elements,)) + b"tQ")
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K" + bytes((offset,)) + numbers(shape) +
            numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR")


def state_dict():
    return (b"\x80\x02ccollections\nOrderedDict\n)R(" + pickled_text("0.weight") +
            pickled_tensor("0", 4, (2, 2), (2, 1)) + pickled_text("0.bias") + pickled_tensor("1", 4, (2,), (1,), 1) +
            b"u.")


def training_state():
    return (b"\x80\x02}(" + pickled_text("model") + state_dict()[2:-1] + pickled_text("epoch") + b"K\7" +
            pickled_text("lr") + b"G" + struct.pack(">d", 1e-3) + pickled_text("betas") + b"(K\1K\2t" +
            pickled_text("groups") + b"](K\1NM\0\1e" + b"u.")


def zip_of(entries):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            archive.writestr(zipfile.ZipInfo("archive/" + name, (1980, 1, 1, 0, 0, 0)), data)
    return out.getvalue()


def checkpoint(pickle):
    floats = struct.pack("<4f", 1, 2, 3, 4)
    return zip_of([("data.pkl", pickle), ("data/0", floats), ("data/1", floats), ("version", b"3\n")])


def weights():
    one = [("a.weight", "F32", [2, 2], [0, 16])]
    more = one + [("b.bias", "F16", [2], [16, 20]), ("c", "I64", [], [20, 28]), ("empty", "U8", [0, 3], [28, 28])]
    yield "one_tensor", safetensors(one, struct.pack("<4f", 1, 2, 3, 4))
    yield "four_tensors", safetensors(more, bytes(28), {"format": "pt"})
    yield "none", safetensors([], b"")


# --- objects of Flower's protocol

def flower_object(kind, children, body):
    return f"{kind} {','.join(children)} {len(body)}".encode() + b"\0" + body


def field(number, wire, value):
    return bytes((number << 3 | wire,)) + (bytes((len(value),)) + value if wire == 2 else value)


def objects():
    chunk = flower_object("ArrayChunk", [], b"\x93NUMPY\1\0" + bytes(8))
    ids = [hashlib.sha256(chunk).hexdigest(), hashlib.sha256(b"other").hexdigest()]
    array = json.dumps({"dtype": "float32", "shape": [2], "stype": "numpy.ndarray", "arraychunk_ids": [0]}).encode()
    record = json.dumps({"weights": ids[0], "config": ids[1]}).encode()
    real = field(1, 2, b"lr") + field(2, 2, field(1, 1, struct.pack("<d", 0.5)))
    entry = field(1, 2, real)
    yield "chunk", chunk
    yield "array", flower_object("Array", ids[:1], array)
    yield "array_record", flower_object("ArrayRecord", ids, record)
    yield "record_dict", flower_object("RecordDict", ids, record)
    yield "message", flower_object("Message", ids[:1], field(1, 2, b"12") + field(8, 2, b"train"))
    yield "config", flower_object("ConfigRecord", [], entry)
    yield "metric", flower_object("MetricRecord", [], entry + entry)


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "corpus")
    seeds = {"network": dict(network()), "tensor_file": dict(weights()), "objects": dict(objects())}
    order = {EXPLICIT: 1, IMPLICIT: 0, DEFLATED: 3, BIG: 2, JPEG: 4}
    seeds["scan"] = {n: bytes((order[s], 255)) + b for n, _, s, b in data_sets()}
    seeds["dicom_file"] = {n: file_meta(c, s) + b for n, c, s, b in data_sets()}
    seeds["pickle"] = {"state_dict": b"\0" + state_dict(), "training_state": b"\0" + training_state(),
                       "zip": b"\1" + checkpoint(state_dict())}
    seeds["checkpoint"] = dict(weights()) | {"zip": checkpoint(state_dict()), "zip_nested": checkpoint(training_state())}
    for target, files in seeds.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / target / name).write_bytes(data)
    print(sum(map(len, seeds.values())), "seeds,", sum(len(d) for f in seeds.values() for d in f.values()), "bytes")


if __name__ == "__main__":
    main()
