#!/usr/bin/env python3
"""Compares today's header with every release: what programs were compiled with must not change.

usage: released_test.py ROOT. First makes sure that each kind of change is noticed. Then compares
include/fovea-abi.json with each file of tests/library/released/.
"""
import copy
import json
import pathlib
import sys


def changed_entries(kind, old, new):
  """Entries of a table that are missing or differ. New entries are allowed."""
  for name, value in old.items():
    if name not in new:
      yield f"{kind} {name} is gone"
    elif new[name] != value:
      yield f"{kind} {name} is {new[name]}, was {value}"


def is_reserved(field):
  return field["name"].startswith("reserved")


def changed_struct(name, old, new):
  """Fields keep their places. Reserved words may become fields, unless the struct is frozen."""
  for key in ("alignment", "grows"):
    if new[key] != old[key]:
      yield f"{name}: {key} is {new[key]}, was {old[key]}"
  if new["bytes"] < old["bytes"] or (old["grows"] != "end" and new["bytes"] != old["bytes"]):
    yield f"{name} has {new['bytes']} bytes, had {old['bytes']}"
  fields = {field["name"]: field for field in new["fields"]}
  for field in old["fields"]:
    if is_reserved(field) and old["grows"] != "never":
      continue
    if fields.get(field["name"]) != field:
      yield f"{name}.{field['name']} is {fields.get(field['name'])}, was {field}"
  if old["grows"] == "never" and new["fields"] != old["fields"]:
    yield f"{name} is frozen, and its fields differ"
  yield from misplaced_fields(name, old, new)


def misplaced_fields(name, old, new):
  """New fields lie past the old end, or in reserved words, which callers set to zero."""
  free = {byte for field in old["fields"] if is_reserved(field)
          for byte in range(field["offset"], field["offset"] + field["bytes"])}
  known = {field["name"] for field in old["fields"] if not is_reserved(field)}
  for field in new["fields"]:
    bytes_of = range(field["offset"], field["offset"] + field["bytes"])
    if field["name"] not in known and any(b < old["bytes"] and b not in free for b in bytes_of):
      yield f"{name}.{field['name']} lies where the release had another field, or padding"


def changes(old, new):
  """All changes that break a program compiled with `old`."""
  if new["pointer_bytes"] != old["pointer_bytes"]:
    yield "pointers differ: these are descriptions of different machines"
  for table in ("constants", "opaque", "callbacks", "functions"):
    yield from changed_entries(table, old[table], new[table])
  for name, enum in old["enums"].items():
    if name not in new["enums"]:
      yield f"enum {name} is gone"
      continue
    yield from changed_entries(name, enum["values"], new["enums"][name]["values"])
    if new["enums"][name]["bytes"] != enum["bytes"]:
      yield f"enum {name} has another size"
  for name, struct in old["structs"].items():
    if name in new["structs"]:
      yield from changed_struct(name, struct, new["structs"][name])
    else:
      yield f"struct {name} is gone"


def changed(description, change):
  other = copy.deepcopy(description)
  change(other)
  return other


def field_of(description, struct, name):
  return next(f for f in description["structs"][struct]["fields"] if f["name"] == name)


def grow(description, struct, **field):
  """Appends a field to a struct that grows at its end."""
  grown = description["structs"][struct]
  grown["fields"].append({"name": "later", "type": "int64_t", "offset": grown["bytes"], "bytes": 8, **field})
  grown["bytes"] += 8


def use_reserved(description, struct):
  """Makes a field of the first reserved word of a room."""
  words = field_of(description, struct, "reserved")
  taken = {"name": "later", "type": "int64_t", "offset": words["offset"], "bytes": 8}
  words.update(offset=words["offset"] + 8, bytes=words["bytes"] - 8, count=words["count"] - 1)
  description["structs"][struct]["fields"].insert(-1, taken)


BREAKS = {
  "a constant": lambda d: d["constants"].update(FOVEA_BAD_PAGE=64),
  "a constant that goes": lambda d: d["constants"].pop("FOVEA_BAD_PAGE"),
  "a status": lambda d: d["enums"]["fovea_status"]["values"].update(FOVEA_PARTIAL=8),
  "an enum's size": lambda d: d["enums"]["fovea_dtype"].update(bytes=8),
  "a function that goes": lambda d: d["functions"].pop("fovea_merge"),
  "a parameter": lambda d: d["functions"]["fovea_merge"]["parameters"].pop(),
  "a callback": lambda d: d["callbacks"]["fovea_log"]["parameters"].reverse(),
  "a struct that goes": lambda d: d["structs"].pop("fovea_pages"),
  "a struct that shrinks": lambda d: d["structs"]["fovea_info"].update(bytes=560),
  "a room's size": lambda d: d["structs"]["fovea_pages"].update(bytes=72),
  "an alignment": lambda d: d["structs"]["fovea_window"].update(alignment=8),
  "a moved field": lambda d: field_of(d, "fovea_limits", "dim").update(offset=28),
  "a retyped field": lambda d: field_of(d, "fovea_limits", "dim").update(type="uint32_t"),
  "a longer text": lambda d: field_of(d, "fovea_support", "kernel").update(bytes=104, count=104),
  "a frozen struct": lambda d: use_reserved(d, "fovea_tensor"),
  "a field over others": lambda d: grow(d, "fovea_limits", offset=60),
}
ALLOWED = {
  "nothing": lambda d: None,
  "a constant that comes": lambda d: d["constants"].update(FOVEA_BAD_MORE=64),
  "a function that comes": lambda d: d["functions"].update(fovea_more={"returns": "void", "parameters": []}),
  "a struct that grows": lambda d: grow(d, "fovea_limits"),
  "a room that grows": lambda d: use_reserved(d, "fovea_pages"),
  "a version": lambda d: d.update(version="0.3.0"),
}


def main(root):
  now = json.loads(pathlib.Path(root, "include/fovea-abi.json").read_text())
  complaints = [f"{what} goes unnoticed" for what, change in BREAKS.items()
                if not list(changes(now, changed(now, change)))]
  complaints += [f"{what} is refused: {list(changes(now, changed(now, change)))}"
                 for what, change in ALLOWED.items() if list(changes(now, changed(now, change)))]
  releases = sorted(pathlib.Path(root, "tests/library/released").glob("*.json"))
  if not releases:
    complaints.append("no release is on file")
  for release in releases:
    released = json.loads(release.read_text())
    complaints += [f"since {release.stem}: {change}" for change in changes(released, now)]
  print("\n".join(complaints) or f"{len(releases)} release(s) kept; {len(BREAKS)} kinds of break noticed")
  return 1 if complaints else 0


if __name__ == "__main__":
  if len(sys.argv) != 2:
    sys.exit(__doc__)
  sys.exit(main(sys.argv[1]))
