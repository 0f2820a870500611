#!/usr/bin/python3
"""What demo.sh tells: reads `cardionode ... --json` and Orthanc's REST interface. Python's standard library alone.

usage: report.py state STUDIES_JSON          key, state, number of images, last error of the newest study, by tabs
       report.py table SHOW_JSON PACS_URL    landmarks, measurements, what the PACS holds; exit code 1 when it lacks
                                             a CT, a SEG, an SR or a key image
"""
import json
import sys
import urllib.request


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def table(headings, rows, right=()):
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [headings] + rows) for i in range(len(headings))]
    for number, row in enumerate([headings] + rows):
        cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths))]
        print("  " + "  ".join(cells).rstrip())
        if number == 0:
            print("  " + "  ".join("-" * w for w in widths))


def state(file):
    with open(file, encoding="utf-8") as text:
        studies = json.load(text)
    if studies:
        newest = studies[0]
        print(newest["study"], newest["state"], newest["instances"],
              newest["last_error"].replace("\n", " ").replace("\t", " ") or "-", sep="\t")


def short(text, most):
    """Cut for the table; `cardionode show` has the whole."""
    return text if len(text) <= most else text[:most - 3].rstrip() + "..."


def landmarks(result):
    print(f'\nLandmarks, patient coordinates (L, P, S) in mm; model {result.get("model", "?")}')
    rows = []
    for point in result["landmarks"]:
        place = point.get("lps_mm") or []
        rows.append([point.get("title") or point["name"], "yes" if point["found"] else "no"]
                    + ([f"{v:.1f}" for v in place] if len(place) == 3 else ["-"] * 3)
                    + [f'{point["confidence"]:.2f}', short(point.get("reason", ""), 100)])
    table(["landmark", "found", "L", "P", "S", "confidence", "why not"], rows, right=(2, 3, 4, 5))


def measurements(result):
    print("\nMeasurements")
    rows = []
    for number in result["measurements"]:
        value = number.get("value")
        rows.append([number.get("title") or number["name"], "-" if value is None else f"{value:.1f}",
                     number.get("unit", ""), short(number.get("reason", ""), 60)])
    table(["measurement", "value", "unit", "why not"], rows, right=(1,))


def holdings(url):
    print(f"\nWhat the PACS holds ({url}/app/explorer.html)")
    rows, kinds = [], set()
    for series in get(url + "/series?expand"):
        tags = series["MainDicomTags"]
        kinds.add(tags.get("Modality", "?"))
        sop_class = urllib.request.urlopen(
            f'{url}/instances/{series["Instances"][0]}/metadata/SopClassUid', timeout=20).read().decode()
        picture = sop_class.startswith("1.2.840.10008.5.1.4.1.1.7")
        kinds |= {"key images"} if picture else set()
        rows.append([tags.get("Modality", "?") + (" (key images)" if picture else ""), len(series["Instances"]),
                     tags.get("SeriesDescription", "")])
    table(["series", "instances", "description"], sorted(rows), right=(1,))
    missing = [kind for kind in ("CT", "SEG", "SR", "key images") if kind not in kinds]
    if sum(row[0] == "CT" for row in rows) != 1:
        missing.append("exactly one CT series")
    if missing:
        print("  missing: " + ", ".join(missing))
    return not missing


def main(words):
    if len(words) == 2 and words[0] == "state":
        state(words[1])
        return 0
    if len(words) == 3 and words[0] == "table":
        with open(words[1], encoding="utf-8") as text:
            study = json.load(text)
        if not study.get("result"):
            print("The study has no result.")
            return 1
        landmarks(study["result"])
        measurements(study["result"])
        for warning in study["result"].get("warnings", []):
            print(f"  note: {warning}")
        return 0 if holdings(words[2]) else 1
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
