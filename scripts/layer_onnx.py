"""ONNX's operator Attention (ai.onnx, opsets 23 to 25) for compare-layers: a family as in layer_peers.py.

  truth   onnx.reference's evaluator on doubles, where its Attention computes in double throughout
  peer    onnxruntime on the CPU, in f32

What the operator's text says is in onnx_attention.py. How it is translated:

  inputs       views of either layout
  attn_mask    boolean: the mask. float: the bias. A mask of too few keys is padded by what hides
  softcap      before the mask, as here; a row that sees nothing is 0, as here
  is_causal    positions.q; or, of two sources, the past needs nothing and the new keys TOP_LEFT. With
               nonpad_kv_seqlen the last row stands at a sequence's last key, which is fovea's default
  window_size  left and right
  past_key     keys before K: one source of both; two sources; or a cache, which becomes present_key

onnx 1.23.2's evaluator differs from the operator's own function body in one thing that is drawn here:
with is_causal and a mask that all rows share it has the keys of row 0 for all. So the mask is spread over
the rows first. It takes the root of an attribute `scale` in f32, so those drawn have roots that f32 holds.

onnxruntime 1.32 takes no mask but of all rows and keys, so it is given that. Before opset 25 it forgets
is_causal if there is one row, a past and several new keys: those are left out of its column, and counted.

Left out: masks of one dimension, and of one key that would broadcast, where evaluator and text disagree or
say nothing; a scale of 0, which is the default here and a scale there; modes 0 to 2 of qk_matmul_output.
"""
import numpy as np
import onnx
import onnx.reference
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

import onnx_attention
from layer_peers import Result

if tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 23):
  raise ImportError(f"onnx {onnx.__version__} is older than 1.23, which corrected the operator's text")

INPUTS = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
OUTPUTS = ("Y", "present_key", "present_value", "weights")
IR_VERSION = 10  # the oldest that has these opsets
REFUSALS = tuple(getattr(onnxruntime_errors, name) for name in (
  "Fail", "InvalidArgument", "InvalidGraph", "NotImplemented", "RuntimeException"))
OPTIONS = onnxruntime.SessionOptions()
OPTIONS.intra_op_num_threads = OPTIONS.inter_op_num_threads = 1
OPTIONS.log_severity_level = 4  # what it refuses is counted instead


def draw_mask(draw, full, least):
  """attn_mask for [batch, heads, rows, keys], of `least` keys at least; None: none."""
  kind = draw.one_of("none", "boolean", "float")
  rank, (*most, keys) = draw.size(4, 2), full
  given = keys
  if draw.maybe(0.2) and keys > max(least, 2):
    given = draw.size(keys - 1, max(least, 2))
  extents = [1 if draw.maybe(0.4) else extent for extent in most] + [given]
  extents = [1] * (4 - rank) + extents[4 - rank:]
  if kind == "none":
    return None
  draw.say(attn_mask=kind, extents=tuple(extents[4 - rank:]))
  visible = draw.visible(*extents) if kind == "boolean" or draw.maybe() else np.ones(extents, bool)
  values = visible if kind == "boolean" else np.where(visible, draw.normal(*extents), np.float32(-np.inf))
  return values.reshape(extents[4 - rank:])


def spread_mask(mask, rows, keys):
  """A mask that is there, of all rows, and of all keys unless these are None."""
  more = [(0, 0)] * (mask.given.ndim - 1) + [(0, 0 if keys is None else keys - mask.given.shape[-1])]
  padded = np.pad(mask.given, more, constant_values=False if mask.kind == "boolean" else -np.inf)
  return np.ascontiguousarray(np.broadcast_to(padded, (*padded.shape[:-2], rows, padded.shape[-1])))


class Node(onnx_attention.Node):
  """A node that is drawn, with its three computations."""

  def __init__(self, draw):
    batch, heads_kv, group, rows = draw.size(3), draw.size(3), draw.size(3), draw.length(7)
    heads, dim = heads_kv * group, draw.length(12)
    dim_v = dim if draw.maybe(0.3) else draw.length(12)
    before, flat = draw.one_of("nothing", "past", "past", "lengths"), draw.maybe()
    self.wanted = draw.maybe()
    new = rows if draw.maybe() else draw.length(9)
    past = draw.size(80 if draw.maybe(0.15) else 8, 0) if before == "past" else None
    keys, lengths = (past or 0) + new, None
    if before == "lengths":
      lengths = draw.rng.integers(0 if draw.maybe(0.3) else 1, keys + 1, batch)
    q = draw.normal(batch, heads, rows, dim)
    k = draw.normal(batch, heads_kv, keys, dim)
    v = draw.normal(batch, heads_kv, keys, dim_v)
    opsets = [23, 24, 25] if onnx.defs.onnx_opset_version() >= 25 else [23, 24]
    opset = draw.one_of(*opsets[before == "lengths":])
    scale, softcap = draw.one_of(None, None, 0.25, 1.0, 0.140625), draw.one_of(0, 0, 1.5, 30)
    causal = draw.maybe()
    windows = [draw.size(8, 0) if opset >= 25 and draw.maybe(0.4) else -1 for _ in "lr"]
    draw.say(q=q.shape, k=k.shape, v=v.shape, flat=flat, past=past or 0, lengths=lengths, opset=opset,
             scale=scale, softcap=softcap, causal=causal, windows=windows, weights=self.wanted)
    mask = draw_mask(draw, (batch, heads, rows, keys), 0 if lengths is None else int(lengths.max()))
    super().__init__(q, k, v, mask, opset=opset, flat=flat, past=past, lengths=lengths, scale=scale,
                     softcap=softcap, causal=causal, windows=windows)
    self.ways = draw.maybe(), draw.maybe()  # of several that fovea has, for by_fovea
    self.layout = "joined"
    if self.has_past:
      self.layout = draw.one_of("joined", "mixed", *(["cache"] * 2 if new == rows else []))
    draw.say(layout=self.layout, ways=self.ways)

  def attributes(self):
    given = {"is_causal": 1} if self.causal else {}
    if self.flat:
      given.update(q_num_heads=self.heads, kv_num_heads=self.heads_kv)
    if self.scale is not None:
      given["scale"] = self.scale
    if self.softcap:
      given["softcap"] = float(self.softcap)
    if self.wanted:
      given["qk_matmul_output_mode"] = 3
    sides = zip(("left_window_size", "right_window_size"), self.windows)
    return {**given, **{name: count for name, count in sides if count >= 0}}

  def inputs(self, dtype, mask):
    given = {"Q": self.laid_out(self.q), "K": self.laid_out(self.k[:, :, self.past:]),
             "V": self.laid_out(self.v[:, :, self.past:])}
    if self.has_past:
      given.update(past_key=self.k[:, :, :self.past], past_value=self.v[:, :, :self.past])
    if mask is not None:
      given["attn_mask"] = mask
    given = {name: one if one.dtype == bool else one.astype(dtype) for name, one in given.items()}
    return given if self.lengths is None else {**given, "nonpad_kv_seqlen": self.lengths.astype(np.int64)}

  def model(self, inputs):
    outputs = {"Y": True, "present_key": self.has_past, "present_value": self.has_past,
               "weights": self.wanted}
    name_all = lambda names, there: " ".join(name if there(name) else "-" for name in names).rstrip("- ").split()
    ends = [["" if name == "-" else name for name in name_all(*one)]
            for one in ((INPUTS, inputs.__contains__), (OUTPUTS, outputs.get))]
    info = lambda name, dtype, shape: onnx.helper.make_tensor_value_info(
      name, onnx.helper.np_dtype_to_tensor_dtype(dtype), shape)
    graph = onnx.helper.make_graph(
      [onnx.helper.make_node("Attention", *ends, **self.attributes())], "attention",
      [info(name, one.dtype, one.shape) for name, one in inputs.items()],
      [info(name, inputs["Q"].dtype, None) for name in ends[1] if name])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", self.opset)],
                                  ir_version=IR_VERSION)

  def by_evaluator(self):
    mask = self.mask.given
    if mask is not None and self.causal:
      mask = spread_mask(self.mask, self.rows, None)
    inputs = self.inputs(np.float64, mask)
    model = self.model(inputs)
    return self.named(model, onnx.reference.ReferenceEvaluator(model).run(None, inputs))

  def by_onnxruntime(self, calls, instead):
    if self.opset < 25 and self.causal and self.rows == 1 and self.past and self.keys > self.past + 1:
      calls.counts["lone causal rows that see all keys in onnxruntime"] += 1
      return instead
    mask = self.mask.given
    if mask is not None and mask.shape[-2:] != (self.rows, self.keys):
      mask = spread_mask(self.mask, self.rows, self.keys)
      calls.counts["masks spread for onnxruntime"] += 1
    inputs = self.inputs(np.float32, mask)
    model = self.model(inputs)
    try:
      session = onnxruntime.InferenceSession(model.SerializeToString(), OPTIONS,
                                             providers=["CPUExecutionProvider"])
      return self.named(model, session.run(None, inputs))
    except REFUSALS:
      calls.counts["nodes that onnxruntime refuses"] += 1
      return instead

  @staticmethod
  def named(model, results):
    found = dict(zip((output.name for output in model.graph.output), results))
    if "present_key" in found:
      found["present"] = np.concatenate([found["present_key"], found["present_value"]], -1)
    return found

  # ---- fovea ----

  def tokens(self, calls, array, heads=None):
    """An array of the node's as tokens; with the number of heads, as one for each of them."""
    if array.ndim == 4:
      return calls.view(array.transpose(0, 2, 1, 3))
    return calls.tokens(array) if heads is None else calls.view(array.reshape(*array.shape[:2], heads, -1))

  def put_mask(self, calls, source, first, last):
    if self.mask.kind == "none":
      return
    if self.lengths is not None and self.ways[0]:  # need not reach further than the lengths
      last = self.mask.given.shape[-1]
    if self.mask.kind == "boolean":
      calls.show_mask(source, self.mask.visible[..., first:last])
    else:
      source.bias = calls.view(self.mask.bias[..., first:last].transpose(0, 2, 1, 3))

  def put_positions(self, calls, source, first):
    """Of a source whose first key is the node's `first`."""
    top_left = calls.library.constants["FOVEA_ALIGN_TOP_LEFT"]
    source.visibility.causal = int(self.causal)
    for side, count in zip(("window_left", "window_right"), self.windows):
      if count >= 0:
        setattr(source.visibility, side, calls.library.new("fovea_window", kind=1, count=count))
    if self.lengths is not None:
      source.positions.alignment = top_left if calls.broken == "past" else 0
    elif calls.broken == "causal":
      pass
    elif first == self.past and self.ways[1] and calls.broken != "past":
      source.positions.alignment = top_left
    else:
      row = 0 if calls.broken == "past" else self.past
      source.positions.q = calls.address(np.full(self.batch, row, np.int32))
      source.positions.kv = calls.address(np.full(self.batch, first, np.int32))

  def put_rooms(self, calls, source, first, last):
    self.put_mask(calls, source, first, last)
    past_alone = self.layout == "mixed" and last == self.past and self.windows == [-1, -1]
    if not (past_alone and self.ways[0]) or calls.broken == "past":
      self.put_positions(calls, source, first)
    if self.lengths is not None:
      lengths = np.maximum(self.lengths - (calls.broken == "length"), 0)
      source.sequences.kv_lengths = calls.address(lengths.astype(np.int32))
    return source

  def source_of(self, calls, keys, values, memory):
    names = ("k", "v") if memory else ("x_k", "x_v")
    heads = self.heads_kv if memory else None
    return calls.struct("fovea_source", **{name: self.tokens(calls, one, heads)
                                           for name, one in zip(names, (keys, values))})

  def sources(self, calls):
    """The sources, and the caches if there are such."""
    k, v = (self.v, self.k) if calls.broken == "swap" else (self.k, self.v)
    new = [self.laid_out(one[:, :, self.past:]) for one in (k, v)]
    if self.layout == "mixed":
      past = [np.ascontiguousarray(one[:, :, :self.past]) for one in (k, v)]
      parts = [(past, True, 0, self.past), (new, self.ways[1], self.past, self.keys)]
      return [self.put_rooms(calls, self.source_of(calls, *arrays, memory), first, last)
              for arrays, memory, first, last in parts], None
    if self.layout == "joined":
      both = [self.laid_out(one) if not self.has_past else np.ascontiguousarray(one) for one in (k, v)]
      return [self.put_rooms(calls, self.source_of(calls, *both, self.ways[0]), 0, self.keys)], None
    caches = [calls.out(*one.shape[:2], self.keys + 3, one.shape[3]) for one in (k, v)]
    for cache, one in zip(caches, (k, v)):
      cache[:, :, :self.past] = one[:, :, :self.past]
    source = self.put_rooms(calls, self.source_of(calls, *new, False), 0, self.keys)
    source.k, source.v = (self.tokens(calls, cache) for cache in caches)
    source.sequences.kv_lengths = calls.address(np.full(self.batch, self.past, np.int32))
    return [source], caches

  def by_fovea(self, calls):
    order = np.arange(self.heads).reshape(self.heads_kv, self.group)
    order = order.T.ravel() if calls.broken == "groups" else order.ravel()
    back, out = np.argsort(order), calls.out(self.batch, self.heads, self.rows, self.dim_v)
    if self.flat:
      out = calls.out(self.batch, self.rows, self.heads * self.dim_v)
    weights = calls.out(self.batch, self.rows, self.heads, self.keys)
    sources, caches = self.sources(calls)
    fields = {"weights": calls.view(weights)} if self.wanted else {}
    calls.multihead(sources, x=self.tokens(calls, self.laid_out(self.q[:, order])), heads_q=self.heads,
                    heads_kv=self.heads_kv, dim=self.dim, dim_v=self.dim_v, scale=self.scale or 0,
                    softcap=0 if calls.broken == "softcap" else self.softcap, out=self.tokens(calls, out), **fields)
    if self.flat:
      out = out.reshape(self.batch, self.rows, self.heads, -1)[:, :, back].reshape(out.shape)
    else:
      out = out[:, back]
    found = {"Y": out, "weights": weights.transpose(0, 2, 1, 3)[:, back]}
    if caches:
      found["present"] = np.concatenate([cache[:, :, :self.keys] for cache in caches], -1)
    return found


def attention(draw, calls):
  node = Node(draw)
  fovea, (near, visible) = node.by_fovea(calls), node.by_rounding()
  truth = node.by_evaluator()
  peer = node.by_onnxruntime(calls, truth)
  calls.counts["rows that see nothing, 0 by ONNX"] += int((~visible.any(-1)).sum())
  names = {"Y": "out", "weights": "weights", "present": "present"}
  return [Result(names[name], fovea[name], truth[name], peer[name], near[name])
          for name in names if name in fovea and name in truth]
