#!/usr/bin/env python3
"""Writes and reads files of weights. `weights.py FILE` lists what a file holds.

  fovea-weights 1                   the first line: the format and its version
  name dtype dim0 dim1 ...          one line per tensor; dtype is f32 or f16 (IEEE 754), dim0 outermost
                                    an empty line ends the header

Then zero bytes up to the next multiple of 64, counted from the start of the file, and the tensors' elements
in the order of their lines: little-endian, dense, the last dimension fastest. Each tensor begins at the next
multiple of 64 after the end of the one before, with zero bytes between. The file ends with its last element.
"""
import sys

import numpy as np

MAGIC = "fovea-weights 1"
ALIGNMENT = 64  # a cache line, so that a mapped file can be used where it lies
DTYPES = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2")}


def align(offset):
  return -(-offset // ALIGNMENT) * ALIGNMENT


def word_for(dtype):
  return next(word for word, known in DTYPES.items() if known == dtype)


def write(path, tensors):
  """Writes a dict of names and numpy arrays (float32 or float16, at least one dimension), in its order."""
  lines = [MAGIC]
  for name, array in tensors.items():
    assert " " not in name and array.ndim > 0 and array.size > 0
    lines.append(" ".join([name, word_for(array.dtype), *map(str, array.shape)]))
  contents = bytearray("\n".join(lines).encode("ascii") + b"\n\n")
  for array in tensors.values():
    contents.extend(bytes(align(len(contents)) - len(contents)))
    contents.extend(np.ascontiguousarray(array).tobytes())
  with open(path, "wb") as file:
    file.write(contents)


def read_header(contents):
  """Name, dtype, shape and offset of each tensor."""
  end = contents.find(b"\n\n")
  lines = contents[:max(end, 0)].decode("ascii").split("\n")
  if lines[0] != MAGIC:
    raise SystemExit(f"no file of weights: it does not begin with the line {MAGIC}")
  offset, found = end + 2, []
  for line in lines[1:]:
    name, word, *dims = line.split(" ")
    shape = tuple(map(int, dims))
    offset = align(offset)
    found.append((name, DTYPES[word], shape, offset))
    offset += DTYPES[word].itemsize * int(np.prod(shape))
  if offset != len(contents):
    raise SystemExit(f"the file of weights has {len(contents)} bytes, its header says {offset}")
  return found


def read(path):
  """The tensors of a file, in double precision."""
  with open(path, "rb") as file:
    contents = file.read()
  return {name: np.frombuffer(contents, dtype, int(np.prod(shape)), offset).reshape(shape).astype(np.float64)
          for name, dtype, shape, offset in read_header(contents)}


if __name__ == "__main__":
  with open(sys.argv[1], "rb") as listed:
    for tensor, kind, extents, start in read_header(listed.read()):
      print(f"{start:9} {word_for(kind)} {tensor} {list(extents)}")
