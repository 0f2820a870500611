#!/usr/bin/env python3
"""A header may include only what stands on a lower level (README, "How the code is laid out").

Files of one folder may include each other. Run from the project's root; prints each include that looks upwards.
"""
import pathlib
import re
import sys

LEVELS = [  # the longest matching prefix decides
    ("conf/base", 0),
    ("conf/command", 4),
    ("scp/audit", 0.5),
    ("scp/metrics", 0.5),
    ("scp/dicom", 0.5),
    ("scp/queue", 0.5),
    ("scp/store", 1),
    ("pipeline/volume", 0.5),
    ("models", 1),
    ("models/weights", 0.5),
    ("models/train", 2),
    ("pipeline/read", 1.5),
    ("pipeline/infer", 1.5),
    ("pipeline/preprocess", 1.5),
    ("pipeline", 2),
    ("pipeline/evaluate", 2.5),
    ("pipeline/prepare", 2.5),
    ("pipeline/runner", 3),
    ("scp/server", 2),
    ("fedclient/net", 1.5),
    ("fedclient/flower", 2),
    ("fedclient/privacy", 2.1),
    ("fedclient/coordinator", 2.6),
    ("fedclient/methods", 2.6),
    ("fedclient/round", 3),
    ("fedclient/simulate", 3),
    ("tests", 5),
    ("tests/support", 4.5),
]


def level_and_folder(path):
    if path.name in ("main.cpp",) or path.name.endswith("_main.cpp"):
        return 4.25, "program"  # above conf/command, whose main.cpp only calls it
    best = None
    for prefix, level in LEVELS:
        if str(path).startswith(prefix + "/") and (best is None or len(prefix) > len(best[0])):
            best = (prefix, level)
    return (best[1], str(path.parent)) if best else (None, None)


def main():
    bad = 0
    include = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
    files = [p for d in ("conf", "scp", "pipeline", "models", "fedclient", "tests")
             for p in sorted(pathlib.Path(d).rglob("*")) if p.suffix in (".h", ".cpp")]
    for path in files:
        level, folder = level_and_folder(path)
        if level is None:
            print(f"{path}: stands in no known folder")
            bad += 1
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = include.match(line)
            if not match:
                continue
            target = pathlib.Path(match.group(1))
            if not target.exists():
                continue  # generated
            other, other_folder = level_and_folder(target)
            if other_folder != folder and other is not None and other >= level:
                print(f"{path}:{number}: level {level} may not include {target} of level {other}")
                bad += 1
    print(f"{len(files)} files, {bad} includes against the levels")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
