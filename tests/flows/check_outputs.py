#!/usr/bin/python3
"""Reads a node's outputs with pydicom and compares them with what the pipeline computed.

usage: check_outputs.py CT_FOLDER RESULT_JSON FILE...
RESULT_JSON: what `cardionode show STUDY --json` prints. FILE: every SEG, SR and key image, as the PACS gives it back.
Checks: frame of reference, study and evidence are the CT's; SEG frames lie on the CT's slices and refer to them;
points lie inside the volume and within 0.1 mm of the computed ones; volumes by voxel count equal the reported ones;
key images are pictures. Prints one line per problem; exit code 1 when there is one.
"""
import json
import sys

import numpy as np

import dicom_outputs as outputs

problems = []
compared = []  # segments whose volume was counted again


def expect(condition, text):
    if not condition:
        problems.append(text)


def evidence_of(sr):
    return {str(instance.ReferencedSOPInstanceUID)
            for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
            for study in sr.get(name, [])
            for series in study.ReferencedSeriesSequence
            for instance in series.ReferencedSOPSequence}


def result_of(document):
    """The pipeline's own result inside what `show --json` prints."""
    return document.get("result", document)


def main(ct_folder, result_file, files):
    ct = outputs.CtSeries(ct_folder)
    with open(result_file, encoding="utf-8") as file:
        result = result_of(json.load(file))
    seg_files, sr_files, others = outputs.load_outputs(files)
    expect(seg_files, "no SEG")
    expect(len(sr_files) == 2, f"{len(sr_files)} SR instead of 2")
    expect(others, "no key image")
    for dataset in seg_files + sr_files + others:
        expect(dataset.StudyInstanceUID == ct.study_uid, f"{dataset.Modality}: another study")
        expect(dataset.SeriesInstanceUID != ct.series_uid, f"{dataset.Modality}: in the CT's series")

    masks = {}
    for seg in seg_files:
        expect(seg.FrameOfReferenceUID == ct.frame_of_reference, "SEG: another frame of reference")
        expect(seg.SegmentationType == "BINARY", "SEG: not BINARY")
        referenced = {str(i.ReferencedSOPInstanceUID) for s in seg.ReferencedSeriesSequence
                      for i in s.ReferencedInstanceSequence}
        expect(referenced <= set(ct.uids) and referenced, "SEG: refers to instances that are not the CT's")
        try:
            masks.update(outputs.segments(seg, ct))
        except ValueError as error:
            problems.append(f"SEG: {error}")

    segment_uids = {str(seg.SOPInstanceUID) for seg in seg_files}
    points, numbers = {}, {}
    for sr in sr_files:
        expect(evidence_of(sr) <= set(ct.uids) | segment_uids and evidence_of(sr), "SR: evidence is not ours")
        for group in outputs.measurement_groups(sr):
            expect(group["tracking"], "SR: a group without tracking identifier")
            for point in group["points"]:
                expect(group["frame"] == ct.frame_of_reference, f'{group["tracking"]}: another frame of reference')
                for lps in point:
                    expect(ct.contains(lps), f'{group["tracking"]}: outside the volume')
            if group["points"] and len(group["points"][0]) == 1:
                points[group["tracking"]] = group["points"][0][0]
            for name, value in group["numbers"].items():
                numbers[(group["tracking"], name)] = value

    compare_points(result, points)
    compare_volumes(result, masks, ct)
    expect(compared, "no segment's volume could be compared")
    for image in others:
        expect(image.pixel_array.size > 10000 and image.pixel_array.std() > 1, "a key image is empty")
    print(f"{len(seg_files)} SEG with {sum(bool(m.any()) for m in masks.values())} segments, {len(sr_files)} SR with "
          f"{len(points)} points and {len(numbers)} numbers, {len(others)} key images, {len(compared)} volumes compared, "
          f"{len(problems)} problems")
    for problem in problems:
        print("  " + problem)
    return 1 if problems else 0


def compare_points(result, points):
    found = [p for p in result["landmarks"] if p.get("found", p.get("position") is not None)]
    for landmark in found:
        computed = np.array(landmark["lps_mm"], float)
        near = [name for name, point in points.items() if np.linalg.norm(point - computed) < 0.1]
        expect(near, f'{landmark["name"]}: no point of the SR lies within 0.1 mm of the computed one')
    expect(len(points) >= len(found), f"{len(points)} points in the SR, {len(found)} computed")


def compare_volumes(result, masks, ct):
    """Measurements named <segment>_volume_ml against the voxels of the segment with that title."""
    by_name = {title.lower().replace(" ", "_").replace("-", "_"): mask for title, mask in masks.items()}
    for measurement in result["measurements"]:
        if not measurement["name"].endswith("_volume_ml") or measurement["value"] is None:
            continue
        name = measurement["name"][:-len("_volume_ml")]
        if name not in by_name:
            continue  # a sum of several segments, or a title that is not the name
        counted = by_name[name].sum() * ct.millilitres_per_voxel()
        expect(abs(counted - measurement["value"]) < 0.002 + 1e-4 * counted,
               f'{name}: {counted:.3f} ml by voxels, {measurement["value"]:.3f} ml computed')
        compared.append(name)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
