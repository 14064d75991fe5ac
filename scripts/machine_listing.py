"""Kernels as machine code: what cuobjdump lists of a file, read into instructions.

A file is a fatbin, a cubin, a program or library with kernels, or a listing that `cuobjdump -sass` printed.
Where a library keeps fatbins as plain data, as libfovea.so does, cuobjdump finds none: they are cut out
by the number that they begin with, and by the length that stands behind it.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent

FATBIN_MAGIC = (0xBA55ED50).to_bytes(4, "little")
FATBIN_HEADER = 16  # magic, version (2 bytes), length of the header (2), length of what follows (8)
ELF_MAGIC = b"\x7fELF"

LONGEST_WORD = 100000  # of a command line, with room below Linux's 131072

INSTRUCTION_BYTES = 16  # since sm_70
ARCHITECTURE = re.compile(r"\s*(?:code for|arch =) (sm_\w+)\s*$")
FUNCTION = re.compile(r"\s*Function : (\S+)\s*$")
ADDRESS = re.compile(r"\s*/\*([0-9a-f]{4,})\*/")
INSTRUCTION = re.compile(r"\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P[0-9T]+)\s+)?([A-Z][\w.]*)\s*([^;]*?)\s*;")
END = re.compile(r"\s*\.{6,}\s*$")
USED_BY = re.compile(r"\s*Function (\S+):\s*$")
REGISTERS = re.compile(r"\s*REG:(\d+)\b")


class Unreadable(Exception):
  """The input is not what it should be. The text says where and why."""


class Instruction(typing.NamedTuple):
  address: int
  guard: str     # the predicate behind the @, as "!P0"; empty if there is none
  opcode: str    # with its modifiers
  operands: str

  @property
  def name(self):
    return self.opcode.partition(".")[0]


class Wanted(typing.NamedTuple):
  """Which kernels of a file: those whose names have the pattern in them, of some architectures or all."""
  pattern: str = ""
  architectures: tuple = ()

  def holds(self, name, architecture):
    return bool(re.search(self.pattern, name)) and architecture in (self.architectures or (architecture,))


ALL = Wanted()


class Kernel(typing.NamedTuple):
  name: str
  architecture: str
  code: list
  registers: typing.Optional[int] = None  # of a thread; a bare listing does not say it


def find_tools():
  """The environment in which cuobjdump finds nvdisasm; None if one is missing."""
  places = sorted((ROOT / ".cuda").glob("lib/python3*/site-packages/nvidia/cu13/bin"))
  path = os.pathsep.join([*map(str, places), os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
  found = all(shutil.which(tool, path=path) for tool in ("cuobjdump", "nvdisasm"))
  return {**os.environ, "PATH": path} if found else None


def close_function(name, architecture, code):
  """The kernel, once its listing has ended."""
  for before, after in zip(code, code[1:]):
    if after.address != before.address + INSTRUCTION_BYTES:
      raise Unreadable(f"{name}: after {before.address:#x} comes {after.address:#x}: lines are missing")
  if not code:
    raise Unreadable(f"{name}: the listing has no instructions")
  return Kernel(name, architecture, code)


def read_instruction(line, number):
  found = INSTRUCTION.match(line)
  if not found:
    raise Unreadable(f"line {number} is no whole instruction: {line.strip()[:60]}")
  address, guard, opcode, operands = found.groups()
  return Instruction(int(address, 16), guard or "", opcode, operands)


def read_listing(lines, wanted=ALL):
  """Yields the wanted kernels of a listing."""
  architecture, name, code = "", None, None
  for number, line in enumerate(lines, 1):
    if code is not None and ADDRESS.match(line):
      code.append(read_instruction(line, number))
    elif ARCHITECTURE.match(line):
      architecture = ARCHITECTURE.match(line).group(1)
    elif END.match(line):
      if code is not None:
        yield close_function(name, architecture, code)
      name, code = None, None
    elif FUNCTION.match(line):
      if name:
        raise Unreadable(f"{name}: the listing ends early, before line {number}")
      name = FUNCTION.match(line).group(1)
      code = [] if wanted.holds(name, architecture) else None
  if name:
    raise Unreadable(f"{name}: the listing ends early: no line of dots closes it")


def read_registers(text):
  """Registers by (name, architecture), from cuobjdump -res-usage."""
  architecture, name, found = "", "", {}
  for line in text.splitlines():
    if ARCHITECTURE.match(line):
      architecture = ARCHITECTURE.match(line).group(1)
    elif USED_BY.match(line):
      name = USED_BY.match(line).group(1)
    elif REGISTERS.match(line):
      found[name, architecture] = int(REGISTERS.match(line).group(1))
  return found


def choose(wanted, names):
  """Options of cuobjdump that leave out most of what is not wanted; the listing is searched anyway."""
  options = ["-arch", *wanted.architectures] if len(wanted.architectures) == 1 else []
  listed = ",".join(sorted(names))
  return options + (["-fun", listed] if len(listed) < LONGEST_WORD else [])


def dump(path, environment, wanted):
  """The wanted kernels that cuobjdump finds in a file."""
  tool = shutil.which("cuobjdump", path=environment["PATH"])
  used = subprocess.run([tool, "-res-usage", path], env=environment, capture_output=True, text=True,
                        check=False)
  registers = read_registers(used.stdout)
  names = {name for name, architecture in registers if wanted.holds(name, architecture)}
  if not names:
    return []
  with tempfile.TemporaryFile("w+") as said:  # a warning for each name in each part of the file
    with subprocess.Popen([tool, "-sass", *choose(wanted, names), path], env=environment,
                          stdout=subprocess.PIPE, stderr=said, text=True) as run:
      kernels = list(read_listing(run.stdout, wanted))
    said.seek(0)
    if run.returncode:
      raise Unreadable(f"cuobjdump fails: {said.read().strip()[:500]}")
  return [kernel._replace(registers=registers.get((kernel.name, kernel.architecture))) for kernel in kernels]


def cut_fatbins(data):
  """The fatbins that lie in data, whole ones alone."""
  at = data.find(FATBIN_MAGIC)
  while at >= 0:
    header = int.from_bytes(data[at + 6:at + 8], "little")
    end = at + header + int.from_bytes(data[at + 8:at + FATBIN_HEADER], "little")
    if header == FATBIN_HEADER and end <= len(data):
      yield data[at:end]
    at = data.find(FATBIN_MAGIC, at + 1)


def dump_embedded(data, environment, wanted):
  """The wanted kernels of the fatbins that lie in data."""
  kernels = []
  with tempfile.TemporaryDirectory() as folder:
    for number, image in enumerate(cut_fatbins(data)):
      path = pathlib.Path(folder, f"{number}.fatbin")
      path.write_bytes(image)
      kernels += dump(path, environment, wanted)
  return kernels


def read_kernels(path, environment, wanted=ALL):
  """The wanted kernels of a file. environment: see find_tools."""
  data = pathlib.Path(path).read_bytes()
  if data.startswith((FATBIN_MAGIC, ELF_MAGIC)):
    return dump(path, environment, wanted) or dump_embedded(data, environment, wanted)
  text = data.decode(errors="replace")
  if not re.search(FUNCTION.pattern, text, re.MULTILINE):
    raise Unreadable("neither a fatbin, nor a cubin, nor a library, nor a listing by cuobjdump -sass")
  return list(read_listing(text.splitlines(), wanted))


def needs_tools(path):
  """Whether the file is binary, so that cuobjdump must read it."""
  with open(path, "rb") as file:
    return file.read(4) in (FATBIN_MAGIC, ELF_MAGIC)
