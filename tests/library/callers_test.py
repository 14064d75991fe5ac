#!/usr/bin/env python3
"""Calls the library as programs compiled with each release's header do.

usage: callers_test.py ROOT LIBFOVEA.so

The structs have the layout and the size of the release's description, and end where memory ends. So
a byte read or written past one ends this program. Structs of arguments are read-only. Then come
structs of future headers, which are larger than today's.
"""
import ctypes
import faulthandler
import json
import math
import mmap
import pathlib
import sys

PAGE = mmap.PAGESIZE
FILL = 0xAA
OK, BAD_ARGUMENT, LARGEST = 0, 1, 4096
PLAIN = {"size_t": ctypes.c_size_t, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32,
         "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "float": ctypes.c_float,
         "char": ctypes.c_char, "fovea_status": ctypes.c_uint32, "void": None,
         "const char *": ctypes.c_char_p}

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Memory:
  """Two pages, and behind them one that may not be touched."""

  def __init__(self):
    self.base = libc.mmap(None, 3 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE,
                          mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    self.end = self.base + 2 * PAGE
    self.protect(self.end, PAGE, 0)

  @staticmethod
  def protect(address, size, rights):
    if libc.mprotect(address, size, rights) != 0:
      raise OSError(ctypes.get_errno(), "mprotect")

  def put(self, data, writable=False, alignment=8):
    """Places bytes as near the end as the alignment allows. Returns the address."""
    data = bytes(data)
    self.protect(self.base, 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE)
    ctypes.memset(self.base, FILL, 2 * PAGE)
    address = (self.end - len(data)) // alignment * alignment
    ctypes.memmove(address, data, len(data))
    if not writable:
      self.protect(self.base, 2 * PAGE, mmap.PROT_READ)
    return address


class Release:
  """The structs of one description, for ctypes."""

  def __init__(self, description):
    self.structs, self.description = {}, description
    for name, struct in description["structs"].items():
      fields = [(field["name"], self.type_of(field)) for field in struct["fields"]]
      made = type(name, (ctypes.Structure,), {"_fields_": fields})
      assert ctypes.sizeof(made) == struct["bytes"], name
      for field in struct["fields"]:
        assert getattr(made, field["name"]).offset == field["offset"], (name, field)
      self.structs[name] = made

  def type_of(self, field):
    kind = field["type"]
    base = PLAIN.get(kind) or self.structs.get(kind) or ctypes.c_void_p
    return ctypes.c_void_p if kind.endswith("*") else base * field["count"] if "count" in field else base

  def size(self, struct):
    return self.description["structs"][struct]["bytes"]

  def new(self, struct, **fields):
    made = self.structs[struct](**fields)
    if hasattr(made, "struct_size"):
      made.struct_size = self.size(struct)
    return made

  def view(self, array, *shape):
    strides = [math.prod(shape[i + 1:]) for i in range(4)]
    return self.new("fovea_tensor", data=ctypes.addressof(array), dtype=1, shape=shape, stride=tuple(strides))


class Library:
  """The exported functions with the types of a description."""

  def __init__(self, path, description):
    self.loaded, self.called = ctypes.CDLL(path), set()
    for name, function in description["functions"].items():
      entry = getattr(self.loaded, name)
      entry.restype = PLAIN.get(function["returns"], ctypes.c_void_p)
      entry.argtypes = [PLAIN.get(one["type"], ctypes.c_void_p) for one in function["parameters"]]

  def call(self, name, *arguments):
    self.called.add(name)
    return getattr(self.loaded, name)(*arguments)

  def detail(self):
    return self.loaded.fovea_error_detail().decode()


def floats(*numbers):
  return (ctypes.c_float * len(numbers))(*numbers)


def near(array, numbers):
  return all(abs(one - other) < 1e-5 for one, other in zip(array, numbers))


class Scene:
  """One small problem for every call, with its results: the second key weighs twice the first."""

  def __init__(self, release, library, device):
    self.release, self.library = release, library
    self.q, self.k = floats(*[1] * 8), floats(*[0] * 8, *[math.log(2)] * 8)
    self.v, self.out, self.lse = floats(*[3] * 8, *[6] * 8), floats(*[0] * 8), floats(0)
    self.weights, self.cache = floats(0, 0), floats(*[0] * 16)
    self.lengths = (ctypes.c_int32 * 1)(1)
    self.pair = (release.structs["fovea_tensor"] * 2)()
    self.lses = (release.structs["fovea_tensor"] * 2)()
    self.parts = [floats(*[1] * 8), floats(*[2] * 8), floats(0), floats(0)]
    self.memory = {name: Memory() for name in ("args", "result", "detail", "attention")}
    self.text, self.size = ctypes.create_string_buffer(2000), ctypes.c_size_t(0)
    self.workspace = ctypes.create_string_buffer(1 << 20)
    self.options = release.new("fovea_options", device=device, threads=1)
    self.handle = self.open(self.memory["args"].put(self.options))
    assert self.handle, library.detail()
    room = (ctypes.addressof(self.workspace) + 255) // 256 * 256
    view = release.view
    self.attention = release.new(
      "fovea_attention_args", q=view(self.q, 1, 1, 1, 8), k=view(self.k, 1, 2, 1, 8),
      v=view(self.v, 1, 2, 1, 8), out=view(self.out, 1, 1, 1, 8), lse=view(self.lse, 1, 1, 1, 1),
      workspace=room, workspace_bytes=len(self.workspace) - 256)
    self.attention.logits.scale = 1 / 8
    for n in range(2):
      self.pair[n], self.lses[n] = view(self.parts[n], 1, 1, 1, 8), view(self.parts[2 + n], 1, 1, 1, 1)

  def open(self, options):
    handle = ctypes.c_void_p(0)
    status = self.library.call("fovea_create", options, ctypes.addressof(handle))
    self.created = status
    return handle.value

  def create(self, options):
    handle = self.open(options)
    if handle:
      self.library.call("fovea_destroy", handle)
    return self.created

  def arguments(self, struct):
    new, view = self.release.new, self.release.view
    if struct == "fovea_options":
      return self.options
    if struct == "fovea_limits":
      return new(struct, heads_q=1, heads_kv=1, sequences=1, total_q=1, len_kv=2)
    if struct == "fovea_attention_args":
      return self.attention
    if struct == "fovea_weights_args":
      return new(struct, attention=self.memory["attention"].put(self.attention),
                 weights=view(self.weights, 1, 1, 1, 2))
    if struct == "fovea_merge_args":
      return new(struct, count=2, outs=ctypes.addressof(self.pair), lses=ctypes.addressof(self.lses),
                 out=view(self.out, 1, 1, 1, 8), lse=view(self.lse, 1, 1, 1, 1))
    args = new(struct, k_new=view(self.q, 1, 1, 1, 8), k_cache=view(self.cache, 1, 2, 1, 8))
    args.sequences.kv_lengths = ctypes.addressof(self.lengths)
    return args

  def reset(self):
    for array in (self.out, self.lse, self.weights, self.cache):
      ctypes.memset(array, FILL, ctypes.sizeof(array))

  def untouched(self):
    return all(set(bytes(array)) == {FILL} for array in (self.out, self.lse, self.weights, self.cache))

  def right(self, function):
    """Whether the results of a call are right."""
    if function == "fovea_attention":
      return near(self.out, [5] * 8) and near(self.lse, [math.log(3)])
    if function == "fovea_attention_weights":
      return near(self.weights, [1 / 3, 2 / 3])
    if function == "fovea_merge":
      return near(self.out, [1.5] * 8) and near(self.lse, [math.log(2)])
    if function == "fovea_kv_append":
      return near(self.cache[8:], [1] * 8)
    return self.untouched()

  def run(self, function, args):
    """Calls a function with the arguments at this address."""
    if function == "fovea_create":
      return self.create(args)
    if function.endswith("_support"):
      result = self.memory["result"].put(self.release.new("fovea_support"), writable=True)
      return self.library.call(function, self.handle, args, result)
    if function == "fovea_attention_explain":
      return self.library.call(function, self.handle, args, ctypes.addressof(self.text), len(self.text))
    if "workspace" in function:
      return self.library.call(function, self.handle, args, ctypes.addressof(self.size))
    if function == "fovea_prepare":
      return self.library.call(function, self.handle, args)
    return self.library.call(function, self.handle, args, None)


TAKES = {
  "fovea_options": ["fovea_create"],
  "fovea_limits": ["fovea_attention_workspace", "fovea_prepare"],
  "fovea_attention_args": ["fovea_attention", "fovea_attention_support", "fovea_attention_explain",
                           "fovea_attention_workspace_for"],
  "fovea_weights_args": ["fovea_attention_weights", "fovea_attention_weights_support"],
  "fovea_merge_args": ["fovea_merge", "fovea_merge_support"],
  "fovea_kv_append_args": ["fovea_kv_append", "fovea_kv_append_support"],
}


def expect(condition, *words):
  if not condition:
    raise SystemExit("callers_test: " + " ".join(map(str, words)))


def sized(struct, size):
  """The bytes of a struct that says it has `size` bytes."""
  data = bytearray(struct)
  data[0:8] = size.to_bytes(8, sys.byteorder)
  return data[:max(size, 8)] + bytes(max(0, size - len(data)))


def try_accepted(scene, struct, function, now):
  """Structs as released, and structs grown past today's with zeros, are accepted."""
  for size in (scene.release.size(struct), now + 1, now + 8, now + 1000, LARGEST):
    scene.reset()
    args = scene.memory["args"].put(sized(scene.arguments(struct), size))
    status = scene.run(function, args)
    expect(status == OK, function, "with", size, "bytes:", scene.library.detail())
    expect(scene.right(function), function, "with", size, "bytes is wrong")


def try_unknown_bytes(scene, struct, function, now):
  """A struct that uses a field that this library does not know is refused."""
  for size, byte in ((now + 1, now), (now + 64, now), (now + 64, now + 63), (LARGEST, LARGEST - 1)):
    scene.reset()
    data = sized(scene.arguments(struct), size)
    data[byte] = 1
    status = scene.run(function, scene.memory["args"].put(data))
    expect(status == BAD_ARGUMENT, function, "takes byte", byte, "of", size)
    expect(f"byte {byte} is not 0" in scene.library.detail(), function, scene.library.detail())
    expect(scene.untouched(), function, "has written")


def try_wrong_sizes(scene, struct, function, first):
  """Sizes that no release had are refused. As the place of detail is unknown, it is not used."""
  for size in (0, 1, 8, first // 2, first - 1, LARGEST + 1, 2**64 - 1):
    scene.reset()
    args = scene.arguments(struct)
    detail = scene.memory["detail"].put(bytes([FILL] * 64))  # it cannot be written to
    if hasattr(args, "detail"):
      args.detail, args.detail_bytes = detail, 64
    data = sized(args, min(size, LARGEST + 1))
    data[0:8] = size.to_bytes(8, sys.byteorder)
    status = scene.run(function, scene.memory["args"].put(data))
    if hasattr(args, "detail"):
      args.detail, args.detail_bytes = None, 0
    expect(status == BAD_ARGUMENT, function, "takes", size, "bytes")
    expect(f"{struct}.struct_size is {size}" in scene.library.detail(), function, scene.library.detail())
    expect(scene.untouched(), function, "has written")


def broken_call(scene, struct, function, size, room):
  """Breaks a rule, with `room` bytes for the detail. Returns those bytes as the call left them."""
  args = scene.arguments(struct)
  target = scene.attention if struct == "fovea_weights_args" else args
  field, value = ("count", 1) if struct == "fovea_merge_args" else ("flags", 128)
  before = getattr(target, field)
  detail = scene.memory["detail"].put(bytes([FILL] * room), writable=True, alignment=1)
  target.detail, target.detail_bytes = detail, room
  setattr(target, field, value)
  if target is not args:
    args = scene.arguments(struct)
  status = scene.run(function, scene.memory["args"].put(sized(args, size)))
  target.detail, target.detail_bytes = None, 0
  setattr(target, field, before)
  expect(status == BAD_ARGUMENT, function, "takes", field, "of", value)
  expect(scene.library.detail().startswith(field), scene.library.detail())
  return ctypes.string_at(detail, room)


def try_detail(scene, struct, function, now):
  """Details are right in buffers of any length, for structs as released and for larger ones."""
  for size in (scene.release.size(struct), now + 24):
    broken_call(scene, struct, function, size, 0)
    length = len(scene.library.detail())
    for room in (0, 1, 2, 20, length - 1, length, length + 1, 700):
      written = broken_call(scene, struct, function, size, room)
      said = (scene.library.detail()[:room - 1].encode() + b"\0") if room else b""
      expect(written[:len(said)] == said, function, "says", written)
      expect(set(written[len(said):]) <= {FILL}, function, "writes past its words")


def try_result(scene, struct, function, call, now, first):
  """A struct that the library fills in keeps its size and the bytes that the library lacks."""
  for size in (scene.release.size(struct), now + 1, now + 8, now + 500, LARGEST):
    data = bytearray([FILL] * size)
    data[0:8] = size.to_bytes(8, sys.byteorder)
    address = scene.memory["result"].put(data, writable=True)
    expect(call(address) == OK, function, "into", size, "bytes:", scene.library.detail())
    written = ctypes.string_at(address, size)
    expect(written[:8] == data[:8], function, "changes the size")
    expect(set(written[now:]) <= {FILL}, function, "writes what it does not know")
    result = scene.release.structs[struct].from_buffer_copy(written)
    if struct == "fovea_support":
      expect(result.supported == 1 and result.kernel and result.reason, function, "says nothing")
    else:
      expect(result.threads == 1 and result.isa and result.name and result.cuda, function, "says nothing")
  for size in (0, 8, first - 1, LARGEST + 1):
    data = bytearray([FILL] * max(8, size))
    data[0:8] = size.to_bytes(8, sys.byteorder)
    address = scene.memory["result"].put(data)
    expect(call(address) == BAD_ARGUMENT, function, "fills", size, "bytes")
    expect(f"struct_size is {size}" in scene.library.detail(), function, scene.library.detail())


def try_release(release, library, device, now, first):
  scene = Scene(release, library, device)
  for struct, functions in TAKES.items():
    for function in functions:
      if function not in release.description["functions"]:
        continue
      try_accepted(scene, struct, function, now.size(struct))
      try_unknown_bytes(scene, struct, function, now.size(struct))
      try_wrong_sizes(scene, struct, function, first[struct])
      if struct not in ("fovea_options", "fovea_limits"):
        try_detail(scene, struct, function, now.size(struct))
      if function.endswith("_support"):
        args = scene.memory["args"].put(scene.arguments(struct))
        call = lambda result, name=function, args=args: library.call(name, scene.handle, args, result)
        try_result(scene, "fovea_support", function, call, now.size("fovea_support"), first["fovea_support"])
  describe = lambda result: library.call("fovea_get_info", scene.handle, result)
  try_result(scene, "fovea_info", "fovea_get_info", describe, now.size("fovea_info"), first["fovea_info"])
  library.call("fovea_destroy", scene.handle)


def growing(description):
  return {name for name, struct in description["structs"].items() if struct["grows"] == "end"}


def uncalled(description, called):
  """Functions that take a struct that can grow, and that this program does not call."""
  for name, function in description["functions"].items():
    taken = {one["type"].replace("const ", "").rstrip(" *") for one in function["parameters"]}
    if taken & growing(description) and name not in called:
      yield name


def main(root, path):
  read = lambda file: json.loads(file.read_text())
  now = read(pathlib.Path(root, "include/fovea-abi.json"))
  releases = [read(file) for file in sorted(pathlib.Path(root, "tests/library/released").glob("*.json"))]
  first = {}
  for description in [*releases, now]:
    for struct in growing(description):
      first[struct] = min(first.get(struct, LARGEST), description["structs"][struct]["bytes"])
  library = Library(path, now)
  for description in [*releases, now]:
    for device in ("FOVEA_DEVICE_CPU", "FOVEA_DEVICE_REFERENCE"):
      try_release(Release(description), library, now["enums"]["fovea_device"]["values"][device],
                  Release(now), first)
  missed = list(uncalled(now, library.called))
  expect(not missed, "calls no", missed)
  print(f"callers of {len(releases)} release(s) and of today get what they ask for")


if __name__ == "__main__":
  faulthandler.enable()
  if len(sys.argv) != 3:
    sys.exit(__doc__)
  main(*sys.argv[1:])
