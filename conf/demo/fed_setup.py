#!/usr/bin/python3
"""Prepares the second act of the demo: python3 and python3-numpy.

usage: fed_setup.py patients FOLDER HOSPITAL FIRST  a name, an ID and a birth date into every study of FOLDER/*/dicom
                                                    (dcmodify), as a scanner would have written them
       fed_setup.py labels FOLDER HEAD...           leaves labels of these heads beside the images, no others; HEAD/2:
                                                    on every second study alone
       fed_setup.py notes FOLDER                    says of the study files in FOLDER what the client wants to know
       fed_setup.py initial BUNDLE OUT HEAD...      initial weights: the body of a bundle, last layers of these heads
                                                    of zeros; prints the hash of the architecture
"""
import hashlib
import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NAMES = ("Nordmann^Astrid", "Petersen^Joachim", "Lindqvist^Margarete", "Hoffstetter^Benedikt", "Kowalczyk^Henriette",
         "Thorvaldsen^Sigrid", "Brandauer^Leopold", "Zimmermann^Rosalinde", "Oberhauser^Ferdinand",
         "Castellani^Fiorella", "Vandenberg^Cornelis", "Montgomery^Winifred")
DTYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def patients(folder, hospital, first):
    for number, study in enumerate(sorted(path for path in Path(folder).iterdir() if (path / "dicom").is_dir())):
        place = int(first) + number
        words = ["dcmodify", "-nb", "-i", f"(0010,0010)={NAMES[place % len(NAMES)]}",
                 "-i", f"(0010,0020)={hospital.upper()}-{73190 + 271 * place}",
                 "-i", f"(0010,0030)=19{30 + place % 25}{1 + place % 9:02}{11 + place % 17}",
                 "-i", f"(0008,0050)=ACC{hospital.upper()}{4180 + 13 * place}"]
        subprocess.run([*words, *sorted(map(str, (study / "dicom").iterdir()))], check=True)


def labels(folder, wanted):
    for number, study in enumerate(sorted(path for path in Path(folder).iterdir() if path.is_dir())):
        heads = {word.partition("/")[0] for word in wanted if number % int(word.partition("/")[2] or 1) == 0}
        for file in study.glob("*.nii.gz"):
            if file.name[:-7] not in heads:
                file.unlink()  # ct.nii.gz too: the images are those of the DICOM series
        truth = study / "phantom.json"
        if truth.exists():
            points = json.loads(truth.read_text())
            points["points"] = [point for point in points["points"] if point["head"] in heads]
            truth.unlink()
            if points["points"]:
                (study / "points.json").write_text(json.dumps(points))


def header_of(file):
    with open(file, "rb") as data:
        length = struct.unpack("<Q", data.read(8))[0]
        return json.loads(data.read(length)), 8 + length


def notes(folder):
    """What the client writes when it makes a study file out of a finished study of the node (round/local_data.h)."""
    for file in sorted(Path(folder).glob("*.safetensors")):
        header, _ = header_of(file)
        facts = header.pop("__metadata__")
        origins = [{"head": head, "kind": "segmentation", "sop_class_uid": "", "author": "person", "software": "demo",
                    "made_at": ""} for head in sorted(header) if head != "image"]
        note = {"study": file.stem, "fingerprint": facts["study_hash"], "patient_hash": facts["patient_hash"],
                "received_ms": int(time.time() * 1000), "of_no_use": "", "labels": origins}
        file.with_suffix(".json").write_text(json.dumps(note))


def write_weights(file, weights):
    header, offset = {}, 0
    for name, array in sorted(weights.items()):
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, array in sorted(weights.items()):
            out.write(array.astype("<f4").tobytes())


def initial(bundle, out, heads):
    source = Path(bundle) / "weights.safetensors"
    header, start = header_of(source)
    header.pop("__metadata__", None)
    weights = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        array = np.fromfile(source, dtype, (end - begin) // dtype.itemsize, offset=start + begin)
        array = array.reshape(entry["shape"]).astype(np.float32)
        if name.startswith("seg_layers."):
            if name.split(".")[1] not in heads:
                continue
            array = np.zeros_like(array)
        weights[name] = array
    write_weights(out, weights)
    # As architecture_hash of fedclient/methods/local_round.h has it.
    text = "architecture plain_conv_unet\n" + "".join(
        f"{name} float32 {' '.join(map(str, array.shape))}\n" for name, array in sorted(weights.items()))
    print(hashlib.sha256(text.encode()).hexdigest())


def main(words):
    if len(words) == 4 and words[0] == "patients":
        patients(*words[1:])
    elif len(words) >= 3 and words[0] == "labels":
        labels(words[1], set(words[2:]))
    elif len(words) == 2 and words[0] == "notes":
        notes(words[1])
    elif len(words) >= 4 and words[0] == "initial":
        initial(words[1], words[2], set(words[3:]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
