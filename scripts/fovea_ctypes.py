"""fovea for Python's ctypes, made from the header's description include/fovea-abi.json; with its
layers, if asked for, from layers/fovea-layers-abi.json.

The scripts that compare fovea with other libraries use it. Nothing of the headers is written down
here: structs, numbers and functions are those of the descriptions, so new fields are there at once.

  library = fovea_ctypes.Library("build/csrc/libfovea.so")
  with library.open("CPU", threads=1) as handle:
    args = library.new("fovea_attention_args", q=library.view(q), k=library.view(k),
                       v=library.view(v), out=library.view(out))
    args.sequences.kv_lengths = address(lengths)
    handle.attention(args)

  library.load_layers("build/layers/libfovea-layers.so")
  ...
    handle.layer("fovea_multihead", library.new("fovea_multihead_args", ...))

Arrays are numpy's, or anything that has its `ctypes.data`, `shape`, `strides`, `itemsize` and
`dtype.name`. Structs hold addresses alone: keep every array until the call is over.
"""
import ctypes
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
DESCRIPTION = ROOT / "include" / "fovea-abi.json"
LAYERS_DESCRIPTION = ROOT / "layers" / "fovea-layers-abi.json"
DEFAULT_LIBRARY = ROOT / "build" / "csrc" / "libfovea.so"
DEFAULT_LAYERS = ROOT / "build" / "layers" / "libfovea-layers.so"
WORKSPACE_ALIGNMENT = 256

PLAIN = {"size_t": ctypes.c_size_t, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32,
         "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64, "float": ctypes.c_float,
         "char": ctypes.c_char, "void": None, "const char *": ctypes.c_char_p}
# numpy has no 8-bit floats, and bfloat16 only from ml_dtypes: `view` takes the names of those, for arrays of bits.
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8", "uint8": "U8"}


class FoveaError(Exception):
  """A call that failed: the status's name, and what the library says was wrong."""

  def __init__(self, function, status, detail):
    super().__init__(f"{function}: {status}: {detail}")
    self.function, self.status, self.detail = function, status, detail


def address(array):
  """The address of a contiguous array, for fields such as kv_lengths that are no tensors."""
  if not array.flags.c_contiguous:
    raise ValueError(f"the array of shape {array.shape} is not contiguous")
  return array.ctypes.data


class Library:
  """A loaded library. `constants` has the header's numbers by name, `structs` its structs."""

  def __init__(self, path=DEFAULT_LIBRARY, description=DESCRIPTION):
    self.constants, self.enums, self.structs, self.entries = {}, {}, {}, {}
    self._load(path, description, "fovea")

  def load_layers(self, path=DEFAULT_LAYERS, description=LAYERS_DESCRIPTION):
    """Adds the layers. Their libfovea must be the one that is loaded: they work on its handles."""
    self._load(path, description, "fovea_layers")

  def _load(self, path, description, prefix):
    described = json.loads(pathlib.Path(description).read_text())
    self.constants.update(described["constants"])
    self.enums.update({name: enum["values"] for name, enum in described["enums"].items()})
    for enum in described["enums"]:
      self.constants.update(self.enums[enum])
    for name, struct in described["structs"].items():
      self.structs[name] = self._struct(name, struct)
    self._declare(ctypes.CDLL(str(path)), described["functions"], prefix)
    self._compare_versions(path, prefix, described["version"])

  def _struct(self, name, described):
    fields = [(field["name"], self._type(field)) for field in described["fields"]]
    made = type(name, (ctypes.Structure,), {"_fields_": fields})
    same = all(getattr(made, field["name"]).offset == field["offset"] for field in described["fields"])
    if not same or ctypes.sizeof(made) != described["bytes"]:
      raise ValueError(f"{name} has another layout here than in the description")
    return made

  def _type(self, described):
    """The type of a field, a parameter or a result. Pointers of all kinds are addresses."""
    kind = described["type"]
    if kind in self.enums:
      base = ctypes.c_uint32
    else:
      base = PLAIN.get(kind) or self.structs.get(kind) or ctypes.c_void_p
    if kind.endswith("*"):
      return ctypes.c_void_p
    return base * described["count"] if "count" in described else base

  def _declare(self, loaded, functions, prefix):
    for name, function in functions.items():
      entry = getattr(loaded, name, None)
      if entry is None:
        raise ValueError(f"the library has no {name}: it is older than the header")
      result = function["returns"]
      entry.restype = ctypes.c_uint32 if result in self.enums else PLAIN.get(result, ctypes.c_void_p)
      entry.argtypes = [self._type(parameter) for parameter in function["parameters"]]
      self.entries[name] = entry, prefix + "_error_detail" if result == "fovea_status" else None

  def _compare_versions(self, path, prefix, described):
    if self.version(prefix) != described:
      raise ValueError(f"{path} is version {self.version(prefix)}, the description {described}")

  def version(self, prefix="fovea"):
    number = self.call(prefix + "_version")
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"

  def call(self, name, *arguments):
    """Calls a function. A status that is not success becomes a FoveaError."""
    entry, detail = self.entries[name]
    result = entry(*arguments)
    if detail and result != self.constants["FOVEA_OK"]:
      raise FoveaError(name, self.call("fovea_status_name", result).decode(), self.call(detail).decode())
    return result

  def new(self, struct, **fields):
    """A struct of which everything else is zero, which means the default; its size is filled in."""
    made = self.structs[struct](**fields)
    if hasattr(made, "struct_size"):
      made.struct_size = ctypes.sizeof(made)
    return made

  def view(self, array, dtype=None):
    """A fovea_tensor over an array [batch, seq, head, dim] of any strides; dtype as in "BF16"."""
    if len(array.shape) != 4:
      raise ValueError(f"a tensor has 4 dimensions, not the shape {array.shape}")
    kind = self.constants["FOVEA_" + (dtype or DTYPES[array.dtype.name])]
    stride = tuple(step // array.itemsize for step in array.strides)
    return self.new("fovea_tensor", data=array.ctypes.data, shape=tuple(array.shape), stride=stride,
                    dtype=kind)

  def open(self, device="AUTO", threads=0, allocate=None):
    return Handle(self, device, threads, allocate)


class Handle:
  """A fovea_handle with a workspace that grows as calls need it. Closed at the end of a `with`. `allocate` returns
  the address of as many bytes as it is given, in the device's memory; None: the host's."""

  def __init__(self, library, device, threads, allocate):
    self.library, self.allocate, self.workspace, self.workspace_bytes = library, allocate or self.keep, 0, 0
    self.address = ctypes.c_void_p()
    number = library.constants["FOVEA_DEVICE_" + device]
    options = library.new("fovea_options", device=number, threads=threads)
    library.call("fovea_create", ctypes.addressof(options), ctypes.addressof(self.address))

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.library.call("fovea_destroy", self.address)
    self.address = None

  def keep(self, size):
    self.kept = ctypes.create_string_buffer(size)
    return ctypes.addressof(self.kept)

  def give_workspace(self, args, asking="fovea_attention_workspace_for"):
    bytes_needed = ctypes.c_size_t()
    self.library.call(asking, self.address, ctypes.addressof(args), ctypes.addressof(bytes_needed))
    if bytes_needed.value + WORKSPACE_ALIGNMENT > self.workspace_bytes:
      self.workspace_bytes = bytes_needed.value + WORKSPACE_ALIGNMENT
      self.workspace = self.allocate(self.workspace_bytes)
    args.workspace = self.workspace + -self.workspace % WORKSPACE_ALIGNMENT
    args.workspace_bytes = bytes_needed.value

  def attention(self, args, stream=None):
    self.give_workspace(args)
    self.library.call("fovea_attention", self.address, ctypes.addressof(args), stream)

  def call(self, name, args, stream=None):
    """A call that needs no workspace, such as "fovea_kv_append"."""
    self.library.call(name, self.address, ctypes.addressof(args), stream)

  def layer(self, name, args, stream=None):
    """A call of the layers with a handle, such as "fovea_multihead"."""
    asking = {"fovea_linear_apply": "fovea_linear_workspace"}.get(name, name + "_workspace")
    if asking in self.library.entries:  # fovea_normalise needs none
      self.give_workspace(args, asking)
    self.library.call(name, self.address, ctypes.addressof(args), stream)
