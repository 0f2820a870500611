import contextlib
import hashlib
import io
import json
import shutil
import struct
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
except ImportError as missing:
    raise unittest.SkipTest("python3-numpy is not installed") from missing

import no_patient_data

UID, NAME, ID = "2.25.2199525283497380936704496", "Nordmann^Astrid", "NORTH-73190"


def dicom(pixels):
    def element(group, number, vr, value):
        value += b"\0" * (len(value) % 2)
        length = struct.pack("<I", len(value)) if vr in (b"OW", b"SQ") else struct.pack("<H", len(value))
        return struct.pack("<HH2s", group, number, vr) + (b"\0\0" if vr in (b"OW", b"SQ") else b"") + length + value
    return (bytes(128) + b"DICM" + element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
            + element(0x0008, 0x0018, b"UI", (UID + ".1").encode()) + element(0x0010, 0x0010, b"PN", NAME.encode())
            + element(0x0010, 0x0020, b"LO", ID.encode()) + element(0x0010, 0x0030, b"DA", b"19430217")
            + element(0x0020, 0x000d, b"UI", UID.encode()) + element(0x7fe0, 0x0010, b"OW", pixels.tobytes()))


def study_file(file, image):
    header = {"__metadata__": {"study_hash": "ab" * 32, "patient_hash": "cd" * 32},
              "image": {"dtype": "F16", "shape": list(image.shape), "data_offsets": [0, image.nbytes]}}
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + image.tobytes())


class Exchange(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        random = np.random.default_rng(3)
        self.pixels = random.integers(-1000, 1500, (32, 32)).astype("<i2")
        self.pixels[:8] = -1000  # air
        self.image = random.standard_normal((8, 16, 16)).astype("<f2")
        (self.folder / "archive").mkdir()
        (self.folder / "archive/1.dcm").write_bytes(dicom(self.pixels))
        study_file(self.folder / "study.safetensors", self.image)
        (self.folder / "objects").mkdir()
        self.weights = random.standard_normal(50000).astype("<f4").tobytes()

    def put(self, kind, children, body):
        data = f"{kind} {','.join(children)} {len(body)}".encode() + b"\0" + body
        name = hashlib.sha256(data).hexdigest()
        (self.folder / "objects" / name).write_bytes(data)
        return name

    def exchange(self, chunk=None, config=b"round 1", array=True):
        chunk = self.put("ArrayChunk", [], self.weights if chunk is None else chunk)
        array_id = self.put("Array", [chunk], b"{}") if array else "0" * 64
        records = [self.put("ArrayRecord", [array_id], b"{}"), self.put("ConfigRecord", [], config),
                   self.put("MetricRecord", [], b"n/heart 8")]
        self.put("Message", [self.put("RecordDict", records, b"{}")], b"")

    def check(self):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            code = no_patient_data.main(["check", str(self.folder / "objects"), str(self.folder / "archive"), "--",
                                         str(self.folder / "study.safetensors")])
        return code, said.getvalue()

    def test_weights_and_counts_alone_are_well(self):
        self.exchange()
        code, said = self.check()
        self.assertEqual(code, 0, said)
        self.assertIn("1 ArrayChunk", said)
        self.assertIn("1 PatientBirthDate", said)
        self.assertIn("found: nothing", said)

    def test_each_word_of_a_patient_is_found(self):
        for word, kind in ((UID, "StudyInstanceUID"), (NAME, "PatientName"), ("Nordmann", "PatientName"),
                           (ID, "PatientID"), ("19430217", "PatientBirthDate"), ("cd" * 32, "patient_hash"),
                           ("ab" * 32, "study_hash"), (UID + ".1", "SOPInstanceUID")):
            shutil.rmtree(self.folder / "objects")
            (self.folder / "objects").mkdir()
            self.exchange(config=b"reason: " + word.encode() + b" failed")
            code, said = self.check()
            self.assertEqual(code, 1, word)
            self.assertIn(f"{kind} in ConfigRecord", said)

    def test_rows_of_pixels_are_found_at_any_byte(self):
        for offset in range(8):
            for row in (self.pixels[20, 3:23].tobytes(), self.image[4, 3:5].ravel()[1:17].tobytes()):
                shutil.rmtree(self.folder / "objects")
                (self.folder / "objects").mkdir()
                self.exchange(chunk=self.weights[:1000 + offset] + row + self.weights[1000:])
                code, said = self.check()
                self.assertEqual(code, 1, offset)
                self.assertIn("pixels in ArrayChunk", said)

    def test_air_alone_is_no_pixel_of_a_patient(self):
        self.exchange(chunk=self.weights + self.pixels[:4].tobytes())
        self.assertEqual(self.check()[0], 0)

    def test_objects_that_were_not_seen_are_a_fault(self):
        self.exchange(array=False)
        code, said = self.check()
        self.assertEqual(code, 1)
        self.assertIn("1 objects were exchanged that this check has not seen", said)

    def test_nothing_exchanged_is_a_fault(self):
        code, said = self.check()
        self.assertEqual(code, 1)
        self.assertIn("no Message", said)
