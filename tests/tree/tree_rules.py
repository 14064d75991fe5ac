#!/usr/bin/env python3
"""Proves that the tree follows its map. A room includes only from rooms that the map allows, and an
include of ours is a path from the root. A name means one thing, and a header's guard is its path.
The software GPU is linked into nothing.

usage: tree_rules.py ROOT. Prints every broken rule and exits with 1 if there is one.

A room is a folder of the map. A file belongs to the deepest room that it lies in. Dependencies have
one direction: include <- csrc <- check, host <- reference, cpu; csrc <- cuda; arch <- parts <-
kernels. The rest of the tree sees only shared/ of kernels/.
"""
import collections
import pathlib
import re
import sys

SOURCES = {".c", ".h", ".cc", ".cu", ".cuh", ".def", ".py"}

# Room -> other rooms that its files may include from. "csrc*" is every room whose name begins so.
MAY_INCLUDE = {
  "include": [],
  # The exported calls check first. They find the backends in tables, not through includes.
  "csrc": ["include", "csrc/check"],
  "csrc/check": ["include", "csrc", "kernels/shared"],
  "csrc/host": ["include", "csrc", "kernels/shared"],
  "csrc/reference": ["include", "csrc", "csrc/host", "kernels/shared"],
  "csrc/cpu": ["include", "csrc", "csrc/host", "kernels/shared"],
  "csrc/cuda": ["include", "csrc", "kernels/shared"],
  "kernels": ["kernels/parts", "kernels/arch", "kernels/shared"],
  "kernels/parts": ["kernels/arch", "kernels/shared"],
  "kernels/arch": [],
  "kernels/shared": [],
  # The program may include csrc, because its judge works on the library's checked problem.
  "cli": ["include", "cli/command", "cli/files"],
  "cli/files": ["cli"],
  "cli/input": ["include", "csrc*", "cli", "cli/files"],
  "cli/mirror": ["include", "csrc*"],
  "cli/judge": ["include", "csrc*", "cli"],
  "cli/validate": ["include", "csrc*", "cli", "cli/judge", "cli/mirror"],
  "cli/heatmap": ["include", "csrc*", "cli", "cli/files", "cli/input"],
  "cli/command": ["include", "csrc*", "kernels/shared", "cli*"],
  "layers": ["include"],
  "examples": ["include", "layers"],
  "simgpu": ["simgpu*"],
  "bench": ["include", "layers", "csrc*", "kernels/shared", "tests/support", "bench*"],
  "tests": ["include", "csrc*", "cli*", "kernels/shared", "tests*"],
  "tests/bench": ["include", "csrc*", "kernels/shared", "bench*", "tests*"],
  "tests/layers": ["include", "layers", "tests*"],
  "tests/fuzz": ["include", "csrc*", "cli*", "kernels/shared", "layers", "tests*"],
  "tests/simgpu": ["kernels/shared", "simgpu*", "tests*"],
  # A stranger's program, which has only the installed files.
  "tests/package": ["include"],
  # The judge, which tests and the benchmark share.
  "tests/support": ["include", "csrc*", "tests"],
}

# Suffixes of files that may share a name in a folder: a source, its header, its table.
BELONG_TOGETHER = ([".c", ".h"], [".c", ".def", ".h"], [".cc", ".h"], [".cu", ".cuh"])

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
DEFINE = re.compile(r"^\s*#\s*define\s+(fv_\w+)", re.MULTILINE | re.IGNORECASE)
UNDEFINE = re.compile(r"^\s*#\s*undef\s+(\w+)", re.MULTILINE)
FUNCTION = re.compile(r"^(?![\s#]|typedef|return|else)[^\n;{}=]*?\b(fv_\w+)\s*\([^;{}]*\)\s*\{", re.MULTILINE)
TYPE = re.compile(r"\b(?:struct|enum|union)\s+(fv_\w+)\s*\{")
ENUM = re.compile(r"\benum\b[^{};]*\{([^}]*)\}")
ENUMERATOR = re.compile(r"(?:^|,)\s*(FV_\w+)")
WIDTH = 100

LINKS = re.compile(r"target_link_libraries\s*\(([^)]*)\)")


def source_files(root):
  """The files of the tree: everything below the folders of the map, and scripts/."""
  tops = sorted({folder.split("/")[0] for folder in MAY_INCLUDE} | {"scripts"})
  for top in tops:
    for path in sorted((root / top).rglob("*")):
      if path.suffix in SOURCES and path.is_file():
        yield path.relative_to(root).as_posix()


def room_of(name):
  rooms = [room for room in MAY_INCLUDE if name.startswith(room + "/")]
  return max(rooms, key=len, default=None)


def allowed(room, target):
  """Whether files of the room may include `target`."""
  other = room_of(target)
  for permitted in [room, *MAY_INCLUDE[room]]:
    if other == permitted or (permitted.endswith("*") and (other or "").startswith(permitted[:-1])):
      return True
  return False


def broken_includes(root):
  for name in source_files(root):
    room = room_of(name)
    if room is None or name.endswith(".py"):
      continue
    for quote, written in INCLUDE.findall((root / name).read_text()):
      # Users write <fovea.h>. Any other <name> is the system's, unless it is a file of ours.
      target = "include/fovea.h" if written == "fovea.h" else written
      if quote == "<" and written != "fovea.h" and not (root / written).is_file():
        continue
      if written == "fovea.h" and quote == '"' or not (root / target).is_file():
        yield f'{name} includes "{written}", which is no path from the root of the tree'
      elif not allowed(room, target):
        yield f"{name} includes {target}: {room}/ may not look there"


def broken_stems(root):
  """x.c and x.h may share a name. No other two files of a folder may."""
  groups = collections.defaultdict(list)
  for name in source_files(root):
    groups[pathlib.PurePosixPath(name).with_suffix("")].append(name)
  for stem, names in sorted(groups.items()):
    suffixes = sorted(pathlib.PurePosixPath(name).suffix for name in names)
    if len(names) > 1 and suffixes not in BELONG_TOGETHER:
      yield f"the name {stem} is used by {', '.join(names)}: give each file a name of its own"


def defined_names(text):
  """The shared names that a file defines: functions, types, enumerators, macros."""
  text = COMMENT.sub(" ", text)
  names = set(DEFINE.findall(text)) - set(UNDEFINE.findall(text))
  names.update(FUNCTION.findall(text), TYPE.findall(text))
  for body in ENUM.findall(text):
    names.update(ENUMERATOR.findall(body))
  return names


def is_variant(name, text):
  """Whether a file may define names that others define: a source that is compiled once per
  instruction set, or the stand-in of a build without CUDA."""
  return ".inc.h" in name or '.inc.h"' in text or pathlib.PurePosixPath(name).name == "absent.c"


def broken_names(root):
  """A name means one thing. Host and device, library and program share one list of names."""
  places = collections.defaultdict(list)
  for name in source_files(root):
    if name.startswith("tests/") or name.endswith((".py", ".def")):
      continue
    text = (root / name).read_text()
    if not is_variant(name, text):
      for defined in defined_names(text):
        places[defined].append(name)
  for defined, names in sorted(places.items()):
    if len(names) > 1:
      yield f"{defined} is defined in {', '.join(names)}: a name means one thing"


def broken_guards(root):
  """A header's guard is its path, so no two guards are equal. A .inc.h is included repeatedly."""
  for name in source_files(root):
    if not name.endswith((".h", ".cuh")) or name.endswith(".inc.h") or name == "include/fovea.h":
      continue
    guard = "FOVEA_" + re.sub(r"[^A-Z0-9]", "_", name.upper())
    text = (root / name).read_text()
    begins = f"#ifndef {guard}\n#define {guard}\n" in text
    ends = text.endswith((f"#endif /* {guard} */\n", f"#endif  // {guard}\n"))
    if not begins or not ends:
      yield f"{name} is not guarded by {guard}, from #ifndef to #endif /* {guard} */"


def broken_lines(root):
  for name in source_files(root):
    if name.endswith((".py", ".def")):  # tables are laid out by hand
      continue
    for number, line in enumerate((root / name).read_text().splitlines(), 1):
      if len(line) > WIDTH:
        yield f"{name}:{number}: {len(line)} columns, {WIDTH} at most"


def broken_links(root):
  for path in [root / "CMakeLists.txt"] + sorted(root.glob("*/**/CMakeLists.txt")):
    for match in LINKS.finditer(path.read_text() if path.is_file() else ""):
      target, *libraries = match.group(1).split() or [""]
      if "simgpu" in libraries and not target.startswith("simgpu"):
        yield (f"{path.relative_to(root)} links {target} to simgpu: it takes the driver's place at run "
               "time, by FOVEA_CUDA_DRIVER, and is linked into nothing")


def broken_rules(root):
  root = pathlib.Path(root).resolve()
  return [*broken_includes(root), *broken_stems(root), *broken_names(root), *broken_guards(root),
          *broken_lines(root), *broken_links(root)]


if __name__ == "__main__":
  complaints = broken_rules(sys.argv[1])
  print("\n".join(complaints) if complaints else "the tree keeps its rules")
  sys.exit(1 if complaints else 0)
