#!/usr/bin/env python3
"""Describes the public header for authors of bindings: every number, type, size and offset in it.

usage: describe_header.py CC ROOT [HEADER] > include/fovea-abi.json

HEADER is a path below ROOT (default: include/fovea.h). Of another header that includes <fovea.h>, only its
own declarations are described.

The header is preprocessed as its paragraph "Bindings" says, and pycparser (Debian:
python3-pycparser) reads it. Sizes, offsets and values come from a program that CC compiles. Exit
status 77: there is no pycparser.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

try:
  from pycparser import c_ast, c_parser
except ImportError:
  print("skipped: this needs pycparser (Debian: python3-pycparser)", file=sys.stderr)
  sys.exit(77)

# The names that <stddef.h> and <stdint.h> define. The parser does not need the right types.
STANDARD = "".join(f"typedef int {name};\n" for name in
                   ("size_t", "int32_t", "int64_t", "uint32_t", "uint64_t"))


def preprocess(cc, header):
  """The header without its includes, conditions and macros."""
  text = re.sub(r"^#include.*$", "", header, flags=re.MULTILINE)
  command = [cc, "-E", "-P", "-DFOVEA_NO_INLINE", "-DFOVEA_API=", "-x", "c", "-"]
  return subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout


def type_text(node):
  """A type in the form that C writes before a name: "const fovea_options *"."""
  if isinstance(node, c_ast.PtrDecl) and not node.quals:
    inner = type_text(node.type)
    return inner + ("*" if inner.endswith("*") else " *")
  if isinstance(node, c_ast.TypeDecl):
    inner = node.type
    words = getattr(inner, "names", None) or [type(inner).__name__.lower(), inner.name]
    return " ".join([*node.quals, *words])
  raise SystemExit(f"describe_header.py: cannot describe a {type(node).__name__}; teach it")


def signature(function):
  """The result and the parameters of a function."""
  parameters = function.args.params if function.args else []
  taken = [{"name": one.name, "type": type_text(one.type)} for one in parameters
           if type_text(one.type) != "void"]
  return {"returns": type_text(function.type), "parameters": taken}


class Header:
  """The declarations, sorted by kind."""

  def __init__(self, tree):
    self.structs, self.opaque, self.enums, self.callbacks, self.functions = {}, {}, [], {}, {}
    for node in tree.ext:
      if isinstance(node, c_ast.Typedef):
        self.add_typedef(node)
      elif isinstance(node.type, c_ast.Enum):
        self.enums.append((None, node.type))
      elif isinstance(node.type, c_ast.FuncDecl):
        self.functions[node.name] = signature(node.type)
      else:
        raise SystemExit(f"describe_header.py: {node.coord}: what is this? teach it")

  def add_typedef(self, node):
    inner = getattr(node.type, "type", None)
    if isinstance(node.type, c_ast.PtrDecl) and isinstance(inner, c_ast.FuncDecl):
      self.callbacks[node.name] = signature(inner)
    elif isinstance(node.type, c_ast.PtrDecl):
      self.opaque[node.name] = type_text(node.type)
    elif isinstance(inner, c_ast.Enum):
      self.enums.append((node.name, inner))
    elif isinstance(inner, c_ast.Struct) and inner.decls:
      self.structs[node.name] = inner
    elif isinstance(inner, c_ast.Struct):
      self.opaque[node.name] = type_text(node.type)


def field_type(field):
  """The type of a field, and whether it is an array."""
  is_array = isinstance(field.type, c_ast.ArrayDecl)
  return type_text(field.type.type if is_array else field.type), is_array


def measure(cc, root, name, expressions):
  """The values of C expressions that use the header."""
  lines = "".join(f'  printf("%lld\\n", (long long)({one}));\n' for one in expressions)
  program = f'#include <{name.name}>\n#include <stdio.h>\nint main(void) {{\n{lines}  return 0;\n}}\n'
  with tempfile.TemporaryDirectory() as scratch:
    source, binary = pathlib.Path(scratch, "measure.c"), pathlib.Path(scratch, "measure")
    source.write_text(program)
    subprocess.run([cc, "-std=c11", f"-I{root}/include", f"-I{root}/{name.parent}", source, "-o", binary],
                   check=True)
    output = subprocess.run([binary], capture_output=True, text=True, check=True).stdout
  return dict(zip(expressions, map(int, output.split())))


class Expressions:
  """Collects expressions in a first walk, and gives their values in a second."""

  def __init__(self):
    self.values = {}

  def __call__(self, expression):
    return self.values.setdefault(expression, 0)


def describe_field(name, field, ask):
  kind, is_array = field_type(field)
  at = f"(({name} *)0)->{field.name}"
  described = {"name": field.name, "type": kind, "offset": ask(f"offsetof({name}, {field.name})"),
               "bytes": ask(f"sizeof {at}")}
  if is_array:
    described["count"] = ask(f"sizeof {at} / sizeof {at}[0]")
  return described


def growth(text, name, struct):
  """Where the header lets a struct grow: at its "end", in "reserved" words, or "never"."""
  if struct.decls[0].name == "struct_size":
    return "end"
  before = text[:text.index(f"typedef struct {name} {{")]
  comment = before[before.rindex("/*"):]
  return "never" if "This struct is frozen" in comment else "reserved"


def describe(header, text, ask):
  version = ".".join(str(ask(f"FOVEA_VERSION_{part}")) for part in ("MAJOR", "MINOR", "PATCH"))
  structs = {}
  for name, struct in header.structs.items():
    structs[name] = {"bytes": ask(f"sizeof({name})"), "alignment": ask(f"_Alignof({name})"),
                     "grows": growth(text, name, struct),
                     "fields": [describe_field(name, field, ask) for field in struct.decls]}
  enums, constants = {}, {}
  for name, enum in header.enums:
    values = {one.name: ask(one.name) for one in enum.values.enumerators}
    if name:
      enums[name] = {"bytes": ask(f"sizeof({name})"), "signed": bool(ask(f"({name})-1 < 0")),
                     "values": values}
    else:
      constants.update(values)
  return {"version": version, "pointer_bytes": ask("sizeof(void *)"), "constants": constants,
          "enums": enums, "structs": structs, "opaque": header.opaque, "callbacks": header.callbacks,
          "functions": header.functions}


def parse(cc, text):
  header = Header(c_parser.CParser().parse(STANDARD + preprocess(cc, text)))
  for name in STANDARD.split("\n"):  # these are not the header's
    header.opaque.pop(name, None)
  return header


def without(header, other):
  """Leaves out what another header declares."""
  for table in ("structs", "opaque", "callbacks", "functions"):
    known = getattr(other, table)
    setattr(header, table, {key: one for key, one in getattr(header, table).items() if key not in known})
  header.enums = header.enums[len(other.enums):]
  return header


def main(cc, root, name="include/fovea.h"):
  text = pathlib.Path(root, name).read_text()
  if name == "include/fovea.h":
    header = parse(cc, text)
  else:
    engine = pathlib.Path(root, "include/fovea.h").read_text()
    header = without(parse(cc, engine + text), parse(cc, engine))
  ask = Expressions()
  describe(header, text, ask)
  ask.values = measure(cc, root, pathlib.Path(name), list(ask.values))
  print(to_text(describe(header, text, ask)))


def to_text(value, indent=""):
  """JSON with one line for each field, constant and function."""
  nested = isinstance(value, dict) and any(isinstance(one, (dict, list)) for one in value.values())
  if isinstance(value, dict) and "parameters" not in value and (nested or len(value) > 3):
    items = [f"{json.dumps(key)}: {to_text(one, indent + '  ')}" for key, one in value.items()]
  elif isinstance(value, list):
    items = [json.dumps(one) for one in value]
  else:
    return json.dumps(value)
  first, last = "[]" if isinstance(value, list) else "{}"
  return first + ",".join(f"\n{indent}  {item}" for item in items) + f"\n{indent}{last}"


if __name__ == "__main__":
  if len(sys.argv) not in (3, 4):
    sys.exit(__doc__)
  main(*sys.argv[1:])
