"""Prints the table of scripts/demo.

usage: demo_table.py FOLDER_OF_INPUTS FOLDER_OF_REPORTS [DTYPE]...

For each DTYPE, each input has a further report, INPUT.simulated-DTYPE.json. It is of the CUDA kernels on
the software GPU, whose times mean nothing and are not shown.

The shapes come from the inputs' headers, everything else from the reports of `fovea run --json`.
Exits with 1 if a report is missing, unreadable or not a pass.
"""
import json
import pathlib
import sys

COLUMNS = ["file", "batch x heads x queries x dim", "device", "time", "worst", "verdict"]


def shape_of(path):
  with open(path, "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
  return " x ".join(str(size) for size in header["q"]["shape"])


def row_of(path, report_path, dtype=None):
  row = [path.name + (f" in {dtype}" if dtype else ""), shape_of(path)]
  try:
    report = json.loads(report_path.read_text())
  except (OSError, ValueError):
    return row + ["", "", "", "NO RESULT"]
  worst = max(report["worst"].items(), key=lambda item: item[1], default=None)
  # A report that compared nothing is not a pass: the demo's inputs all have expected results.
  verdict = "ok" if report["pass"] and report["compared"] and worst else "WRONG"
  device, time = report["device"], f"{report['seconds'] * 1e3:.2f} ms"
  if dtype:
    device, time = device + ", simulated", "-"
  return row + [device, time,
                f"{worst[1]:.3f} ({worst[0]})" if worst else "", verdict]


def main():
  inputs, reports = map(pathlib.Path, sys.argv[1:3])
  dtypes = sys.argv[3:]
  rows = [row_of(path, reports / (path.stem + ".json"))
          for path in sorted(inputs.glob("*.safetensors"))]
  rows += [row_of(path, reports / f"{path.stem}.simulated-{dtype}.json", dtype)
           for path in sorted(inputs.glob("*.safetensors")) for dtype in dtypes]
  widths = [max(map(len, column)) for column in zip(COLUMNS, *rows)]
  for row in [COLUMNS] + rows:
    print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
  sys.exit(0 if rows and all(row[-1] == "ok" for row in rows) else 1)


main()
