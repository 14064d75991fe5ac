"""The loops of a kernel that hold matrix products, and the way through them that is taken most.

1. Instructions are cut into blocks at jumps and at their targets: a graph, which begins at the entry.
2. An edge to a block that dominates its origin (every way from the entry leads through it) closes a loop.
   The loop is all that reaches the edge without passing the block, its header. Loops that share a header
   are one. Addresses say nothing: ptxas moves rare code behind the kernel's end.
3. Of the ways once round, from the header back to it, the hot path has most matrix products, then most
   asynchronous copies, then fewest instructions. So waits that repeat, a rescale that can be skipped and
   detours of divergent warps are off it; the loads of the next tile are on it.
4. A loop within the loop is passed in one turn of its own hot path.

A call is passed, and its target can be reached: ptxas also writes jumps as calls. Jumps by register are
counted, since loops that they close stay unseen, and so are loops that are entered at two places.
"""
import collections
import re
import typing

from machine_listing import Unreadable

CLASSES = {
  "products": "HMMA HGMMA QMMA QGMMA IMMA IGMMA BMMA BGMMA DMMA OMMA UTCHMMA UTCQMMA UTCIMMA UTCOMMA",
  "ldmatrix": "LDSM",
  "imad": "IMAD",
  "fp32": "FFMA FMUL FADD FFMA2 FMUL2 FADD2 FFMA32I FMUL32I FADD32I",
  "exp": "MUFU",
  "max": "FMNMX FMNMX3 IMNMX VIMNMX VIMNMX3",
  "pack": "F2FP F2F",
  "shared": "LDS STS STSM ATOMS",
  "copies": "LDGSTS UBLKCP UBLKRED UTMALDG UTMASTG UTMAREDG",
  "global": "LDG LD LDL STG ST STL ATOMG ATOM RED",
  "shuffles": "SHFL",
  "sync": "BAR BSSY BSYNC BREAK WARPSYNC ENDCOLLECTIVE YIELD NANOSLEEP ELECT MEMBAR ERRBAR CGAERRBAR "
          "FENCE DEPBAR LDGDEPBAR ARRIVES SYNCS WARPGROUP WARPGROUPSET UTMACMDFLUSH ACQBULK UCGABAR_ARV "
          "UCGABAR_WAIT",
  "branch": "BRA BRX BRXU JMP JMX JMXU CALL RET EXIT",
}
CLASS_OF = {name: kind for kind, names in CLASSES.items() for name in names.split()}
INTEGER = "integer"  # what is in no class: addresses, comparisons, moves
KINDS = ("products", "ldmatrix", INTEGER, *(kind for kind in CLASSES if kind not in ("products", "ldmatrix")))

JUMPS = ("BRA", "JMP")
INDIRECT = ("BRX", "BRXU", "JMX", "JMXU")
ENDS = ("EXIT", "RET", "KILL")
TARGET = re.compile(r"(?:^|[\s,])(0x[0-9a-f]+)$")
# How many bytes a load takes; a hint such as LTC128B is another modifier.
WIDTHS = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}
UNKNOWN_BYTES = ("UBLKCP", "UTMALDG")  # of bulk copies, descriptors and registers know the bytes


class Graph(typing.NamedTuple):
  code: list
  blocks: list      # of instructions, as (first, end)
  successors: list  # by block
  indirect: int     # jumps by register


class Loop(typing.NamedTuple):
  header: int     # address of its first instruction
  latch: int      # address of the jump that closes the hot path
  path: list      # instructions of the hot path
  size: int       # instructions of the loop
  depth: int      # of loops around it
  inner: int      # loops with copies on its hot path, each of one turn
  innermost: bool # no loop within it holds products


def kind_of(instruction):
  return CLASS_OF.get(instruction.name, INTEGER)


# ---- The graph ----

def target_of(instruction):
  found = TARGET.search(instruction.operands)
  return int(found.group(1), 16) if found else None


def where_next(instruction):
  """The address that an instruction may jump to, or None; and whether the next one may follow it."""
  never = instruction.guard in ("!PT", "!UPT")
  guarded = instruction.guard not in ("", "PT", "UPT")
  if never:
    return None, True
  if instruction.name in JUMPS:
    asks = guarded or "," in instruction.operands  # a predicate, or whether the warp diverges
    return target_of(instruction), asks
  if instruction.name == "CALL":
    return target_of(instruction), True
  return None, guarded or instruction.name not in ENDS + INDIRECT


def ends_block(instruction):
  return instruction.name in JUMPS + INDIRECT + ENDS + ("CALL",)


def cut_blocks(kernel):
  """The blocks, and the number of the block by the address of its first instruction."""
  code = kernel.code
  places = {instruction.address: place for place, instruction in enumerate(code)}
  starts = {0}
  for place, instruction in enumerate(code):
    target, _ = where_next(instruction)
    if target is not None and instruction.name != "CALL" and target not in places:
      raise Unreadable(f"{kernel.name}: {instruction.opcode} at {instruction.address:#x} leads to "
                       f"{target:#x}, which is not listed")
    if target in places:
      starts.add(places[target])
    if ends_block(instruction) and place + 1 < len(code):
      starts.add(place + 1)
  starts = sorted(starts)
  blocks = list(zip(starts, starts[1:] + [len(code)]))
  return blocks, {code[first].address: number for number, (first, _) in enumerate(blocks)}


def build_graph(kernel):
  blocks, numbers = cut_blocks(kernel)
  successors = []
  for number, (_, end) in enumerate(blocks):
    target, falls = where_next(kernel.code[end - 1])
    following = [numbers[target]] if target in numbers else []
    if falls and number + 1 < len(blocks):
      following.append(number + 1)
    successors.append(following)
  indirect = sum(instruction.name in INDIRECT for instruction in kernel.code)
  return Graph(kernel.code, blocks, successors, indirect)


# ---- The loops ----

def order_blocks(successors):
  """The blocks that can be reached, each behind those that lead to it, but for what closes loops."""
  finished, seen, stack = [], {0}, [(0, iter(successors[0]))]
  while stack:
    block, rest = stack[-1]
    following = next((other for other in rest if other not in seen), None)
    if following is None:
      finished.append(block)
      stack.pop()
    else:
      seen.add(following)
      stack.append((following, iter(successors[following])))
  return finished[::-1]


def find_predecessors(successors, order):
  before = {block: [] for block in order}
  for block in order:
    for following in successors[block]:
      before[following].append(block)
  return before


def find_dominators(before, order):
  """Each block's nearest other dominator. The way of Cooper, Harvey and Kennedy: the common one of all
  predecessors, again until nothing changes."""
  rank = {block: number for number, block in enumerate(order)}
  nearest = {order[0]: order[0]}

  def common(one, other):
    while one != other:
      if rank[one] < rank[other]:
        one, other = other, one
      one = nearest[one]
    return one

  changed = True
  while changed:
    changed = False
    for block in order[1:]:
      known = [other for other in before[block] if other in nearest]
      found = known[0]
      for other in known[1:]:
        found = common(found, other)
      changed = changed or nearest.get(block) != found
      nearest[block] = found
  return nearest


def dominates(one, other, nearest):
  while other != one and nearest[other] != other:
    other = nearest[other]
  return other == one


def find_bodies(graph, order):
  """The blocks of each loop by its header, and how many edges lead back to what dominates nothing."""
  before = find_predecessors(graph.successors, order)
  nearest = find_dominators(before, order)
  rank = {block: number for number, block in enumerate(order)}
  bodies, strange = {}, 0
  for block in order:
    for following in graph.successors[block]:
      if dominates(following, block, nearest):
        grow_body(bodies.setdefault(following, {following}), block, before)
      elif rank[following] <= rank[block]:
        strange += 1
  return bodies, strange


def grow_body(body, latch, before):
  """Adds what reaches the latch without passing the header, which is in the body."""
  todo = [latch]
  while todo:
    block = todo.pop()
    if block not in body:
      body.add(block)
      todo += before[block]


# ---- The hot path ----

def value_of(instructions):
  """What the hot path has most of, in the order of weight."""
  kinds = collections.Counter(map(kind_of, instructions))
  return kinds["products"], kinds["copies"], -len(instructions)


def add_values(one, other):
  return tuple(a + b for a, b in zip(one, other))


class Rounds:
  """The hot paths of a graph's loops, the inner loops' first."""

  def __init__(self, graph):
    self.graph = graph
    self.order = order_blocks(graph.successors)
    self.rank = {block: number for number, block in enumerate(self.order)}
    self.bodies, self.strange = find_bodies(graph, self.order)
    self.headers = sorted(self.bodies, key=lambda header: len(self.bodies[header]))
    self.paths = {}  # blocks of the hot path by header
    for header in self.headers:
      self.paths[header] = self.find_path(header)

  def instructions(self, blocks):
    return [instruction for block in blocks
            for instruction in self.graph.code[slice(*self.graph.blocks[block])]]

  def within(self, header):
    """The headers of the loops within a loop."""
    return [other for other in self.headers if other != header and other in self.bodies[header]]

  def find_nodes(self, header):
    """What a way round passes: for each block of the loop itself, or the header of the outermost loop
    within it that the block is in."""
    nodes = {block: block for block in self.bodies[header]}
    for inner in self.within(header):  # from small to large
      nodes.update(dict.fromkeys(self.bodies[inner], inner))
    return nodes

  def find_path(self, header):
    """The blocks of the best way round, by the best way to each node in order."""
    nodes = self.find_nodes(header)
    passed = {node: self.paths.get(node, [node]) for node in set(nodes.values())}
    value = {node: value_of(self.instructions(blocks)) for node, blocks in passed.items()}
    best, via, ends = {header: value[header]}, {}, []
    leaving = collections.defaultdict(list)
    for block, node in nodes.items():
      leaving[node] += self.graph.successors[block]
    for node in filter(best.__contains__, self.order):
      for following in leaving[node]:
        target = nodes.get(following)
        if target == header:
          ends.append(node)
        elif target is not None and self.rank[target] > self.rank[node]:  # not so within an inner loop
          improve(best, via, node, target, add_values(best[node], value[target]))
    return self.trace(via, passed, max(ends, key=best.get, default=header))

  def trace(self, via, passed, node):
    blocks = list(passed[node])
    while node in via:
      node = via[node]
      blocks = passed[node] + blocks
    return blocks

  def value(self, header):
    return value_of(self.instructions(self.paths[header]))

  def holds_products(self, header):
    return self.value(header)[0] > 0

  def describe(self, header):
    inner = self.within(header)
    passed = set(inner).intersection(self.paths[header])
    path = self.instructions(self.paths[header])
    return Loop(header=self.graph.code[self.graph.blocks[header][0]].address, latch=path[-1].address,
                path=path, size=len(self.instructions(self.bodies[header])),
                depth=sum(header in self.bodies[other] for other in self.headers) - 1,
                inner=sum(self.value(other)[1] > 0 for other in passed),
                innermost=not any(map(self.holds_products, inner)))


def improve(best, via, node, following, value):
  if following not in best or value > best[following]:
    best[following] = value
    via[following] = node


class Loops(typing.NamedTuple):
  loops: list     # those with products, from most products to fewest, then from fewest instructions
  indirect: int   # jumps by register
  strange: int    # loops that are entered at two places


def find_loops(kernel):
  rounds = Rounds(build_graph(kernel))
  loops = [rounds.describe(header) for header in rounds.headers if rounds.holds_products(header)]
  loops.sort(key=lambda loop: (-count(loop)["products"], len(loop.path), loop.header))
  return Loops(loops, rounds.graph.indirect, rounds.strange)


# ---- What is counted ----

def count(loop):
  """Instructions of the hot path by kind."""
  return collections.Counter(map(kind_of, loop.path))


def name_loops(loops):
  """What bars call a loop. Of the loops that hold no loop with products, those with most products are
  wide: that with fewest instructions is plain, others (which hide keys, say) are masked. Those with
  fewer products are narrow. A loop round a loop with products is outer."""
  names, most = [], max((count(loop)["products"] for loop in loops if loop.innermost), default=0)
  for loop in loops:
    if not loop.innermost:
      names.append("outer")
    elif count(loop)["products"] < most:
      names.append("narrow")
    else:
      names.append("masked" if "plain" in names else "plain")
  return names


def width_of(instruction):
  """Bytes that a thread's load takes: 4 where no modifier says another width."""
  return next((WIDTHS[word] for word in instruction.opcode.split(".") if word in WIDTHS), 4)


def count_bytes(loop):
  """Bytes that a thread takes from global memory in a turn: those copied to shared memory and those
  loaded to registers, every guard taken as true. None for copied bytes if the code does not tell them."""
  names = {instruction.name for instruction in loop.path}
  copied = sum(width_of(instruction) for instruction in loop.path if instruction.name == "LDGSTS")
  loaded = sum(width_of(instruction) for instruction in loop.path if instruction.name in ("LDG", "LD"))
  return (None if names.intersection(UNKNOWN_BYTES) else copied), loaded
