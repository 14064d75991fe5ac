#!/usr/bin/env python3
"""Reads the header with cffi as its paragraph "Bindings" says, and computes one attention.

usage: cffi_test.py CC ROOT LIBFOVEA.so. Exit status 77: there is no cffi (Debian: python3-cffi).
"""
import json
import math
import pathlib
import re
import subprocess
import sys

try:
  import cffi
except ImportError:
  print("skipped: this needs cffi (Debian: python3-cffi)")
  sys.exit(77)


def declarations(cc, header):
  """Runs the command that the header prints, in the header's folder."""
  command = re.search(r"^ \*     (grep .* -x c -)", header.read_text(), re.MULTILINE).group(1)
  command = command.replace("| cc ", '| "$0" ')
  return subprocess.run(["sh", "-c", command, cc], cwd=header.parent, capture_output=True, text=True,
                        check=True).stdout


def check_layout(ffi, lib, description):
  """Sizes, offsets and values are the same for cffi."""
  for name, struct in description["structs"].items():
    assert ffi.sizeof(name) == struct["bytes"], f"{name} has {ffi.sizeof(name)} bytes"
    assert ffi.alignof(name) == struct["alignment"], name
    fields = dict(ffi.typeof(name).fields)
    assert list(fields) == [field["name"] for field in struct["fields"]], f"{name}: {list(fields)}"
    for field in struct["fields"]:
      seen = fields[field["name"]]
      assert seen.offset == field["offset"], f"{name}.{field['name']} lies at {seen.offset}"
      assert ffi.sizeof(seen.type) == field["bytes"], f"{name}.{field['name']}"
  for name, enum in description["enums"].items():
    assert ffi.sizeof(name) == enum["bytes"], name
    for constant, value in enum["values"].items():
      assert getattr(lib, constant) == value, constant
  for constant, value in description["constants"].items():
    assert getattr(lib, constant) == value, constant
  for name in description["functions"]:
    assert getattr(lib, name), name


def contiguous(ffi, view, data, dtype, shape):
  view.data, view.dtype, view.shape = ffi.cast("void *", data), dtype, shape
  for i in range(4):
    view.stride[i] = math.prod(shape[i + 1:])


def expected_row(q, keys, values):
  logits = [sum(a * b for a, b in zip(q, key)) / math.sqrt(len(q)) for key in keys]
  weights = [math.exp(logit) for logit in logits]
  total = sum(weights)
  row = [sum(w * v[d] for w, v in zip(weights, values)) / total for d in range(len(values[0]))]
  return row, math.log(total)


def check_attention(ffi, lib):
  """Computes 2 rows of one head over 3 keys, dim 8, causal."""
  numbers = [[math.sin(7 * row + d) for d in range(8)] for row in range(8)]
  rows, keys, values = numbers[:2], numbers[2:5], numbers[5:]
  flat = [ffi.new("float[]", sum(part, [])) for part in (rows, keys, values)]
  out, lse, handle = ffi.new("float[16]"), ffi.new("float[2]"), ffi.new("fovea_handle **")
  options = ffi.new("fovea_options *", {"struct_size": ffi.sizeof("fovea_options"), "threads": 2,
                                        "device": lib.FOVEA_DEVICE_CPU})
  assert lib.fovea_create(options, handle) == lib.FOVEA_OK, ffi.string(lib.fovea_error_detail())
  args = ffi.new("fovea_attention_args *", {"struct_size": ffi.sizeof("fovea_attention_args")})
  for view, data, seq in zip((args.q, args.k, args.v), flat, (2, 3, 3)):
    contiguous(ffi, view, data, lib.FOVEA_F32, [1, seq, 1, 8])
  contiguous(ffi, args.out, out, lib.FOVEA_F32, [1, 2, 1, 8])
  contiguous(ffi, args.lse, lse, lib.FOVEA_F32, [1, 2, 1, 1])
  args.visibility.causal = 1
  bytes_needed = ffi.new("size_t *")
  assert lib.fovea_attention_workspace_for(handle[0], args, bytes_needed) == lib.FOVEA_OK
  room = ffi.new("char[]", bytes_needed[0] + 256)
  args.workspace = ffi.cast("void *", (int(ffi.cast("uintptr_t", room)) + 255) // 256 * 256)
  args.workspace_bytes = bytes_needed[0]
  status = lib.fovea_attention(handle[0], args, ffi.NULL)
  assert status == lib.FOVEA_OK, ffi.string(lib.fovea_error_detail())
  for i in range(2):
    row, log_sum = expected_row(rows[i], keys[:i + 2], values[:i + 2])
    assert all(abs(out[8 * i + d] - row[d]) < 1e-6 for d in range(8)), f"row {i}: {list(out)} for {row}"
    assert abs(lse[i] - log_sum) < 1e-6, f"row {i}: lse {lse[i]} for {log_sum}"
  lib.fovea_destroy(handle[0])


def main(cc, root, library):
  include = pathlib.Path(root, "include")
  ffi = cffi.FFI()
  ffi.cdef(declarations(cc, include / "fovea.h"))
  lib = ffi.dlopen(library)
  check_layout(ffi, lib, json.loads((include / "fovea-abi.json").read_text()))
  check_attention(ffi, lib)
  print("cffi reads the header and computes with it")


if __name__ == "__main__":
  if len(sys.argv) != 4:
    sys.exit(__doc__)
  main(*sys.argv[1:])
