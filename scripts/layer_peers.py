"""The layers that compare-layers compares: each drawn at random, computed by its framework and by fovea.

A family is a function of a Draw and of Calls, which returns Results; FAMILIES has them by name. How
each framework's arguments are translated is said in compare-layers.
"""
import collections
import copy
import os
import typing
import warnings

import fovea_ctypes

os.environ["KERAS_BACKEND"] = "torch"  # which is needed anyway, and has einsum in double precision
import keras  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import layer_rounding as lr  # noqa: E402
from layer_rounding import Near  # noqa: E402


class Result(typing.NamedTuple):
  """One kind of numbers that a case computed. Where `seen` is False the framework has no say, and
  `near` alone judges."""
  name: str
  fovea: object
  truth: object
  peer: object
  near: object
  seen: object = True


class Draw:
  """A case's random choices. Numbers are f32's."""

  def __init__(self, seed, number):
    self.rng = np.random.default_rng([seed, number])
    self.said = []

  def size(self, most, least=1):
    return int(self.rng.integers(least, most + 1))

  def length(self, most):
    """Now and then beyond a tile or two of fovea's kernels."""
    return self.size(10 * most if self.maybe(0.15) else most)

  def maybe(self, chance=0.5):
    return bool(self.rng.random() < chance)

  def one_of(self, *choices):
    return choices[self.rng.integers(len(choices))]

  def normal(self, *shape, rows=1):
    return (self.rng.standard_normal(shape) / rows ** 0.5).astype(np.float32)

  def visible(self, *shape):
    return self.rng.random(shape) < 0.7

  def say(self, **what):
    self.said += [f"{name}={value}" for name, value in what.items()]


class Calls:
  """Calls of the library, which keep every array until the next case."""

  def __init__(self, library, handle, broken):
    self.library, self.handle, self.broken = library, handle, broken
    self.kept, self.counts = [], collections.Counter()

  def view(self, array):
    self.kept.append(array)
    return self.library.view(array)

  def tokens(self, array):
    """[batch, len, width]"""
    return self.view(array[:, :, None])

  def address(self, array):
    self.kept.append(array)
    return fovea_ctypes.address(array)

  def linear(self, weight, bias=None, activation="none"):
    """weight [out, in], of any strides."""
    room = self.library.new("fovea_linear", weight=self.view(weight[None, :, None]))
    room.activation = self.library.constants["FOVEA_ACTIVATION_" + activation.upper()]
    if bias is not None:
      room.bias = self.view(bias[None, None, None])
    return room

  def struct(self, name, **fields):
    made = self.library.new(name, **fields)
    self.kept.append(made)
    return made

  def out(self, *shape):
    """An array that was not written yet."""
    return np.full(shape, np.nan, np.float32)

  def multihead(self, sources, **fields):
    array = (self.library.structs["fovea_source"] * len(sources))(*sources)
    self.kept.append(array)
    args = self.struct("fovea_multihead_args", source_count=len(sources), **fields)
    args.sources = fovea_ctypes.ctypes.addressof(array)
    self.handle.layer("fovea_multihead", args)

  def project_memory(self, source, heads_kv, dim, dim_v):
    """Turns a source of tokens into a memory of their keys and values."""
    batch, length = source.x_k.shape[:2]
    k, v = self.out(batch, length, heads_kv, dim), self.out(batch, length, heads_kv, dim_v)
    args = self.struct("fovea_memory_args", heads_kv=heads_kv, dim=dim, dim_v=dim_v, k=self.view(k),
                       v=self.view(v))
    for field in ("x_k", "x_v", "k_proj", "v_proj"):
      setattr(args, field, getattr(source, field))
      setattr(source, field, type(getattr(source, field))())
    self.handle.layer("fovea_memory", args)
    source.k, source.v = args.k, args.v

  def show_mask(self, source, visible):
    """visible [batch, heads, rows, keys], each extent may be 1."""
    shown = visible != (self.broken == "mask")
    source.visibility.mask = self.view(shown.astype(np.uint8).transpose(0, 2, 1, 3))

  def causal_from_first(self, source):
    """Row 0 stands at key 0."""
    source.visibility.causal = 1
    name = "BOTTOM_RIGHT" if self.broken == "causal" else "TOP_LEFT"
    source.positions.alignment = self.library.constants["FOVEA_ALIGN_" + name]


def to_numpy(result):
  """Of any framework, in double precision."""
  if isinstance(result, torch.Tensor):
    result = result.detach().numpy()
  return np.asarray(result).astype(np.float64)


def both(module, draw):
  """A torch module in double precision and in f32, with the same random parameters, and those by name."""
  state = {}
  for name, parameter in module.named_parameters():
    state[name] = draw.normal(*parameter.shape, rows=parameter.shape[-1] if parameter.ndim > 1 else 1)
  pair = []
  for dtype in (torch.float64, torch.float32):
    module = module.to(dtype)
    with torch.no_grad():
      for name, parameter in module.named_parameters():
        parameter.copy_(torch.from_numpy(state[name]))
    pair.append(module.eval())
    module = copy.deepcopy(module)
  return pair, state


def in_both(function):
  """What a function of a dtype gives in double precision and in f32."""
  with torch.no_grad(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of masks of two types, which are meant
    return [function(dtype) for dtype in (torch.float64, torch.float32)]


# ---- torch.nn.MultiheadAttention ----------------------------------------------------------------


class Masks:
  """What hides keys: torch's arguments; `visible` and `bias` [batch, heads, rows, keys] of the keys
  that are tokens; and how fovea is told, in put()."""

  def __init__(self, draw, batch, heads, rows, keys):
    self.padding = draw.one_of("none", "lengths", "random", "bias")
    self.kind = draw.one_of("none", "boolean", "float", "causal")
    self.by_head = self.kind in ("boolean", "float") and draw.maybe()
    draw.say(padding=self.padding, attn_mask=self.kind + (" by head" if self.by_head else ""))
    self.lengths = None
    shown = np.ones((batch, keys), bool)
    if self.padding == "lengths":
      self.lengths = draw.rng.integers(0 if draw.maybe(0.3) else 1, keys + 1, batch).astype(np.int32)
      shown = np.arange(keys) < self.lengths[:, None]
    elif self.padding != "none":
      shown = draw.visible(batch, keys)
    self.shown = shown[:, None, None]
    extents = (batch, heads, rows, keys) if self.by_head else (1, 1, rows, keys)
    below = np.tri(rows, keys, dtype=bool)[None, None]
    self.allowed = below if self.kind == "causal" else draw.visible(*extents)
    self.bias = draw.normal(*extents) if self.kind == "float" else None
    if self.kind in ("none", "float"):
      self.allowed = np.ones((1, 1, 1, 1), bool)
      if self.bias is not None:
        self.bias[~draw.visible(*extents)] = -np.inf
    self.visible = np.broadcast_to(self.shown & self.allowed, (batch, heads, rows, keys))
    if self.bias is not None:
      self.visible = self.visible & (self.bias > -np.inf)

  def torch_arguments(self, dtype):
    given = {}
    if self.padding != "none":
      given["key_padding_mask"] = torch.from_numpy(~self.shown[:, 0, 0])
    mask = self.bias if self.kind == "float" else None if self.kind == "none" else ~self.allowed
    if mask is not None:
      mask = torch.from_numpy(mask.reshape(-1, *mask.shape[2:]) if self.by_head else mask[0, 0])
      given["attn_mask"] = mask.to(dtype) if self.kind == "float" else mask
    return given

  def put(self, calls, source):
    shown, bias = self.allowed, self.bias
    if self.padding == "lengths":
      lengths = self.lengths - (calls.broken == "length")
      source.sequences.kv_lengths = calls.address(np.maximum(lengths, 0))
    elif self.padding == "random":
      shown = shown & self.shown
    elif self.padding == "bias":
      bias = np.where(self.shown, 0 if bias is None else bias, -np.inf).astype(np.float32)
    if self.kind == "causal" and self.padding != "random":
      calls.causal_from_first(source)
    elif self.padding == "random" or self.kind == "boolean":
      calls.show_mask(source, shown)
    if bias is not None:
      source.bias = calls.view(bias.transpose(0, 2, 1, 3))


class TorchMultihead:
  def __init__(self, draw):
    self.heads, self.dim = draw.size(4), draw.size(16)
    self.width = self.heads * self.dim
    batch, rows, self.own = draw.size(3), draw.length(7), draw.maybe(0.4)
    keys = rows if self.own else draw.length(12)
    widths = [self.width if self.own or draw.maybe() else draw.size(20) for _ in "kv"]
    self.first, self.mean, self.wanted = draw.maybe(), draw.maybe(), draw.maybe(0.8)
    self.zero, self.residual, self.projected = draw.maybe(0.3), draw.maybe(0.3), draw.maybe(0.3)
    options = {"kdim": widths[0], "vdim": widths[1], "bias": draw.maybe(0.7), "add_bias_kv": draw.maybe(0.3),
               "add_zero_attn": self.zero, "batch_first": self.first}
    self.modules, self.state = both(torch.nn.MultiheadAttention(self.width, self.heads, **options), draw)
    self.x = draw.normal(batch, rows, self.width)
    self.x_k = self.x if self.own else draw.normal(batch, keys, widths[0])
    same = self.own or widths[0] == widths[1] and draw.maybe()
    self.x_v = self.x_k if same else draw.normal(batch, keys, widths[1])
    draw.say(heads=self.heads, dim=self.dim, x=self.x.shape, x_k=self.x_k.shape, x_v=self.x_v.shape, **options,
             average=self.mean, residual=self.residual, memory=self.projected)
    self.masks = Masks(draw, batch, self.heads, rows, keys)

  def by_torch(self, dtype):
    turn = (lambda array: array) if self.first else lambda array: array.transpose(0, 1)
    tokens = [turn(torch.from_numpy(array).to(dtype)) for array in (self.x, self.x_k, self.x_v)]
    if self.own:
      tokens = [tokens[0]] * 3
    out, weights = self.modules[dtype == torch.float32](
      *tokens, need_weights=self.wanted, average_attn_weights=self.mean, **self.masks.torch_arguments(dtype))
    out = to_numpy(turn(out)) + (self.x if self.residual else 0)
    return out, to_numpy(weights)[..., :self.keys()] if self.wanted else None

  def keys(self):
    """All but that of add_zero_attn, which fovea's weights do not hold."""
    return self.x_k.shape[1] + ("bias_k" in self.state)

  def projections(self):
    """Weight and bias of q, k and v. torch packs them if the widths are one."""
    packed = self.state.get("in_proj_weight")
    weights = [self.state[f"{one}_proj_weight"] for one in "qkv"] if packed is None else np.split(packed, 3)
    biases = np.split(self.state["in_proj_bias"], 3) if "in_proj_bias" in self.state else [None] * 3
    return list(zip(weights, biases))

  def by_rounding(self):
    q, k, v = (lr.linear(Near(x), *projection)
               for x, projection in zip((self.x, self.x_k, self.x_v), self.projections()))
    visible, bias, batch = self.masks.visible, self.masks.bias, len(self.x)
    if "bias_k" in self.state:
      more = [np.repeat(self.state[name], batch, 0) for name in ("bias_k", "bias_v")]
      k, v = (Near.join([one, Near(extra)], 1) for one, extra in zip((k, v), more))
      visible = np.concatenate([visible, np.ones((*visible.shape[:3], 1), bool)], -1)
    q, k, v = (lr.split_heads(one, self.heads) for one in (q, k, v))
    scores = lr.dot_scores(q, k)
    if bias is not None:
      full = np.zeros(scores.value.shape)
      full[..., :bias.shape[-1]] = np.where(bias > -np.inf, bias, 0)
      scores = scores + Near(full)
    o, weights = lr.attend(scores, visible, v, sink=0.0 if self.zero else None)
    out = lr.linear(lr.join_heads(o), self.state["out_proj.weight"], self.state.get("out_proj.bias"))
    seen = visible.any(-1) | self.zero
    return (out + Near(self.x) if self.residual else out), \
      (lr.mean_of_heads(weights) if self.mean else weights), seen

  def as_held(self, array):
    """The same tokens, in memory as torch's user has them."""
    return array if self.first else np.ascontiguousarray(array.swapaxes(0, 1)).swapaxes(0, 1)

  def sources(self, calls):
    (_, k_proj, v_proj) = self.projections()
    x_k, x_v = self.x_k, self.x_v
    if calls.broken == "swap":
      k_proj, v_proj, x_k, x_v = v_proj, k_proj, x_v, x_k
    source = calls.struct("fovea_source", x_k=calls.tokens(self.as_held(x_k)), k_proj=calls.linear(*k_proj),
                          v_proj=calls.linear(*v_proj))
    if x_v is not x_k:
      source.x_v = calls.tokens(self.as_held(x_v))
    if self.projected:
      calls.project_memory(source, self.heads, self.dim, self.dim)
    self.masks.put(calls, source)
    if "bias_k" not in self.state or calls.broken == "memory":
      return [source]
    shape = (len(self.x), 1, self.heads, self.dim)
    k, v = (np.broadcast_to(self.state[name].reshape(1, *shape[1:]), shape) for name in ("bias_k", "bias_v"))
    return [source, calls.struct("fovea_source", k=calls.view(k), v=calls.view(v))]

  def by_fovea(self, calls):
    weight, bias = self.projections()[0]
    out = self.as_held(calls.out(*self.x.shape))
    weights = calls.out(*self.x.shape[:2], 1 if self.mean else self.heads, self.keys())
    out_bias = None if calls.broken == "bias" else self.state.get("out_proj.bias")
    fields = {"x": calls.tokens(self.as_held(self.x)), "q_proj": calls.linear(weight, bias),
              "out_proj": calls.linear(self.state["out_proj.weight"], out_bias), "out": calls.tokens(out),
              "heads_q": self.heads, "heads_kv": self.heads, "dim": self.dim, "dim_v": self.dim}
    if self.residual:
      fields["residual"] = fields["x"]
    if self.wanted:
      fields["weights"] = calls.view(weights)
    if self.zero and calls.broken != "sink":
      fields["sinks"] = calls.address(np.zeros(self.heads, np.float32))
    calls.multihead(self.sources(calls), **fields)
    if calls.broken == "mean" and self.mean and self.wanted:
      weights = calls.out(*weights.shape[:2], self.heads, weights.shape[3])
      calls.multihead(self.sources(calls), **{**fields, "weights": calls.view(weights)})
      weights = weights[:, :, :1]
    return out, weights[:, :, 0] if self.mean else weights.transpose(0, 2, 1, 3)


def count_empty_rows(calls, every, truth, wanted):
  """Counts the rows in which a head sees nothing by what torch makes of them. Returns which rows torch is
  to judge: others too where it has numbers, as it does without weights when no fast path is taken."""
  nan = np.isnan(truth).all(-1, keepdims=True)
  calls.counts["rows that see nothing, NaN by torch"] += int((nan & ~every).sum())
  calls.counts["numbers by torch without weights"] += int((~nan & ~every).sum())
  if wanted and not nan[~every].all():
    raise ValueError("torch has numbers in a row that sees nothing, and its weights: the manual says NaN")
  return every if wanted else ~nan | every


def multihead(draw, calls):
  case = TorchMultihead(draw)
  fovea = case.by_fovea(calls)
  truth, peer = in_both(case.by_torch)
  *near, seen = case.by_rounding()
  every = seen.all(1)[..., None]  # torch's NaN of one head is all of its row's
  every = count_empty_rows(calls, every, truth[0], case.wanted)
  results = [Result("out", fovea[0], truth[0], peer[0], near[0], every)]
  if case.wanted:
    by_weight = every if case.mean else seen[..., None]
    name = "mean weights" if case.mean else "weights"
    results.append(Result(name, fovea[1], truth[1], peer[1], near[1], by_weight))
  return results


# ---- scaled_dot_product_attention ---------------------------------------------------------------


def grouped(draw, calls):
  heads_kv, group, batch, rows, keys = draw.size(3), draw.size(4), draw.size(3), draw.length(9), draw.length(14)
  heads, dim, dim_v = heads_kv * group, draw.length(12), draw.length(12)
  q, k = draw.normal(batch, heads, rows, dim), draw.normal(batch, heads_kv, keys, dim)
  v = draw.normal(batch, heads_kv, keys, dim_v)
  kind, scale = draw.one_of("none", "boolean", "float", "causal"), draw.one_of(None, 0.25, 1.0)
  extents = (draw.one_of(1, batch), draw.one_of(1, heads), rows, keys)
  bias = draw.normal(*extents) if kind == "float" else None
  visible = {"boolean": draw.visible(*extents), "causal": np.tri(rows, keys, dtype=bool)[None, None]}.get(kind)
  draw.say(q=q.shape, k=k.shape, v=v.shape, mask=kind, scale=scale, extents=extents)

  def by_torch(dtype):
    given, mask = [torch.from_numpy(one).to(dtype) for one in (q, k, v)], None
    if kind == "boolean":
      mask = torch.from_numpy(visible)
    elif kind == "float":
      mask = torch.from_numpy(bias).to(dtype)
    return to_numpy(torch.nn.functional.scaled_dot_product_attention(
      *given, attn_mask=mask, is_causal=kind == "causal", scale=scale, enable_gqa=True))

  source = calls.struct("fovea_source", x_k=calls.view(k.transpose(0, 2, 1, 3)),
                        x_v=calls.view(v.transpose(0, 2, 1, 3)))
  if kind == "causal":
    calls.causal_from_first(source)
  elif kind == "boolean":
    calls.show_mask(source, visible)
  elif kind == "float":
    source.bias = calls.view(bias.transpose(0, 2, 1, 3))
  order = np.arange(heads).reshape(heads_kv, group)
  order = order.T.ravel() if calls.broken == "groups" else order.ravel()
  asked, out = np.ascontiguousarray(q[:, order]), calls.out(batch, rows, heads, dim_v)
  calls.multihead([source], x=calls.view(asked.transpose(0, 2, 1, 3)), out=calls.view(out), heads_q=heads,
                  heads_kv=heads_kv, dim=dim, dim_v=dim_v, scale=scale or 0)
  scores = lr.dot_scores(Near(q), Near(k).repeat(group, 1), scale)
  near = lr.attend(scores if bias is None else scores + Near(np.broadcast_to(bias, scores.value.shape)),
                   True if visible is None else visible, Near(v).repeat(group, 1))[0]
  truth, peer = in_both(by_torch)
  return [Result("out", out.transpose(0, 2, 1, 3)[:, np.argsort(order)], truth, peer, near)]


# ---- Keras --------------------------------------------------------------------------------------


def keras_mask(draw, batch, rows, keys):
  """Which keys each row sees [batch, rows, keys], and Keras' arguments for it."""
  given, visible = {}, np.ones((batch, rows, keys), bool)
  if draw.maybe():
    given["attention_mask"] = draw.visible(batch, rows, keys)
    visible &= given["attention_mask"]
  if draw.maybe():
    given["use_causal_mask"] = True
    visible &= np.tri(rows, keys, dtype=bool)
  draw.say(mask=sorted(given))
  return visible, given


def put_keras_mask(calls, source, given):
  if "attention_mask" in given:
    calls.show_mask(source, given["attention_mask"][:, None])
  if "use_causal_mask" in given:
    calls.causal_from_first(source)


def keras_multihead(draw, calls):
  heads, dim, dim_v, batch = (draw.size(most) for most in (4, 16, 16, 3))
  rows, keys = draw.length(7), draw.length(9)
  widths, width_out, with_bias = [draw.size(20) for _ in "qkv"], draw.size(20), draw.maybe(0.7)
  x_q, x_k, x_v = (draw.normal(batch, length, width) for length, width in zip((rows, keys, keys), widths))
  draw.say(heads=heads, x_q=x_q.shape, x_k=x_k.shape, x_v=x_v.shape, dim=dim, dim_v=dim_v, out=width_out,
           bias=with_bias)
  visible, given = keras_mask(draw, batch, rows, keys)
  shapes = [(widths[0], heads, dim), (widths[1], heads, dim), (widths[2], heads, dim_v),
            (heads, dim_v, width_out)]
  biases = [(heads, dim), (heads, dim), (heads, dim_v), (width_out,)]
  kernels = [draw.normal(*shape, rows=np.prod(shape[:2 if shape[0] == heads else 1])) for shape in shapes]
  biases = [draw.normal(*shape) if with_bias else None for shape in biases]
  given_weights = [array for pair in zip(kernels, biases) for array in pair if array is not None]

  def by_keras(dtype):
    name = str(dtype).split(".")[1]
    layer = keras.layers.MultiHeadAttention(heads, dim, value_dim=dim_v, output_shape=width_out,
                                            use_bias=with_bias, dtype=name)
    layer.build(x_q.shape, x_v.shape, x_k.shape)
    layer.set_weights(given_weights)
    tokens = {"query": x_q.astype(name), "value": x_v.astype(name), "key": x_k.astype(name)}
    return [to_numpy(one) for one in layer(**tokens, **given, return_attention_scores=True)]

  flat = [kernel.reshape(kernel.shape[0], -1).T for kernel in kernels[:3]]
  flat.append(kernels[3].reshape(-1, width_out).T)
  flat_bias = [None if one is None else one.ravel() for one in biases]
  near = [lr.split_heads(lr.linear(Near(x), *pair), heads)
          for x, *pair in zip((x_q, x_k, x_v), flat, flat_bias)]
  o, near_weights = lr.attend(lr.dot_scores(*near[:2]), visible[:, None], near[2])
  near_out = lr.linear(lr.join_heads(o), flat[3], flat_bias[3])
  if calls.broken == "kernel":
    flat[0] = kernels[0].swapaxes(1, 2).reshape(widths[0], -1).T
  q_proj, k_proj, v_proj, out_proj = map(calls.linear, flat, flat_bias)
  if calls.broken == "bias":
    out_proj = calls.linear(flat[3])
  source = calls.struct("fovea_source", x_k=calls.tokens(x_k), x_v=calls.tokens(x_v), k_proj=k_proj,
                        v_proj=v_proj)
  put_keras_mask(calls, source, given)
  out, weights = calls.out(batch, rows, width_out), calls.out(batch, rows, heads, keys)
  calls.multihead([source], x=calls.tokens(x_q), q_proj=q_proj, out_proj=out_proj, out=calls.tokens(out),
                  weights=calls.view(weights), heads_q=heads, heads_kv=heads, dim=dim, dim_v=dim_v)
  truth, peer = in_both(by_keras)
  seen = visible.any(-1, keepdims=True)
  return [Result("out", out, truth[0], peer[0], near_out, seen),
          Result("weights", weights.transpose(0, 2, 1, 3), truth[1], peer[1], near_weights, seen[:, None])]


def keras_additive(draw, calls):
  batch, rows, keys, dim, dim_v = draw.size(3), draw.length(7), draw.length(9), draw.size(24), draw.size(24)
  q, k, v = draw.normal(batch, rows, dim), draw.normal(batch, keys, dim), draw.normal(batch, keys, dim_v)
  vector = draw.normal(dim) if draw.maybe(0.8) else np.ones(dim, np.float32)
  scaled, causal, masked = bool((vector != 1).any()), draw.maybe(), draw.maybe()
  value_mask = draw.visible(batch, keys) if masked else np.ones((batch, keys), bool)
  visible = value_mask[:, None] & (np.tri(rows, keys, dtype=bool) if causal else np.ones((rows, keys), bool))
  draw.say(q=q.shape, k=k.shape, v=v.shape, use_scale=scaled, causal=causal, value_mask=masked)

  def by_keras(dtype):
    name = str(dtype).split(".")[1]
    layer = keras.layers.AdditiveAttention(use_scale=scaled, dtype=name)
    inputs = [one.astype(name) for one in (q, v, k)]
    layer.build([one.shape for one in inputs])
    layer.set_weights([vector] if scaled else [])
    mask = [None, value_mask] if masked else None
    out, weights = map(to_numpy, layer(inputs, mask=mask, use_causal_mask=causal, return_attention_scores=True))
    # Keras' matmul rounds its operands and its result to f32, whatever the dtype: the product again.
    return (weights @ v.astype(np.float64) if name == "float64" else out), weights

  scores = lr.additive_scores(Near(q[:, None]), Near(k[:, None]), vector)
  near_out, near_weights = lr.attend(scores, visible[:, None], Near(v[:, None]))
  used = vector.copy()
  if calls.broken == "vector":
    used[-1] = -used[-1]
  source = calls.struct("fovea_source", x_k=calls.tokens(k), x_v=calls.tokens(v))
  put_keras_mask(calls, source, {**({"attention_mask": value_mask[:, None]} if masked else {}),
                                 **({"use_causal_mask": True} if causal else {})})
  out, weights = calls.out(batch, rows, dim_v), calls.out(batch, rows, 1, keys)
  calls.multihead([source], x=calls.tokens(q), out=calls.tokens(out), weights=calls.view(weights), heads_q=1,
                  heads_kv=1, dim=dim, dim_v=dim_v,
                  additive=calls.library.new("fovea_additive", vector=calls.address(used)))
  truth, peer = in_both(by_keras)
  seen = visible.any(-1, keepdims=True)
  return [Result("out", out, truth[0], peer[0], near_out[:, 0], seen),
          Result("weights", weights[:, :, 0], truth[1], peer[1], near_weights[:, 0], seen)]


# ---- Recurrent layers, norms, projections, buckets ----------------------------------------------


class Recurrent:
  def __init__(self, draw):
    self.cell, self.ways = draw.one_of("GRU", "LSTM"), draw.size(2)
    self.batch, self.length, self.wide, self.hidden = draw.size(4), draw.size(6), draw.size(12), draw.size(16)
    module = getattr(torch.nn, self.cell)(self.wide, self.hidden, bias=draw.maybe(0.7), batch_first=True,
                                          bidirectional=self.ways == 2)
    self.modules, self.state = both(module, draw)
    self.x = draw.normal(self.batch, self.length, self.wide)
    padded, begun, self.inputs_first = draw.maybe(0.6), draw.maybe(), draw.maybe()
    self.lengths = draw.rng.integers(1, self.length + 1, self.batch) if padded else None
    self.first = draw.normal(2, self.ways, self.batch, self.hidden) if begun else None  # h and c
    draw.say(cell=self.cell, ways=self.ways, x=self.x.shape, hidden=self.hidden, bias=module.bias,
             lengths=self.lengths, first=begun, inputs_first=self.inputs_first)

  def by_torch(self, dtype):
    x, first = torch.from_numpy(self.x).to(dtype), None
    if self.first is not None:
      first = tuple(torch.from_numpy(one).to(dtype) for one in self.first)
      first = first if self.cell == "LSTM" else first[0]
    if self.lengths is not None:
      x = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(self.lengths), batch_first=True,
                                                  enforce_sorted=False)
    states, last = self.modules[dtype == torch.float32](x, first)
    if self.lengths is not None:
      states = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True, total_length=self.length)[0]
    return [to_numpy(states), *(map(to_numpy, last) if self.cell == "LSTM" else [to_numpy(last)])]

  def weights(self, way):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [self.state.get(f"{name}_l0{'_reverse' if way else ''}") for name in names]

  def by_rounding(self):
    lengths = np.full(self.batch, self.length) if self.lengths is None else self.lengths
    zeros = np.zeros((2, self.ways, self.batch, self.hidden))
    first = zeros if self.first is None else self.first
    parts = [lr.recur(self.cell, Near(self.x), lengths, self.weights(way), Near(first[0, way]),
                      Near(first[1, way]), way == 1) for way in range(self.ways)]
    stack = lambda n: Near.join([part[n].reshape(1, self.batch, self.hidden) for part in parts], 0)
    return [Near.join([part[0] for part in parts], -1), stack(1), *([stack(2)] if self.cell == "LSTM" else [])]

  def by_fovea(self, calls):
    states = calls.out(self.batch, self.length, self.ways * self.hidden)
    last = calls.out(2, self.ways, self.batch, self.hidden)
    as_state = lambda array: calls.view(array[:, None, None])
    for way in range(self.ways):
      args = calls.struct("fovea_recurrent_args", cell=calls.library.constants["FOVEA_CELL_" + self.cell],
                          reverse=int(way == 1 and calls.broken != "direction"), x=calls.tokens(self.x),
                          states=calls.tokens(states[..., way * self.hidden:(way + 1) * self.hidden]))
      weights = self.weights(way)
      for kind, weight, bias in zip("xh", weights[:2], weights[2:]):
        room = calls.linear(self.laid_out(weight, calls), bias)
        setattr(args, f"weight_{kind}", room.weight)
        setattr(args, f"bias_{kind}", room.bias)
      for n, kind in enumerate("hc" if self.cell == "LSTM" else "h"):
        setattr(args, f"{kind}_last", as_state(last[n, way]))
        if self.first is not None:
          setattr(args, f"{kind}_first", as_state(self.first[n, way]))
      if self.lengths is not None:
        args.lengths = calls.address(self.lengths.astype(np.int32))
      calls.handle.layer("fovea_recurrent", args)
    return [states, *last[:2 if self.cell == "LSTM" else 1]]

  def laid_out(self, weight, calls):
    if calls.broken == "gates":
      parts = np.split(weight, len(weight) // self.hidden)
      weight = np.concatenate([parts[1], parts[0], *parts[2:]])
    return np.ascontiguousarray(weight.T).T if self.inputs_first else weight


def recurrent(draw, calls):
  case = Recurrent(draw)
  computed = case.by_fovea(calls), *in_both(case.by_torch), case.by_rounding()
  return [Result(*one) for one in zip(("states", "h_last", "c_last"), *computed)]


def normalise(draw, calls):
  kind, width, shape = draw.one_of("layer", "rms"), draw.size(70), (draw.size(3), draw.size(5))
  eps, affine, unit = draw.one_of(1e-5, 1e-6, 1e-2), draw.maybe(0.7), draw.maybe(0.3)
  with_bias, with_residual = kind == "layer" and draw.maybe(), draw.maybe()
  x = draw.normal(*shape, width) * np.float32(10.0 ** draw.size(1, -3)) + draw.normal(1)
  residual = draw.normal(*shape, width) if with_residual else np.zeros_like(x)
  draw.say(kind=kind, x=x.shape, eps=eps, affine=affine, bias=with_bias, unit_offset=unit,
           residual=with_residual)
  options = {"bias": with_bias} if kind == "layer" else {}
  module = {"layer": torch.nn.LayerNorm, "rms": torch.nn.RMSNorm}[kind](
    width, eps=eps, elementwise_affine=affine, **options)
  modules, state = both(module, draw)
  gain, shift = state.get("weight"), state.get("bias")
  unit = unit and gain is not None
  if unit:  # torch has no such option: its weight is the factor, 1 + gain
    for module in modules:
      with torch.no_grad():
        module.weight.copy_(torch.from_numpy(gain.astype(np.float64) + 1))
  by_torch = lambda dtype: to_numpy(modules[dtype == torch.float32](
    torch.from_numpy(x).to(dtype) + torch.from_numpy(residual).to(dtype)))
  out = calls.out(*x.shape)
  args = calls.struct("fovea_normalise_args", kind=calls.library.constants["FOVEA_NORMALISE_" + kind.upper()],
                      eps=eps * (10 if calls.broken == "eps" else 1), unit_offset=int(unit),
                      x=calls.tokens(x), out=calls.tokens(out))
  args.gain = None if gain is None else calls.address(gain)
  args.shift = None if shift is None else calls.address(shift)
  if with_residual:
    args.residual = calls.tokens(residual)
  calls.handle.layer("fovea_normalise", args)
  factor = gain.astype(np.float64) + 1 if unit else gain
  summed = Near(x) + Near(residual) if with_residual else Near(x)
  near = lr.normalise(kind, summed, factor, shift, eps)
  return [Result(kind, out, *in_both(by_torch), near)]


def linear(draw, calls):
  kind = draw.one_of("none", "tanh", "relu", "gelu", "gelu_tanh", "silu", "sigmoid")
  of_torch = torch.nn.functional
  functions = {"none": lambda y: y, "tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid,
               "silu": of_torch.silu, "gelu": of_torch.gelu,
               "gelu_tanh": lambda y: of_torch.gelu(y, approximate="tanh")}
  batch, length, inputs, outputs = draw.size(3), draw.size(6), draw.size(64), draw.size(40)
  modules, state = both(torch.nn.Linear(inputs, outputs, bias=draw.maybe(0.7)), draw)
  x = draw.normal(batch, length, inputs) * np.float32(draw.one_of(0.1, 1, 4))
  residual = draw.normal(batch, length, outputs) if draw.maybe(0.3) else None
  weight = np.ascontiguousarray(state["weight"].T).T if draw.maybe() else state["weight"]
  draw.say(activation=kind, x=x.shape, outputs=outputs, bias="bias" in state, residual=residual is not None,
           strides=weight.strides)
  more = 0 if residual is None else residual
  project = lambda dtype: modules[dtype == torch.float32](torch.from_numpy(x).to(dtype))
  by_torch = lambda dtype: to_numpy(functions[kind](project(dtype))) + more
  out = calls.out(batch, length, outputs)
  used = "gelu_tanh" if calls.broken == "gelu" and kind == "gelu" else kind
  bias = None if calls.broken == "bias" else state.get("bias")
  args = calls.struct("fovea_linear_args", linear=calls.linear(weight, bias, used), x=calls.tokens(x),
                      out=calls.tokens(out))
  if residual is not None:
    args.residual = calls.tokens(residual)
  calls.handle.layer("fovea_linear_apply", args)
  near = lr.activate(lr.linear(Near(x), state["weight"], state.get("bias")), kind)
  return [Result(kind, out, *in_both(by_torch), near if residual is None else near + Near(residual))]


def bucket_function():
  try:
    from transformers.models.t5.modeling_t5 import T5Attention
    return T5Attention._relative_position_bucket
  except ImportError:
    return None


def buckets(draw, calls):
  """Exactly, but for distances within 1e-6 of a border, where the header promises neither bucket."""
  both_sides, heads, own = draw.maybe(), draw.size(4), draw.maybe(0.4)
  count, most = (32, 128) if own else (2 * draw.size(24, 2), draw.size(300, 50))
  bias, reach = draw.normal(count, heads), 2 * most
  draw.say(buckets=count, max_distance=most, bidirectional=both_sides, heads=heads)
  distances = np.arange(-reach, reach + 1)  # of the key from the row, as T5 counts
  numbers = bucket_function()(torch.from_numpy(distances), bidirectional=both_sides, num_buckets=count,
                              max_distance=most)
  truth = bias[numbers.numpy()].T
  entries = (2 if both_sides else 1) * most + 1
  table, made = calls.out(heads, entries), calls.struct("fovea_distances")
  args = calls.struct("fovea_buckets_args", buckets=count, heads=heads, max_distance=most,
                      bidirectional=int(both_sides), bias=calls.address(bias), table=calls.address(table),
                      entries=entries)
  calls.library.call("fovea_buckets", fovea_ctypes.ctypes.addressof(args), fovea_ctypes.ctypes.addressof(made))
  asked = -distances if calls.broken == "sides" else distances
  found = table[:, np.clip(asked - made.first, 0, made.count - 1)]
  side = count // 2 if both_sides else count
  exact = side // 2
  far = np.log(np.maximum(np.abs(distances), 1) / exact) / np.log(most / exact) * (side - exact)
  border = (np.abs(far - np.round(far)) < 1e-6) & (np.abs(distances) > exact)
  border &= (found != truth).any(0) & (abs(distances) < most)
  calls.counts["T5 distances on a border"] += int(border.sum())
  return [Result("table", found[:, ~border], truth[:, ~border], truth[:, ~border], Near(truth[:, ~border]))]


FAMILIES = {"multihead": multihead, "grouped": grouped, "keras": keras_multihead,
            "keras-additive": keras_additive, "recurrent": recurrent, "normalise": normalise, "linear": linear,
            "buckets": buckets}
