#!/usr/bin/python3
"""What fed.sh tells. Python's standard library alone.

usage: fed_report.py progress STATUS_JSON               the coordinator's rounds, a line for each state they are in
       fed_report.py table FOLDER ROUNDS PLOT HOSPITAL...  FOLDER/HOSPITAL.json is `cardionode fed history --json`, and
                                                        FOLDER/coordinator.json the coordinator's status. Exit code 1
                                                        unless all rounds are done and the model is better
"""
import json
import sys
from pathlib import Path

import plot
from report import table

NOT_FOUND_MM = 100  # what the validation says for a point that was not found
WORST_MM = 40  # what it counts in the picture


def load(file):
    with open(file, encoding="utf-8") as text:
        return json.load(text)


def progress(file):
    status = load(file)
    for entry in status["rounds"]:
        counts = {phase: f'{sum(site["state"] == "result" for site in entry[phase])} of {len(entry[phase])}'
                  for phase in ("train", "evaluate")}
        words = {"gathering": "waits for the hospitals", "training": f'{counts["train"]} updates are here',
                 "aggregating": "averages the updates", "evaluating": f'validated by {counts["evaluate"]}',
                 "done": "new global model", "kept_old": "the old model is kept", "skipped": "skipped"}
        print(f'round {entry["round"]}: {words.get(entry["state"], entry["state"])}'
              + (f', {entry["reason"]}' if entry["reason"] else ""))


def reached(history, rounds):
    """Head -> value after 0, 1, ... rounds: of the model as pulled for training, then of each new one."""
    values = {}
    for message in history:
        place = message["round"] - 1 if message["type"] == "train" else message["round"]
        validation = message.get("before")
        if not validation or not 0 <= place <= rounds:
            continue
        for kind in ("dice", "point_mm"):
            for head, value in (validation.get(kind) or {}).items():
                row = values.setdefault((kind, head), [None] * (rounds + 1))
                row[place] = value if isinstance(value, (int, float)) else float("inf")
    return values


def number(kind, value):
    if value is None:
        return "-"
    if kind == "point_mm" and value >= NOT_FOUND_MM:
        return "not found"
    return f"{value:.3f}" if kind == "dice" else f"{value:.1f} mm"


def show(folder, rounds, picture, hospitals):
    status = load(Path(folder) / "coordinator.json")
    histories = {hospital: load(Path(folder) / f"{hospital}.json") for hospital in hospitals}
    names = ["before"] + [f"round {n}" for n in range(1, rounds + 1)]
    print("\nThe global model on patients that nobody trained on, in each hospital")
    rows, better, worse = [], 0, 0
    panels = {"dice": [], "point_mm": []}
    for hospital, history in histories.items():
        for (kind, head), values in sorted(reached(history, rounds).items()):
            rows.append([hospital, head, "Dice" if kind == "dice" else "median error"]
                        + [number(kind, value) for value in values])
            first, last = values[0], values[-1]
            if first is not None and last is not None:
                gain = last - first if kind == "dice" else first - last
                better += gain > 0
                worse += gain < 0
            shown = [None if v is None else min(v, WORST_MM) if kind == "point_mm" else v for v in values]
            panels[kind].append((f"{head}, {hospital}", shown))
    table(["hospital", "head", "measure"] + names, rows, right=range(3, 4 + rounds))
    print("\nWhat the hospitals sent")
    sent = []
    for hospital, history in histories.items():
        for message in sorted(history, key=lambda m: (m["round"], m["type"] != "train")):
            if message["type"] == "train":
                labels = ", ".join(f"{head} {count}" for head, count in sorted(message["labelled"].items()) if count)
                sent.append([hospital, message["round"], message["patients"], labels or "-", message["steps"],
                             f'{message["train_seconds"]:.0f} s', f'{message["bytes_received"] / 1e6:.1f} MB',
                             f'{message["bytes_sent"] / 1e6:.1f} MB', message["reason"] or message["state"]])
    table(["hospital", "round", "patients", "labels", "steps", "learned in", "received", "sent", "outcome"], sent,
          right=(1, 2, 4, 5, 6, 7))
    states = [entry["state"] for entry in status["rounds"]]
    panels = [(title, panels[kind]) for kind, title in (("dice", "Dice"), ("point_mm", "Median error of points, mm"))
              if panels[kind]]
    if panels:
        plot.write(picture, panels, names)
        print(f"\nPicture: {picture}")
    done = states == ["done"] * rounds
    if not done:
        print(f"\nThe rounds ended as: {', '.join(states)}")
    if not better or worse:
        print(f"\n{better} measures became better, {worse} worse.")
    return 0 if done and better and not worse else 1


def main(words):
    if len(words) == 2 and words[0] == "progress":
        progress(words[1])
        return 0
    if len(words) >= 5 and words[0] == "table":
        return show(words[1], int(words[2]), words[3], words[4:])
    sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
