"""What the kernels' loops are held to: tests/cuda/machine_code_bars.txt, and how it is judged.

A line is: kernel, architecture, name of the loop (see machine_loops.name_loops), most instructions and
most ldmatrix per matrix product, least warps that a multiprocessor holds.
"""
import collections
import math
import re
import typing

from machine_listing import ROOT, Unreadable
from machine_loops import count, find_loops, name_loops

TABLE = ROOT / "tests/cuda/machine_code_bars.txt"
ROWS = ROOT / "kernels/shared/attention_fwd.def"
PARAMS = ROOT / "kernels/shared/params.h"
HEADROOM = 1.05  # of renewed bars: the compiler orders code anew after any change

# A multiprocessor, by the tables of compute capabilities in the CUDA programming guide.
REGISTERS = 65536
REGISTER_UNIT = 256  # registers are given to whole warps, so many at a time
QUARTERS = 4         # each with a quarter of the registers
MOST_WARPS = 64
LANES = 32
SHARED_BYTES = {"sm_80": 164 * 1024, "sm_90": 228 * 1024}
RESERVED_BYTES = 1024  # of shared memory, for each CTA


class Bar(typing.NamedTuple):
  kernel: str
  architecture: str
  loop: str
  instructions: float
  ldmatrix: float
  warps: int


class Bars(typing.NamedTuple):
  compiler: str  # the release of nvcc whose counts these are
  bars: list

  def of(self, kernel):
    return [bar for bar in self.bars if bar[:2] == (kernel.name, kernel.architecture)]


# ---- The table ----

def read_bar(line):
  kernel, architecture, loop, instructions, ldmatrix, warps = line.split()
  return Bar(kernel, architecture, loop, float(instructions), float(ldmatrix), int(warps))


def read_bars(path=TABLE):
  """The table; every bar of a kernel and loop is there once."""
  compiler, bars = "", {}
  for number, line in enumerate(path.read_text().splitlines(), 1):
    line = line.partition("#")[0].strip()
    if line.startswith("nvcc "):
      compiler = line.partition(" ")[2]
    elif line:
      try:
        bar = read_bar(line)
      except ValueError as error:
        raise Unreadable(f"line {number} is no bar: {line}") from error
      if bar[:3] in bars:
        raise Unreadable(f"line {number} is a second bar for {' '.join(bar[:3])}")
      bars[bar[:3]] = bar
  return Bars(compiler, list(bars.values()))


def write_bars(path, bars):
  """Puts the bars in place of those in the table, and keeps its comments and its compiler."""
  kept = [line for line in path.read_text().splitlines() if line.startswith(("#", "nvcc ")) or not line]
  width = max(len(bar.kernel) for bar in bars)
  lines = [f"{kernel:{width}} {architecture} {loop} {instructions:6.2f} {ldmatrix:5.2f} {warps:3}"
           for kernel, architecture, loop, instructions, ldmatrix, warps in bars]
  path.write_text("\n".join(kept + lines) + "\n")


# ---- Warps ----

def read_rows(path=ROWS):
  """The rows of a table of kernels by name, each as {column: entry}. Its comment names the columns."""
  text = path.read_text()
  columns, *rows = (re.split(r"\s*,\s*", entries) for entries in
                    re.findall(r"^(?: \* )?FV_ATTENTION_FWD_ROW\(([^)]*)\)", text, re.MULTILINE))
  return {row[0]: dict(zip(columns, row)) for row in rows}


def shared_bytes(row, params=PARAMS):
  """Shared memory of a row, by FV_ATTENTION_SHARED_BYTES as the header has it."""
  text = params.read_text().replace("\\\n", " ")
  names = {name: int(value) for name, value in re.findall(r"\b(FV_\w+) = (\d+)\b", text)}
  names["__builtins__"] = {}
  # A macro of arithmetic means the same in Python.
  macros = {name: (arguments, body)
            for name, arguments, body in re.findall(r"#define (FV_\w+)\(([^)]*)\)(.*)", text)}
  for name, (arguments, body) in macros.items():
    names[name] = eval(f"lambda {arguments}: ({body})", names)  # pylint: disable=eval-used  # our own header
  wanted = macros["FV_ATTENTION_SHARED_BYTES"][0].split(", ")
  return names["FV_ATTENTION_SHARED_BYTES"](*(int(row[name]) for name in wanted))


def warps_by_registers(registers):
  """Warps that the registers of a multiprocessor suffice for."""
  warp = math.ceil(registers * LANES / REGISTER_UNIT) * REGISTER_UNIT
  return min(MOST_WARPS, REGISTERS // QUARTERS // warp * QUARTERS)


def resident_warps(registers, row, architecture):
  """Warps of a kernel row that a multiprocessor holds, in whole CTAs."""
  warps = int(row["warps"])
  by_shared = SHARED_BYTES[architecture.rstrip("a")] // (shared_bytes(row) + RESERVED_BYTES)
  return min(warps_by_registers(registers) // warps, by_shared) * warps


# ---- The judgement ----

def find_named(kernel):
  """The kernel's loops with products by what bars call them."""
  loops, named = find_loops(kernel).loops, collections.defaultdict(list)
  for loop, name in zip(loops, name_loops(loops)):
    named[name].append(loop)
  return named


def loop_faults(loop, bar):
  counted = count(loop)
  for what, number, most in (("instructions", len(loop.path), bar.instructions),
                             ("ldmatrix", counted["ldmatrix"], bar.ldmatrix)):
    found = number / counted["products"]
    if found > most:
      yield f"{found:.3f} {what} per product in the {bar.loop} loop at {loop.header:#x}, {most:.2f} at most"


def bar_faults(kernel, bar, rows):
  """What of a kernel exceeds its bar."""
  loops = find_named(kernel)[bar.loop]
  if not loops:
    yield f"it has no {bar.loop} loop"
  for loop in loops:
    yield from loop_faults(loop, bar)
  if kernel.registers is None or bar.kernel not in rows:
    return
  warps = resident_warps(kernel.registers, rows[bar.kernel], kernel.architecture)
  if warps < bar.warps:
    yield f"{kernel.registers} registers let {warps} warps be resident, {bar.warps} at least"


def set_bar(kernel, row, name):
  """A bar a little above what the kernel's loops of a name have; None if it has none."""
  loops = [(len(loop.path), count(loop)) for loop in find_named(kernel)[name]]
  if not loops:
    return None
  up = lambda figures: math.ceil(100 * HEADROOM * max(figures)) / 100
  return Bar(kernel.name, kernel.architecture, name,
             up(instructions / counted["products"] for instructions, counted in loops),
             up(counted["ldmatrix"] / counted["products"] for _, counted in loops),
             resident_warps(kernel.registers, row, kernel.architecture))


def renew_bars(table, kernels, rows):
  """The bars of a table, with those of the kernels as they are now: of plain loops, and of the loops that
  had bars. In the order of the rows."""
  bars = {bar[:3]: bar for bar in table.bars}
  for kernel in kernels:
    names = {"plain", *(bar.loop for bar in table.of(kernel))}
    for name in names if kernel.name in rows else ():
      bars[kernel.name, kernel.architecture, name] = set_bar(kernel, rows[kernel.name], name)
  order = list(rows)
  kept = (bar for bar in bars.values() if bar and bar.kernel in rows)
  return sorted(kept, key=lambda bar: (order.index(bar.kernel), bar.architecture, -bar.instructions))
