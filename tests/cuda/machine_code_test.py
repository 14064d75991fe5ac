"""Checks the machine code that ptxas makes of the kernels.

usage: machine_code_test.py DEFINITION IMAGES

For each architecture in its image, the machine code of an attention row

  multiplies on tensor cores, in the row's type. For 16 rows and a tile of keys, a warp needs
    (keys / 8) * (dim / 16) products of 16 x 8 x 16 for the scores and (keys / 16) * (dim_v / 8) for the
    output. The code has at least as many HMMA instructions; the compiler may unroll further;
  copies keys and values asynchronously (LDGSTS) and reads them by ldmatrix (LDSM);
  keeps everything in registers: it never writes or reads local memory (STL, LDL).

The rows of appends and merges use no local memory, and access memory by 16 bytes. An append has no fused
multiply-add (FFMA), because every operation of RoPE is rounded by itself.

Skipped (77) where there is no cuobjdump or no nvdisasm.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROW = re.compile(r"^FV_ATTENTION_FWD_ROW\((\w+),\s*(\w+),\s*(\d+),\s*(\d+),\s*\d+,\s*(\d+)",
                 re.MULTILINE)
OTHER_ROW = re.compile(r"^FV_[A-Z_]+_ROW\((\w+)", re.MULTILINE)
WIDE = ("LDG.E.128", "STG.E.128", "EXIT")
OTHERS = {"kv_append.def": (WIDE + ("FMUL", "FADD"), ("FFMA",)), "merge.def": (WIDE, ())}
LOCAL = ("STL", "LDL")
ARCHITECTURES = ("sm_80", "sm_90")
PRODUCTS = {"F16": "HMMA.16816.F32", "BF16": "HMMA.16816.F32.BF16"}
OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P[0-9T]+\s+)?([A-Z][A-Z0-9_.]*)", re.MULTILINE)


def find_tools(root):
  """The environment in which cuobjdump finds nvdisasm; None if one is missing."""
  places = sorted((root / ".cuda").glob("lib/python3*/site-packages/nvidia/cu13/bin"))
  path = os.pathsep.join([*map(str, places), os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
  found = all(shutil.which(tool, path=path) for tool in ("cuobjdump", "nvdisasm"))
  return {**os.environ, "PATH": path} if found else None


def opcodes(image, architecture, environment):
  tool = shutil.which("cuobjdump", path=environment["PATH"])
  code = subprocess.run([tool, "-sass", "-arch", architecture, image], env=environment,
                        capture_output=True, text=True, check=True).stdout
  return OPCODE.findall(code)


def faults(found, needed, forbidden):
  """What is wrong with a kernel's opcodes."""
  count = lambda start: sum(opcode == start or opcode.startswith(start + ".") for opcode in found)
  for start in needed:
    if not count(start):
      yield f"no {start}"
  for start in forbidden:
    if count(start):
      yield f"{count(start)} instructions {start}"
  for start in LOCAL:
    if count(start):
      yield f"{count(start)} instructions {start}: something lies in local memory"


def attention_faults(found, dtype, dim, dim_v, keys):
  products = sum(opcode == PRODUCTS[dtype] for opcode in found)
  needed = keys * (dim + dim_v) // 128
  if products < needed:
    yield f"{products} instructions {PRODUCTS[dtype]}, and a tile needs {needed}"
  yield from faults(found, ("LDGSTS", "LDSM", "EXIT"), ())


def main():
  definition, images = map(pathlib.Path, sys.argv[1:3])
  environment = find_tools(definition.resolve().parents[2])
  if not environment:
    print("skipped: this needs cuobjdump and nvdisasm (scripts/setup fetches them from PyPI)")
    return 77
  rows = ROW.findall(definition.read_text())
  if not rows:
    print(f"{definition} has no rows")
    return 1
  judges = {name: lambda found, dtype=dtype, sizes=sizes: attention_faults(found, dtype,
                                                                          *map(int, sizes))
            for name, dtype, *sizes in rows}
  for table, rule in OTHERS.items():
    for name in OTHER_ROW.findall((definition.parent / table).read_text()):
      judges[name] = lambda found, rule=rule: faults(found, *rule)
  failed = False
  for name, judge in judges.items():
    for architecture in ARCHITECTURES:
      found = opcodes(images / f"{name}.fatbin", architecture, environment)
      wrong = list(judge(found))
      failed = failed or bool(wrong)
      print(f"{name} {architecture}: {len(found)} instructions", *(wrong or ["right"]), sep="; ")
  return 1 if failed else 0


sys.exit(main())
