#!/usr/bin/python3
"""How far the node's result on the CTA lies from the silver standard beside it: a report, never a pass or a fail.

usage: silver_standard.py CT_FOLDER TRUTH_FOLDER FILE...
CT_FOLDER: the CTA's slices. TRUTH_FOLDER: masks/*.nii.gz and ground_truth_lps.json of ../shared/data/cta.
FILE: the node's SEG and SR objects. The masks are reference predictions of TotalSegmentator, not a reader's.
"""
import json
import pathlib
import sys

import numpy as np

import dicom_outputs as outputs


def dice(a, b):
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else float("nan")


def main(ct_folder, truth_folder, files):
    ct = outputs.CtSeries(ct_folder)
    truth = pathlib.Path(truth_folder)
    known = json.loads((truth / "ground_truth_lps.json").read_text())
    seg_files, sr_files, _ = outputs.load_outputs(files)
    masks = {}
    for seg in seg_files:
        masks.update(outputs.segments(seg, ct))

    print("structures (ml)")
    for name, mask in masks.items():
        print(f"  {name:32} {mask.sum() * ct.millilitres_per_voxel():8.1f}")

    aorta_truth = outputs.on_grid_of(ct, *outputs.read_nifti(truth / "masks/aorta.nii.gz")) != 0
    aorta = next((m for n, m in masks.items() if n.lower() in ("aorta", "ascending aorta", "thoracic aorta")), None)
    heart = [m for n, m in masks.items() if any(w in n.lower() for w in ("ventric", "atri", "myocard"))]
    if aorta is None:
        print("aorta: no such segment")
    else:
        print(f"aorta Dice, whole: {dice(aorta, aorta_truth):.3f}")
        if heart and np.any(heart):
            where = np.argwhere(np.any(heart, axis=0))
            low, high = where.min(0), where.max(0) + 1
            box = tuple(slice(a, b) for a, b in zip(low, high))
            print(f"aorta Dice, inside the box of the predicted heart: {dice(aorta[box], aorta_truth[box]):.3f}")
        else:
            print("heart: not found")

    points = {}
    for sr in sr_files:
        for group in outputs.measurement_groups(sr):
            if group["points"]:
                points[f'{group["tracking"]} ({group["finding"][2]})'] = group["points"][0][0]
    print("points (LPS mm)")
    for name, point in points.items():
        print(f"  {name:60} {point[0]:8.1f} {point[1]:8.1f} {point[2]:8.1f}")
    hinges = [p for n, p in points.items() if "hinge" in n.lower() or "nadir" in n.lower()]
    annulus = np.array(known["centroids"]["annulus_proper"]["lps"])
    if hinges:
        centre = np.mean(hinges, axis=0)
        print(f"centroid of {len(hinges)} hinge point(s) to the annulus mask's centroid: "
              f"{np.linalg.norm(centre - annulus):.1f} mm")
    else:
        print("hinge points: none found")
    if len(hinges) == 3:
        level = known["landmarks"]["aorta:annulus"]
        a = np.subtract(level["end"], level["start"])
        b = np.subtract(level["end_pd"], level["start_pd"])
        true_normal = np.cross(a, b) / np.linalg.norm(np.cross(a, b))
        normal = np.cross(hinges[1] - hinges[0], hinges[2] - hinges[0])
        normal /= np.linalg.norm(normal)
        angle = np.degrees(np.arccos(min(1.0, abs(float(normal @ true_normal)))))
        print(f"annular plane: {angle:.1f} degrees off the plane of the measured annulus")
        print(f"sides of the hinge triangle: "
              + ", ".join(f"{np.linalg.norm(hinges[i] - hinges[(i + 1) % 3]):.1f} mm" for i in range(3)))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
