"""Reads SEG and SR with pydicom and numpy, which share no code with the node, and compares them with what was meant.

usage: read_back.py expected.json
expected.json: ct (folder), groups [{raw (uint8, columns fastest), title -> label, files}], sr {landmarks, volumes},
               landmarks [{title, lps or null}], volumes [{title, ml}]
Prints each difference; exit 1 if there is one.
"""
import json
import pathlib
import sys

import numpy as np
import pydicom

expected = json.load(open(sys.argv[1]))
differences = []


def differ(text):
    differences.append(text)
    print("DIFFERENT:", text)


def read_ct(folder):
    slices = [pydicom.dcmread(p, stop_before_pixels=True) for p in pathlib.Path(folder).glob("*.dcm")]
    axes = np.array(slices[0].ImageOrientationPatient, float)
    normal = np.cross(axes[:3], axes[3:])
    slices.sort(key=lambda s: float(np.dot(normal, np.array(s.ImagePositionPatient, float))))
    return slices


def check_group(group, ct):
    rows, columns = ct[0].Rows, ct[0].Columns
    index_of = {s.SOPInstanceUID: k for k, s in enumerate(ct)}
    volume = np.zeros((len(ct), rows, columns), np.uint8)
    for file in group["files"]:
        seg = pydicom.dcmread(file)
        name = pathlib.Path(file).name
        if seg.FrameOfReferenceUID != ct[0].FrameOfReferenceUID:
            differ(f"{name}: frame of reference")
        if seg.file_meta.TransferSyntaxUID != "1.2.840.10008.1.2.1" or seg.SegmentationType != "BINARY":
            differ(f"{name}: encoding")
        frames = int(seg.NumberOfFrames)
        if frames >= 400 or frames != len(seg.PerFrameFunctionalGroupsSequence):
            differ(f"{name}: {frames} frames")
        if [int(s.SegmentNumber) for s in seg.SegmentSequence] != list(range(1, len(seg.SegmentSequence) + 1)):
            differ(f"{name}: segments are not numbered from 1")
        label_of = {}
        for segment in seg.SegmentSequence:
            title = str(segment.SegmentLabel).split(" (part ")[0]
            label_of[int(segment.SegmentNumber)] = group["segments"][title]
        bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8), bitorder="little")
        bits = bits[:frames * rows * columns].reshape(frames, rows, columns).astype(bool)
        shared = seg.SharedFunctionalGroupsSequence[0]
        orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        spacing = np.array(shared.PixelMeasuresSequence[0].PixelSpacing, float)
        for frame, functional in zip(bits, seg.PerFrameFunctionalGroupsSequence):
            image = functional.DerivationImageSequence[0].SourceImageSequence[0]
            k = index_of[image.ReferencedSOPInstanceUID]
            source = ct[k]
            place = np.array(functional.PlanePositionSequence[0].ImagePositionPatient, float)
            if np.abs(place - np.array(source.ImagePositionPatient, float)).max() > 0.01:
                differ(f"{name}: a frame is not on its source plane")
            if np.abs(orientation - np.array(source.ImageOrientationPatient, float)).max() > 1e-5:
                differ(f"{name}: orientation")
            if np.abs(spacing - np.array(source.PixelSpacing, float)).max() > 1e-5:
                differ(f"{name}: pixel spacing")
            if not frame.any():
                differ(f"{name}: an empty frame")
            if volume[k][frame].any():
                differ(f"{name}: segments overlap")
            volume[k][frame] = label_of[int(functional.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
    meant = np.fromfile(group["raw"], np.uint8).reshape(volume.shape)
    if not np.array_equal(volume, meant):
        differ(f"{group['name']}: {int((volume != meant).sum())} voxels of {int((meant > 0).sum())}")
    else:
        print(f"{group['name']}: {int((meant > 0).sum())} voxels the same in {len(group['files'])} files")


def code(item):
    return (str(item.CodeValue), str(item.CodingSchemeDesignator))


def groups_of(document):
    for container in document.ContentSequence:
        if container.ValueType == "CONTAINER" and code(container.ConceptNameCodeSequence[0]) == ("126010", "DCM"):
            yield from container.ContentSequence


def child(group, value):
    for item in group.ContentSequence:
        if code(item.ConceptNameCodeSequence[0])[0] == value:
            return item
    return None


def check_landmarks(file, ct):
    document = pydicom.dcmread(file)
    points = {}
    for group in groups_of(document):
        region = child(group, "111030")
        if region.GraphicType != "POINT" or region.ReferencedFrameOfReferenceUID != ct[0].FrameOfReferenceUID:
            differ("landmark SR: region of a group")
        points[str(child(group, "112039").TextValue)] = np.array(region.GraphicData, float)
    for landmark in expected["landmarks"]:
        found = points.pop(landmark["title"], None)
        if (found is None) != (landmark["lps"] is None):
            differ(f"landmark {landmark['title']}: found differs")
        elif found is not None and np.linalg.norm(found - np.array(landmark["lps"])) > 0.1:
            differ(f"landmark {landmark['title']}: {found} instead of {landmark['lps']}")
    if points:
        differ(f"landmarks nobody meant: {sorted(points)}")
    print(len(expected["landmarks"]), "landmarks compared")


def check_volumes(file, segs):
    document = pydicom.dcmread(file)
    volumes = {}
    for group in groups_of(document):
        image = child(group, "121191").ReferencedSOPSequence[0]
        seg = segs[image.ReferencedSOPInstanceUID]
        number = image.ReferencedSegmentNumber
        segment = [s for s in seg.SegmentSequence if s.SegmentNumber == number][0]
        if str(segment.TrackingUID) != str(child(group, "112040").UID):
            differ("volume SR: a group and its segment have different tracking UIDs")
        value = child(group, "118565006").MeasuredValueSequence[0]
        title = str(segment.SegmentLabel).split(" (part ")[0]
        volumes[title] = volumes.get(title, 0) + float(value.NumericValue)
    for volume in expected["volumes"]:
        if abs(volumes.pop(volume["title"], -1) - volume["ml"]) > 1e-3 * volume["ml"] + 1e-6:
            differ(f"volume of {volume['title']}")
    if volumes:
        differ(f"volumes nobody meant: {sorted(volumes)}")
    print(len(expected["volumes"]), "volumes compared")


ct_series = read_ct(expected["ct"])
for one in expected["groups"]:
    check_group(one, ct_series)
if expected.get("sr_landmarks"):
    check_landmarks(expected["sr_landmarks"], ct_series)
if expected.get("sr_volumes"):
    files = [f for one in expected["groups"] for f in one["files"]]
    objects = {d.SOPInstanceUID: d for d in (pydicom.dcmread(f, stop_before_pixels=True) for f in files)}
    check_volumes(expected["sr_volumes"], objects)
sys.exit(1 if differences else 0)
