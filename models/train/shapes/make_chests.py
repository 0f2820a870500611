#!/usr/bin/python3
"""Makes chest_1.nii.gz, chest_2.nii.gz and chests.json from two public CTs (see README.md): the surroundings of edition 3 phantoms.

usage: make_chests.py ACRIN_FOLDER RTSTRUCT_FOLDER OUT_FOLDER        (needs pydicom, numpy and gdcmconv)

What it does: decode, blur and resample to 2 mm, crop, mark everything between the lungs (heart, great vessels, gullet,
airways, fat) and round the descending aorta as hollow, quantise to steps of 16 HU. A voxel is int16: 2 * round(HU / 16),
plus 1 where it is hollow. No identifier, date, UID or text of the source is written.
"""
import glob
import gzip
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np
import pydicom

STEP = 2.0  # mm

# Places in voxels of the resampled grid (x, y, z), read off the images; the heart of chest 2 from its RTSTRUCT contour.
CHESTS = {
    1: dict(source="TCIA ACRIN-NSCLC-FDG-PET, CC BY 3.0", heart=(135, 88, 92), half=(31, 31, 22), spine=(125, 138),
            crop=((10, 240), (20, 215), (40, 172))),
    2: dict(source="Weasis demo archive, CC BY 4.0", heart=(139, 124, 37), half=(28, 25, 25), spine=(127, 155),
            crop=((10, 250), (55, 215), (0, 120))),
}


def load(folder):
    slices = []
    with tempfile.TemporaryDirectory() as raw:
        for file in sorted(glob.glob(folder + "/*")):
            out = os.path.join(raw, "slice.dcm")
            if subprocess.run(["gdcmconv", "--raw", file, out], capture_output=True).returncode != 0:
                continue
            ds = pydicom.dcmread(out, force=True)
            if getattr(ds, "Modality", "") != "CT":
                continue
            hu = ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
            slices.append((float(ds.ImagePositionPatient[2]), float(ds.PixelSpacing[0]), hu))
    slices.sort(key=lambda s: s[0])
    volume = np.clip(np.stack([s[2] for s in slices]), -1024, 1500)
    return volume, slices[0][1], slices[1][0] - slices[0][0]


def along(v, axis, at):
    low = np.clip(np.floor(at).astype(int), 0, v.shape[axis] - 2)
    t = np.clip(at - low, 0, 1).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.take(v, low, axis) * (1 - t) + np.take(v, low + 1, axis) * t


def smooth(v, axis):
    pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
    w, n = np.pad(v, pad, mode="edge"), v.shape[axis]
    return 0.25 * np.take(w, range(n), axis) + 0.5 * v + 0.25 * np.take(w, range(2, n + 2), axis)


def grow(mask, axes=(0, 1, 2)):
    out = mask.copy()
    for axis in axes:
        here, there = [slice(None)] * 3, [slice(None)] * 3
        here[axis], there[axis] = slice(1, None), slice(None, -1)
        out[tuple(here)] |= mask[tuple(there)]
        out[tuple(there)] |= mask[tuple(here)]
    return out


def flood(seed, allowed, limit=400):
    seed = seed & allowed
    for _ in range(limit):
        more = grow(seed) & allowed
        if more.sum() == seed.sum():
            break
        seed = more
    return seed


def hollow_of(v, c):
    nz, ny, nx = v.shape
    z, y, x = np.ogrid[:nz, :ny, :nx]
    sx, sy = c["spine"]
    spine = ((x - sx) / 10.5) ** 2 + ((y - sy) / 10.0) ** 2 < 1
    # Bones hang together with the spine; the breastbone lies in the foremost rows. Calcium of vessels does not.
    dense = v > 130
    body = grow(grow(v > -200))
    front = np.argmax(body, axis=1)[:, None, :]  # first row of the body per slice and column
    bones = flood(spine & dense, dense) | (dense & (y - front < 22))
    bones = grow(bones)
    air = v < -450
    outside = np.zeros_like(air)
    outside[:, 0, :] = outside[:, -1, :] = outside[:, :, 0] = outside[:, :, -1] = True
    outside = flood(outside, air)
    lung = air & ~outside
    v[outside & (v < -800)] = -1000  # noise of the air around costs space and shows nothing
    left = np.maximum.accumulate(lung, axis=2)
    right = np.maximum.accumulate(lung[:, :, ::-1], axis=2)[:, :, ::-1]
    between = left & right & (v > -450)
    hx, hy, hz = c["heart"]
    ax, ay, az = c["half"]
    # Round below, so that liver and stomach beside the heart stay.
    lower = np.clip((hz - z) / az, 0, 1.1)
    reach = np.sqrt(np.maximum(1 - 0.75 * lower**2, 0.01))
    around = ((x - hx) / (ax * reach)) ** 2 + ((y - hy) / (ay * reach)) ** 2 < 1.15
    at_heart = np.where(z < hz, around, np.abs(x - hx) < ax) & (np.abs(z - hz) < az + 2)
    above = (z >= hz + az - 4) & (np.abs(x - sx) < 46)
    # Aorta, gullet and azygos vein before the spine, down into the abdomen; airways between the lungs.
    column = ((x - sx - 4) / 14) ** 2 + ((y - sy + 15) / 13) ** 2 < 1
    airway = (z >= hz + 4) & (((x - sx) / 11) ** 2 + ((y - sy + 24) / 9) ** 2 < 1)
    hollow = (between & (at_heart | above)) | (column & (v > -450)) | airway
    hollow &= ~bones & ~spine & (y < sy + 8)
    hollow = grow(grow(hollow, (1, 2)), (0, 1, 2)) & ~bones & ~spine
    return hollow


def write(path, v, hollow):
    packed = (2 * np.round(v / 16).astype(np.int16) + hollow.astype(np.int16)).astype("<i2")
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, v.shape[2], v.shape[1], v.shape[0], 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<8f", header, 76, 1, STEP, STEP, STEP, 1, 1, 1, 1)
    struct.pack_into("<ff", header, 108, 352, 1)
    header[123] = 2
    struct.pack_into("<h", header, 254, 1)
    struct.pack_into("<12f", header, 280, -STEP, 0, 0, 0, 0, -STEP, 0, 0, 0, 0, STEP, 0)
    header[344:348] = b"n+1\0"
    with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9, mtime=0, filename="") as out:
        out.write(bytes(header) + packed.tobytes())


def main(acrin, rtstruct, out):
    chests = []
    for number, folder in ((1, acrin), (2, rtstruct)):
        v, spacing, thickness = load(folder)
        v = smooth(smooth(v, 1), 2)
        for axis, step in ((2, spacing), (1, spacing), (0, thickness)):
            v = along(v, axis, np.arange(int((v.shape[axis] - 1) * step / STEP) + 1) * STEP / step)
        c = CHESTS[number]
        hollow = hollow_of(v, c)
        (x0, x1), (y0, y1), (z0, z1) = c["crop"]
        box = np.s_[z0:z1, y0:y1, x0:x1]
        lung = v[box][(v[box] < -600) & (v[box] > -980)]
        hx, hy, hz = c["heart"]
        chests.append({"file": f"chest_{number}.nii.gz", "source": c["source"], "heart": [hx - x0, hy - y0, hz - z0],
                       "heart_half": c["half"], "spine": [c["spine"][0] - x0, c["spine"][1] - y0],
                       "lung_hu": round(float(np.median(lung)))})
        write(os.path.join(out, f"chest_{number}.nii.gz"), v[box], hollow[box])
    with open(os.path.join(out, "chests.json"), "w") as file:
        json.dump({"unit": "voxels of 2 mm; x to the left, y to the back, z to the head", "chests": chests}, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
