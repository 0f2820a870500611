"""Reads a node's SEG and SR with pydicom, which shares no code with the node. For Debian's /usr/bin/python3."""
import gzip
import pathlib
import struct

import numpy as np
import pydicom


class CtSeries:
    """Geometry of a CT series from its headers: voxel (column, row, slice) to LPS mm, slices by position."""

    def __init__(self, folder):
        slices = [pydicom.dcmread(f, stop_before_pixels=True) for f in sorted(pathlib.Path(folder).iterdir())]
        first = slices[0]
        self.orientation = np.array(first.ImageOrientationPatient, float)
        row, column = self.orientation[:3], self.orientation[3:]
        self.normal = np.cross(row, column)
        slices.sort(key=lambda s: float(np.dot(self.normal, np.array(s.ImagePositionPatient, float))))
        self.positions = np.array([s.ImagePositionPatient for s in slices], float)
        self.uids = [s.SOPInstanceUID for s in slices]
        self.study_uid, self.series_uid = first.StudyInstanceUID, first.SeriesInstanceUID
        self.frame_of_reference = first.FrameOfReferenceUID
        self.shape = (len(slices), int(first.Rows), int(first.Columns))  # slice, row, column
        # PixelSpacing: distance between rows, then between columns.
        row_step, column_step = (float(v) for v in first.PixelSpacing)
        step = (self.positions[-1] - self.positions[0]) / (len(slices) - 1)
        self.affine = np.eye(4)
        self.affine[:3, 0], self.affine[:3, 1], self.affine[:3, 2] = row * column_step, column * row_step, step
        self.affine[:3, 3] = self.positions[0]

    def voxel_of(self, lps):
        """Fractional (column, row, slice)."""
        return (np.linalg.inv(self.affine) @ np.append(np.asarray(lps, float), 1))[:3]

    def contains(self, lps):
        voxel = self.voxel_of(lps)
        return bool(np.all(voxel > -0.5) and np.all(voxel < np.array(self.shape[::-1]) - 0.5))

    def slice_at(self, position):
        """Slice whose plane holds the position, and how far off (mm) the position is from that slice's."""
        distances = np.linalg.norm(self.positions - np.asarray(position, float), axis=1)
        k = int(np.argmin(distances))
        return k, float(distances[k])

    def millilitres_per_voxel(self):
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000


def segments(seg, ct):
    """{segment label: mask [slice, row, column] on the CT's grid}; raises where a frame is not on that grid."""
    names = {int(s.SegmentNumber): str(s.SegmentLabel) for s in seg.SegmentSequence}
    masks = {name: np.zeros(ct.shape, bool) for name in names.values()}
    frames = np.asarray(seg.pixel_array).reshape(int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns))
    if frames.shape[1:] != ct.shape[1:]:
        raise ValueError(f"SEG frames are {frames.shape[1:]}, the CT is {ct.shape[1:]}")
    shared = seg.SharedFunctionalGroupsSequence[0]
    for number, groups in enumerate(seg.PerFrameFunctionalGroupsSequence):
        plane = (groups if "PlaneOrientationSequence" in groups else shared).PlaneOrientationSequence[0]
        if np.abs(np.array(plane.ImageOrientationPatient, float) - ct.orientation).max() > 1e-4:
            raise ValueError(f"frame {number + 1} is turned against the CT")
        k, off = ct.slice_at(groups.PlanePositionSequence[0].ImagePositionPatient)
        if off > 0.01:
            raise ValueError(f"frame {number + 1} lies {off:.3f} mm beside the nearest slice")
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        if source != ct.uids[k]:
            raise ValueError(f"frame {number + 1} refers to another slice than the one it lies on")
        segment = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        masks[names[segment]][k] |= frames[number] != 0
    return masks


def code_of(item):
    return (str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning))


def measurement_groups(sr):
    """One dictionary per Measurement Group: tracking, finding, site, points (LPS), numbers {name: (value, unit)}."""
    groups = []

    def walk(items):
        for item in items:
            name = code_of(item.ConceptNameCodeSequence[0]) if "ConceptNameCodeSequence" in item else ("", "", "")
            if item.ValueType == "CONTAINER" and name[0] == "125007":
                groups.append(read_group(item.ContentSequence))
            elif "ContentSequence" in item:
                walk(item.ContentSequence)

    def read_group(items):
        group = {"tracking": "", "finding": None, "site": None, "points": [], "numbers": {}, "frame": ""}
        for item in items:
            name = code_of(item.ConceptNameCodeSequence[0])
            if item.ValueType == "TEXT" and name[0] == "112039":
                group["tracking"] = str(item.TextValue)
            elif item.ValueType == "CODE" and name[0] == "121071":
                group["finding"] = code_of(item.ConceptCodeSequence[0])
            elif item.ValueType == "CODE" and name[0] == "363698007":
                group["site"] = code_of(item.ConceptCodeSequence[0])
            elif item.ValueType == "SCOORD3D":
                group["points"].append(np.array(item.GraphicData, float).reshape(-1, 3))
                group["frame"] = str(item.ReferencedFrameOfReferenceUID)
            elif item.ValueType == "NUM" and item.get("MeasuredValueSequence"):
                measured = item.MeasuredValueSequence[0]
                unit = str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
                group["numbers"][name[2]] = (float(measured.NumericValue), unit)
        return group

    walk(sr.ContentSequence)
    return groups


def load_outputs(files):
    """(list of SEG, list of SR, list of others) as pydicom data sets; the path is in `.filename`."""
    seg, sr, others = [], [], []
    for file in files:
        dataset = pydicom.dcmread(file)
        {"SEG": seg, "SR": sr}.get(dataset.Modality, others).append(dataset)
    return seg, sr, others


def read_nifti(file):
    """(array [i, j, k], affine to LPS mm) of a NIfTI-1 file (https://nifti.nimh.nih.gov/nifti-1, nifti1.h)."""
    raw = gzip.open(file).read() if str(file).endswith(".gz") else pathlib.Path(file).read_bytes()
    if struct.unpack("<i", raw[:4])[0] != 348:
        raise ValueError(f"{file}: no little-endian NIfTI-1 file")
    shape = struct.unpack("<8h", raw[40:56])
    kind, = struct.unpack("<h", raw[70:72])
    types = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2", 768: "<u4"}
    offset, = struct.unpack("<f", raw[108:112])
    sform, = struct.unpack("<h", raw[254:256])
    if sform <= 0:
        raise ValueError(f"{file}: no sform")
    affine = np.eye(4)
    affine[:3] = np.array(struct.unpack("<12f", raw[280:328])).reshape(3, 4)
    size = shape[1:1 + shape[0]]
    data = np.frombuffer(raw, types[kind], int(np.prod(size)), int(offset)).reshape(size, order="F")
    return data, np.diag([-1, -1, 1, 1]) @ affine  # NIfTI is RAS


def on_grid_of(ct, data, affine):
    """The label array of a NIfTI file at each voxel centre of the CT (nearest), as [slice, row, column]."""
    n, rows, columns = ct.shape
    k, j, i = np.meshgrid(np.arange(n), np.arange(rows), np.arange(columns), indexing="ij")
    to_source = np.linalg.inv(affine) @ ct.affine
    index = np.stack([i, j, k, np.ones_like(i)], -1) @ to_source.T
    index = np.rint(index[..., :3]).astype(int)
    inside = np.all((index >= 0) & (index < np.array(data.shape)), axis=-1)
    out = np.zeros(ct.shape, data.dtype)
    picked = index[inside]
    out[inside] = data[picked[:, 0], picked[:, 1], picked[:, 2]]
    return out
