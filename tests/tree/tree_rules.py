#!/usr/bin/env python3
"""Proves that the tree is what its map says: which folder may include from which, that file names are
unique, that the software GPU is linked into nothing.

usage: tree_rules.py ROOT. Prints every broken rule and exits with 1 if there is one.

The rules are about directions: include <- csrc <- cli, tests, bench; kernels/arch <- kernels/parts <-
kernels. A file is judged by the folder it lies in, an include by the file it really opens.
"""
import collections
import pathlib
import re
import sys

SOURCES = {".c", ".h", ".cc", ".cu", ".cuh", ".def", ".py"}
# What host and device code share; the only files of kernels/ that others read.
SHARED_KERNEL_FILES = re.compile(r"kernels/(params(_\w+)?\.h|schedule\.h|shape\.h|[^/]+\.def)$")

# Folder -> folders that its files may include from. The longest prefix that fits a file decides.
MAY_INCLUDE = {
  "include": [],
  "csrc": ["include", "csrc", "shared kernel files"],
  "cli": ["include", "csrc", "cli"],
  "examples": ["include"],
  "layers": ["include", "layers"],
  "kernels": ["kernels"],
  "kernels/parts": ["kernels/parts", "kernels/arch", "shared kernel files"],
  "kernels/arch": ["kernels/arch"],
  "simgpu": ["simgpu"],
  "bench": ["include", "csrc", "bench", "tests/support", "shared kernel files"],
  "tests": ["include", "csrc", "cli", "tests", "shared kernel files"],
  "tests/bench": ["include", "csrc", "bench", "tests", "shared kernel files"],
  "tests/simgpu": ["simgpu", "tests", "shared kernel files"],
  # A stranger's program, that has only what is installed.
  "tests/package": ["include", "tests/package"],
}
# Where a quoted include is looked for after the folder of the file itself.
INCLUDE_PATH = ["", "include", "csrc", "cli", "kernels", "simgpu", "tests", "bench"]

# Suffixes of files that may share a name: a source, its header, its table.
BELONG_TOGETHER = ([".c", ".h"], [".c", ".def", ".h"], [".cc", ".h"], [".cu", ".cuh"])

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.MULTILINE)
LINKS = re.compile(r"target_link_libraries\s*\(([^)]*)\)")


def source_files(root):
  """The tree's own files: everything below the folders of the map, and scripts/."""
  tops = sorted({folder.split("/")[0] for folder in MAY_INCLUDE} | {"scripts"})
  for top in tops:
    for path in sorted((root / top).rglob("*")):
      if path.suffix in SOURCES and path.is_file():
        yield path.relative_to(root).as_posix()


def folder_of(name):
  folders = [folder for folder in MAY_INCLUDE if name.startswith(folder + "/")]
  return max(folders, key=len, default=None)


def resolve(root, name, target):
  """The file of the tree that an include opens, or None."""
  for base in [pathlib.PurePosixPath(name).parent.as_posix()] + INCLUDE_PATH:
    path = (root / base / target).resolve()
    if path.is_file() and path.is_relative_to(root):
      return path.relative_to(root).as_posix()
  return None


def allowed(folder, target):
  for permitted in MAY_INCLUDE[folder]:
    if permitted == "shared kernel files":
      if SHARED_KERNEL_FILES.match(target):
        return True
    elif target.startswith(permitted + "/"):
      return True
  return False


def broken_includes(root):
  for name in source_files(root):
    folder = folder_of(name)
    if folder is None or name.endswith(".py"):
      continue
    for match in INCLUDE.finditer((root / name).read_text()):
      quote, written = match.groups()
      target = resolve(root, name, written)
      if target is None and quote == '"':
        yield f"{name} includes \"{written}\", which is not in the tree"
      # <fovea.h> is how users write it; any other <name> is the system's, whatever ours are called.
      elif target and (quote == '"' or target == "include/fovea.h"):
        if not allowed(folder, target):
          yield f"{name} includes {target}: {folder}/ may not look there"


def broken_stems(root):
  """x.c and x.h belong together; otherwise a name is found once in the tree."""
  groups = collections.defaultdict(list)
  for name in source_files(root):
    groups[pathlib.PurePosixPath(name).stem].append(name)
  for stem, names in sorted(groups.items()):
    suffixes = sorted(pathlib.PurePosixPath(name).suffix for name in names)
    if len(names) > 1 and suffixes not in BELONG_TOGETHER:
      yield f"the name {stem} is used by {', '.join(names)}: give each file a name of its own"


def broken_links(root):
  for path in [root / "CMakeLists.txt"] + sorted(root.glob("*/**/CMakeLists.txt")):
    for match in LINKS.finditer(path.read_text() if path.is_file() else ""):
      target, *libraries = match.group(1).split() or [""]
      if "simgpu" in libraries and not target.startswith("simgpu"):
        yield (f"{path.relative_to(root)} links {target} to simgpu: it takes the driver's place at run "
               "time, by FOVEA_CUDA_DRIVER, and is linked into nothing")


def broken_rules(root):
  root = pathlib.Path(root).resolve()
  return [*broken_includes(root), *broken_stems(root), *broken_links(root)]


if __name__ == "__main__":
  complaints = broken_rules(sys.argv[1])
  print("\n".join(complaints) if complaints else "the tree keeps its rules")
  sys.exit(1 if complaints else 0)
