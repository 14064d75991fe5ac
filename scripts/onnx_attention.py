"""A node of ONNX's operator Attention (ai.onnx, opsets 23 to 25) as arrays, and its results in double
precision by the operator's text, with bounds on what f32 may make of them (layer_rounding.py).

compare-layers has them from nodes drawn at random (layer_onnx.py), tests/suites/onnx_nodes from ONNX's own.

  inputs       3D [batch, len, heads * dim] ("flat") or 4D [batch, heads, len, dim]. Query heads next to each
               other share a key head
  attn_mask    boolean: True is visible. float: added. It broadcasts as numpy has it: a mask of three
               dimensions is [heads, rows, keys]. A mask of too few keys hides the others
  softcap      before the mask. A row that sees nothing is 0
  is_causal    row 0 stands behind `past_key`: at its length, which is 0 without it. With nonpad_kv_seqlen
               the last row stands at a sequence's last key
  window_size  left and right, counted from there
"""
import numpy as np

import layer_rounding as lr
from layer_rounding import Near


class Mask:
  """attn_mask as the node is given it, None: none; `visible` and `bias` [batch, heads, rows, keys], any extent
  but the last may be 1."""

  def __init__(self, given, keys):
    self.given, self.bias, self.visible = given, None, np.ones((1, 1, 1, keys), bool)
    self.kind = "none" if given is None else "boolean" if given.dtype == bool else "float"
    if given is None:
      return
    whole = given.reshape((1,) * (4 - given.ndim) + given.shape)
    more = [(0, 0)] * 3 + [(0, keys - whole.shape[-1])]
    if self.kind == "boolean":
      self.visible = np.pad(whole, more)
    else:
      self.bias = np.pad(whole, more, constant_values=-np.inf)


class Node:
  """A node with its inputs. q, k and v are [batch, heads, len, dim], k and v with the past's.

  past      how many of the keys are past_key's; None: the node has no past
  lengths   nonpad_kv_seqlen, or None
  windows   left and right; -1 is unlimited"""

  def __init__(self, q, k, v, mask, *, opset, flat=False, past=None, lengths=None, scale=None, softcap=0,
               causal=False, windows=(-1, -1)):
    self.q, self.k, self.v, self.opset, self.flat, self.lengths = q, k, v, opset, flat, lengths
    self.batch, self.heads, self.rows, self.dim = q.shape
    _, self.heads_kv, self.keys, self.dim_v = v.shape
    self.group, self.has_past, self.past = self.heads // self.heads_kv, past is not None, past or 0
    self.scale, self.softcap, self.causal, self.windows = scale, softcap, causal, list(windows)
    self.mask = Mask(mask, self.keys)

  def laid_out(self, array):
    """[batch, heads, len, dim] as the node has it."""
    if not self.flat:
      return np.ascontiguousarray(array)
    return np.ascontiguousarray(array.transpose(0, 2, 1, 3)).reshape(len(array), array.shape[2], -1)

  def visible(self):
    """[batch, heads, rows, keys]"""
    first = self.past if self.lengths is None else self.lengths[:, None, None, None] - self.rows
    ahead = first + np.arange(self.rows)[:, None] - np.arange(self.keys)  # of the row, from the key
    visible = np.broadcast_to(self.mask.visible, (self.batch, self.heads, self.rows, self.keys)).copy()
    visible &= ahead >= 0 if self.causal else True
    left, right = self.windows
    visible &= (ahead <= left if left >= 0 else True) & (-ahead <= right if right >= 0 else True)
    if self.lengths is not None:
      visible &= np.arange(self.keys) < self.lengths[:, None, None, None]
    return visible & (self.mask.bias > -np.inf) if self.mask.bias is not None else visible

  def by_rounding(self):
    """Results by name, and which keys each row sees. The logits are qk_matmul_output's modes 0 to 2, without
    the mask; "weights" are its mode 3."""
    visible = self.visible()
    scale = None if self.scale is None else float(np.float32(self.scale))
    scaled = lr.dot_scores(Near(self.q), Near(self.k).repeat(self.group, 1), scale)
    capped = logits = lr.softcap(scaled, self.softcap) if self.softcap else scaled
    if self.mask.bias is not None:
      bias = np.where(self.mask.bias > -np.inf, self.mask.bias, 0)
      logits = capped + Near(np.broadcast_to(bias, capped.value.shape))
    out, weights = lr.attend(logits, visible, Near(self.v).repeat(self.group, 1))
    present = Near(np.concatenate([self.k, self.v], -1))
    return {"Y": lr.join_heads(out) if self.flat else out, "weights": weights, "present": present,
            "scaled": scaled, "softcapped": capped, "logits": logits}, visible
