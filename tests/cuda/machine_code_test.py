"""Checks the machine code that ptxas makes of the kernels.

usage: machine_code_test.py DEFINITION IMAGES NVCC

For each architecture in its image, the machine code of an attention row

  multiplies on tensor cores, in the row's type. For 16 rows and a tile of keys, a warp needs
    (keys / 8) * (dim / 16) products of 16 x 8 x 16 for the scores and (keys / 16) * (dim_v / 8) for the
    output. The code has at least as many HMMA instructions; the compiler may unroll further;
  copies keys and values asynchronously (LDGSTS) and reads them by ldmatrix (LDSM);
  keeps everything in registers: it never writes or reads local memory (STL, LDL).

The rows of appends and merges use no local memory, and access memory by 16 bytes. In the PTX of an append every
sum and product of f32 names its rounding, and none is fused (fma): the header rounds every operation by itself,
and ptxas fuses those that name none. Its machine code has FFMA all the same, because a quotient takes some.

The loops of attention rows keep the bars of machine_code_bars.txt, if NVCC is of the release whose bars they
are: instructions and ldmatrix per product, and warps that a multiprocessor holds. Each row has a bar.

Skipped (77) where there is no cuobjdump or no nvdisasm.
"""
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts"))
from machine_bars import bar_faults, read_bars, read_rows  # noqa: E402
from machine_listing import Unreadable, find_tools, read_kernels  # noqa: E402

OTHER_ROW = re.compile(r"^FV_[A-Z_]+_ROW\((\w+)", re.MULTILINE)
WIDE = ("LDG.E.128", "STG.E.128", "EXIT")
OTHERS = {"kv_append.def": WIDE + ("FMUL", "FADD"), "merge.def": WIDE}
EXACT = "kv_append.def"
# Sums and products that ptxas may fuse, or that are.
FUSIBLE = re.compile(r"\b(?:(?:add|sub|mul)\.(?:ftz\.|sat\.)*f32|(?:fma|mad)\.[a-z.]*f32)\b")
LOCAL = ("STL", "LDL")
ARCHITECTURES = ("sm_80", "sm_90")
PRODUCTS = {"F16": "HMMA.16816.F32", "BF16": "HMMA.16816.F32.BF16"}


def faults(found, needed):
  """What is wrong with a kernel's opcodes."""
  count = lambda start: sum(opcode == start or opcode.startswith(start + ".") for opcode in found)
  for start in needed:
    if not count(start):
      yield f"no {start}"
  for start in LOCAL:
    if count(start):
      yield f"{count(start)} instructions {start}: something lies in local memory"


def attention_faults(found, row):
  product = PRODUCTS[row["dtype"]]
  products = sum(opcode == product for opcode in found)
  needed = int(row["tile_kv"]) * (int(row["dim"]) + int(row["dim_v"])) // 128
  if products < needed:
    yield f"{products} instructions {product}, and a tile needs {needed}"
  yield from faults(found, ("LDGSTS", "LDSM", "EXIT"))


def loop_faults_of(kernel, bars, rows):
  if not any(bar.loop == "plain" for bar in bars.of(kernel)):
    yield "machine_code_bars.txt has no bar for its plain loop"
  for bar in bars.of(kernel):
    yield from bar_faults(kernel, bar, rows)


class Judge:
  """What each kernel is held to."""

  def __init__(self, definition, nvcc):
    self.rows, self.bars = read_rows(definition), read_bars()
    self.release = release_of(nvcc)
    tables = {table: OTHER_ROW.findall((definition.parent / table).read_text()) for table in OTHERS}
    self.others = {name: OTHERS[table] for table, names in tables.items() for name in names}
    self.exact = tables[EXACT]

  def judges_loops(self):
    return self.release == self.bars.compiler

  def names(self):
    return [*self.rows, *self.others]

  def faults(self, kernel):
    found = [instruction.opcode for instruction in kernel.code]
    if kernel.name in self.others:
      yield from faults(found, self.others[kernel.name])
      return
    yield from attention_faults(found, self.rows[kernel.name])
    if self.judges_loops():
      yield from loop_faults_of(kernel, self.bars, self.rows)

  def bars_of_nothing(self):
    return sorted({bar.kernel for bar in self.bars.bars} - set(self.rows))


def release_of(nvcc):
  said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
  return re.search(r"release (\S+),", said).group(1)


def fusible_faults(image, environment):
  """What ptxas may fuse in the PTX of an image."""
  tool = shutil.which("cuobjdump", path=environment["PATH"])
  ptx = subprocess.run([tool, "-ptx", image], env=environment, capture_output=True, text=True, check=True).stdout
  if "mul.rn.f32" not in ptx:
    yield "its PTX has no mul.rn.f32"
  for instruction in sorted(set(FUSIBLE.findall(ptx))):
    yield f"its PTX has {instruction}, which may be fused"


def judge_image(judge, image, environment):
  """Lines about the kernels of an image by architecture, and whether all is right."""
  try:
    kernels = {kernel.architecture: kernel for kernel in read_kernels(image, environment)}
    wrong = {name: list(judge.faults(kernels[name])) if name in kernels else ["it is not in the image"]
             for name in ARCHITECTURES}
    if image.stem in judge.exact:
      wrong[ARCHITECTURES[0]] += fusible_faults(image, environment)
  except (OSError, Unreadable) as error:
    return [f"{image}: {error}"], False
  lines = ["; ".join([f"{image.stem} {name}", *(wrong[name] or ["right"])]) for name in ARCHITECTURES]
  return lines, not any(wrong.values())


def main():
  definition, images, nvcc = map(pathlib.Path, sys.argv[1:4])
  environment = find_tools()
  if not environment:
    print("skipped: this needs cuobjdump and nvdisasm (scripts/setup fetches them from PyPI)")
    return 77
  judge = Judge(definition, nvcc)
  if not judge.rows or judge.bars_of_nothing():
    print(f"{definition} has no rows" if not judge.rows else
          f"machine_code_bars.txt has bars for what is no row: {', '.join(judge.bars_of_nothing())}")
    return 1
  if not judge.judges_loops():
    print(f"the bars are of nvcc {judge.bars.compiler}, this is {judge.release}: loops are not judged")
  right = True
  with concurrent.futures.ProcessPoolExecutor() as pool:
    asked = [pool.submit(judge_image, judge, images / f"{name}.fatbin", environment)
             for name in judge.names()]
    for answer in asked:
      lines, fine = answer.result()
      print("\n".join(lines))
      right = right and fine
  return 0 if right else 1


if __name__ == "__main__":
  sys.exit(main())
