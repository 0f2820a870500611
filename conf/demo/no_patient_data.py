#!/usr/bin/python3
"""Looks for patients in everything that hospitals and coordinator have exchanged: python3 and python3-numpy.

usage: no_patient_data.py collect FROM... INTO         keeps a link of every object in the folders FROM, until SIGTERM
       no_patient_data.py check OBJECTS DICOM... [-- STUDYFILE...]

`check` reads every object in OBJECTS (decrypted, as sender and receiver hold it) and looks for what stands in the DICOM
folders and prepared study files: UIDs, patients' names, IDs and birth dates, accession numbers, hashes of patients and
studies, and any 32 bytes of pixels in a row. It first shows that it would find each of these, on a copy in memory.
Exit code 0: nothing found; 1: something was, or objects are missing; 2: wrong use.
"""
import hashlib
import json
import os
import re
import signal
import struct
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

ID = re.compile(r"[0-9a-f]{64}")
UID = re.compile(rb"[0-9][0-9.]{11,}")
NAME = (0x0010, 0x0010)
WORDS = {(0x0020, 0x000d): "StudyInstanceUID", (0x0020, 0x000e): "SeriesInstanceUID",
         (0x0008, 0x0018): "SOPInstanceUID", (0x0020, 0x0052): "FrameOfReferenceUID", NAME: "PatientName",
         (0x0010, 0x0020): "PatientID", (0x0010, 0x0030): "PatientBirthDate", (0x0008, 0x0050): "AccessionNumber"}
PIXELS = (0x7fe0, 0x0010)
LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UN", b"UT", b"UC", b"UR"}
RUN = 4  # words of 8 bytes


def elements(data):
    """(tag, value) of the top level of an explicit little-endian DICOM file without sequences of unknown length."""
    at = 132 if data[128:132] == b"DICM" else 0
    while at + 8 <= len(data):
        group, element, vr = struct.unpack("<HH2s", data[at:at + 6])
        if vr in LONG:
            length, start = struct.unpack("<I", data[at + 8:at + 12])[0], at + 12
        else:
            length, start = struct.unpack("<H", data[at + 6:at + 8])[0], at + 8
        if length == 0xffffffff:
            raise ValueError("a sequence or pixels of unknown length")
        yield (group, element), data[start:start + length]
        at = start + length


def of_dicom(folder):
    """({word: what it is}, pixel arrays) of all files."""
    words, pixels = {}, []
    for file in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        for tag, value in elements(file.read_bytes()):
            if tag in WORDS:
                text = value.rstrip(b"\0 ")
                parts = [text] + (re.split(rb"[\^= ]", text) if tag == NAME else [])
                words.update({part: WORDS[tag] for part in parts if len(part) >= 6})
            elif tag == PIXELS:
                pixels.append(np.frombuffer(value[:len(value) // 2 * 2], "<u2"))
    return words, pixels


def of_study_file(file):
    data = Path(file).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    begin, end = header["image"]["data_offsets"]
    facts = header.get("__metadata__", {})
    words = {facts[key].encode(): key for key in ("study_hash", "patient_hash") if facts.get(key)}
    size = {"F32": 4, "F16": 2}[header["image"]["dtype"]]
    return words, [np.frombuffer(data[8 + length + begin:8 + length + end], f"<u{size}")]


def words_of_pixels(arrays):
    """All words of 8 bytes in rows of pixels, at every pixel; not those of one value alone, which say nothing."""
    found = []
    for array in arrays:
        size = array.dtype.itemsize
        for shift in range(8 // size):
            part = array[shift:]
            part = part[:len(part) // (8 // size) * (8 // size)].reshape(-1, 8 // size)
            part = np.ascontiguousarray(part[(part != part[:, :1]).any(axis=1)])
            found.append(part.view("<u8").ravel())
    return np.unique(np.concatenate(found)) if found else np.zeros(0, "<u8")


class Pixels:
    """A set of words that is asked fast: a bitmap of hashes first, then the words themselves."""

    def __init__(self, words):
        self.words = words  # sorted
        self.bits = max(16, 4 + len(words).bit_length())  # so that few strangers share a place
        self.map = np.zeros(1 << self.bits, bool)
        self.map[self.hash(words)] = True

    def hash(self, words):
        return ((words * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - self.bits)).astype(np.int64)

    def holds(self, words):
        place = np.minimum(np.searchsorted(self.words, words), len(self.words) - 1)
        return self.words[place] == words

    def run_in(self, data):
        """Whether RUN words in a row are pixels, at any byte of the data."""
        if not len(self.words):
            return False
        for shift in range(min(8, len(data))):
            part = np.frombuffer(data, "<u8", (len(data) - shift) // 8, offset=shift)
            if len(part) < RUN:
                continue
            hit = self.map[self.hash(part)]
            row = hit[:len(hit) - RUN + 1].copy()
            for step in range(1, RUN):
                row &= hit[step:len(hit) - RUN + 1 + step]
            starts = np.flatnonzero(row)
            if len(starts) and self.holds(part[starts[:, None] + np.arange(RUN)]).all(axis=1).any():
                return True
        return False


class Secrets:
    def __init__(self, words, pixels):
        self.words, self.pixels = words, Pixels(words_of_pixels(pixels))
        # UIDs are many: first what looks like one at all.
        self.uids = [word for word in words if UID.fullmatch(word)]
        self.others = [word for word in words if not UID.fullmatch(word)]
        self.example = next((a for a in pixels if len(np.unique(a)) > 50), None)

    def found_in(self, data):
        kinds = {self.words[word] for word in self.others if word in data}
        for token in set(UID.findall(data)):
            kinds |= {self.words[uid] for uid in self.uids if uid in token}
        if self.pixels.run_in(data):
            kinds.add("pixels")
        return kinds

    def shows_that_it_finds(self, data):
        """What of its own secrets it does not find in a copy of `data` that holds them."""
        missed = set()
        for kind, word in {kind: word for word, kind in self.words.items()}.items():
            if kind not in self.found_in(data + b"x" + word + b"y"):
                missed.add(kind)
        if self.example is not None:
            a = self.example
            busiest = max(range(0, len(a) - 64, 64), key=lambda at: len(set(a[at:at + 64].tolist())))
            row = a[busiest:busiest + 64].tobytes()
            if "pixels" not in self.found_in(data + b"abc" + row):
                missed.add("pixels")
        return missed


def head_of(data):
    """(type, ids of children) of an object; none for what is no object."""
    match = re.match(rb"([A-Za-z]+) ([0-9a-f,]*) (\d+)\0", data[:1 << 20])
    if not match or len(data) != match.end() + int(match[3]):
        return None
    return match[1].decode(), [child.decode() for child in match[2].split(b",") if child]


def check(objects, dicom, study_files):
    words, pixels = {}, []
    for folder in dicom:
        more, arrays = of_dicom(folder)
        words |= more
        pixels += arrays
    for file in study_files:
        more, arrays = of_study_file(file)
        words |= more
        pixels += arrays
    if not words or not pixels:
        print("  FAULT: there is nothing to look for in these folders")
        return False
    secrets = Secrets(words, pixels)
    kinds, size, children, there, faults = Counter(), 0, set(), set(), []
    data = b""
    for file in sorted(path for path in Path(objects).iterdir() if path.is_file()):
        data = file.read_bytes()
        head = head_of(data)
        if head is None or hashlib.sha256(data).hexdigest() != file.name:
            continue  # half written when it was linked; the whole one has this name too, or is missed below
        there.add(file.name)
        children |= set(head[1])
        kinds[head[0]] += 1
        size += len(data)
        faults += [f"{kind} in {head[0]} {file.name[:12]}" for kind in sorted(secrets.found_in(data))]
    missed = secrets.shows_that_it_finds(data)
    faults += [f"this check would not find {kind}" for kind in sorted(missed)]
    if children - there:
        faults.append(f"{len(children - there)} objects were exchanged that this check has not seen")
    for kind in ("Message", "ArrayRecord", "ConfigRecord", "MetricRecord", "ArrayChunk"):
        if not kinds[kind]:
            faults.append(f"no {kind} among them")
    counted = Counter(words.values())
    parts = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    print(f"  {len(there)} objects, {size / 1e6:.1f} MB: {parts}")
    print(f"  looked for {len(words)} words (" + ", ".join(f"{n} {kind}" for kind, n in sorted(counted.items()))
          + f") and rows of {sum(len(a) for a in pixels) / 1e6:.1f} million pixels")
    for fault in faults[:20]:
        print(f"  FAULT: {fault}")
    if not faults:
        print("  found: nothing")
    return not faults


def collect(sources, into):
    """Sender and receiver clear their stores as a round goes on: what was there once is kept by a second name."""
    ended = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.append(1))
    into = Path(into)
    into.mkdir(parents=True, exist_ok=True)
    seen = {file.name for file in into.iterdir()}
    while True:
        last = bool(ended)
        for source in sources:
            for folder, _, files in os.walk(source):
                for name in files:
                    if ID.fullmatch(name) and name not in seen:
                        try:
                            os.link(os.path.join(folder, name), into / name)
                            seen.add(name)
                        except FileNotFoundError:
                            pass  # gone meanwhile; the other side has it
        if last:
            return
        time.sleep(0.05)


def main(words):
    if len(words) >= 3 and words[0] == "collect":
        collect(words[1:-1], words[-1])
        return 0
    if len(words) >= 3 and words[0] == "check":
        split = words.index("--") if "--" in words else len(words)
        return 0 if check(words[1], words[2:split], words[split + 1:]) else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
