"""What f32 may cost a layer: its formulas in double precision, each number with a bound on its error.

`Near` holds numbers as they are without rounding, and how far a computation in f32 may end from each.
Every operation passes its operands' errors on in full, none cancels, and adds its own rounding. U is
2^-24, the most that one rounding costs, relative. So a bound holds for f32 in any order of sums, with
fused multiply-adds or without; met are far smaller errors, as roundings have both signs.

The C library's manual gives the worst errors of its functions in units in the last place, which are
2 U at most: expf 1, tanhf 2, erfcf 3.

Each function of a layer below is its formula again, by numpy. compare-layers proves these values, in
double precision, to be those of the framework, before it uses their bounds.
"""
import contextlib
import math

import numpy as np

U = 2.0 ** -24
UNDERFLOW = 2.0 ** -150  # half the smallest step of f32
EXP, TANH, ERFC = 2, 4, 6  # errors of functions in U, relative
# exp(-x) is off by EXP, which 1 + exp(-x) has at most, and rounds; the quotient rounds.
SIGMOID = EXP + 2
# fovea promises 7 U of the tanh in additive scores.
ADDITIVE_TANH = 7
# cli/judge/criteria.h: logits in f32 cost 8 U of what they are summed from; an lse, by which sources
# are joined and weights made, 4 U of itself; weights and sums over keys another 8 U. Joining sources
# multiplies, adds and divides: 4 U.
LOGIT, LSE, WEIGHT, JOIN = 8, 4, 8, 4


@contextlib.contextmanager
def arithmetic(unit, underflow):
  """Within it, bounds are for arithmetic whose roundings cost `unit` at most, as that of f16 does 2^-11."""
  global U, UNDERFLOW
  before, (U, UNDERFLOW) = (U, UNDERFLOW), (unit, underflow)
  try:
    yield
  finally:
    U, UNDERFLOW = before


class Near:
  """Arrays of doubles, and bounds on how far f32 may be from each."""

  def __init__(self, value, error=0.0):
    self.value = np.asarray(value, np.float64)
    self.error = np.broadcast_to(np.asarray(error, np.float64), self.value.shape)

  def rounded(self, units=1):
    return Near(self.value, self.error + units * (U * (np.abs(self.value) + self.error) + UNDERFLOW))

  def __add__(self, other):
    other = other if isinstance(other, Near) else Near(other)
    return Near(self.value + other.value, self.error + other.error).rounded()

  def __neg__(self):
    return Near(-self.value, self.error)

  def __mul__(self, other):
    return self.products("...,...->...", other if isinstance(other, Near) else Near(other), 1)

  def products(self, subscripts, other, terms):
    """np.einsum of two arrays. A sum of n products has n U of their sizes."""
    size = np.einsum(subscripts, np.abs(self.value), np.abs(other.value))
    most = np.einsum(subscripts, np.abs(self.value) + self.error, np.abs(other.value) + other.error)
    error = most - size + terms * (U * most + UNDERFLOW)
    return Near(np.einsum(subscripts, self.value, other.value), error)

  def through(self, function, units):
    """A monotone function, which is itself off by so many U of its result."""
    exact = function(self.value)
    ends = [np.abs(function(self.value + sign * self.error) - exact) for sign in (-1, 1)]
    return Near(exact, np.maximum(*ends)).rounded(units)

  def sigmoid(self):
    return self.through(lambda x: 1 / (1 + np.exp(-x)), SIGMOID)

  def tanh(self):
    return self.through(np.tanh, TANH)

  def reshape(self, *shape):
    return Near(self.value.reshape(shape), self.error.reshape(shape))

  def transpose(self, *axes):
    return Near(self.value.transpose(axes), self.error.transpose(axes))

  def repeat(self, count, axis):
    return Near(np.repeat(self.value, count, axis), np.repeat(self.error, count, axis))

  def __getitem__(self, index):
    return Near(self.value[index], self.error[index])

  @staticmethod
  def join(parts, axis):
    return Near(np.concatenate([one.value for one in parts], axis),
                np.concatenate([one.error for one in parts], axis))

  def where(self, condition, other):
    other = other if isinstance(other, Near) else Near(np.full(self.value.shape, float(other)))
    return Near(np.where(condition, self.value, other.value), np.where(condition, self.error, other.error))


def linear(x, weight, bias=None):
  """weight [out, in]."""
  y = x.products("...i,oi->...o", Near(weight), weight.shape[1])
  return y if bias is None else y + bias


def split_heads(x, heads):
  """[batch, len, heads * dim] as [batch, heads, len, dim]."""
  batch, length, width = x.value.shape
  return x.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)


def join_heads(x):
  batch, heads, length, dim = x.value.shape
  return x.transpose(0, 2, 1, 3).reshape(batch, length, heads * dim)


def dot_scores(q, k, scale=None):
  """[batch, heads, rows, keys]. The scale is rounded, and multiplies somewhere: that is in LOGIT."""
  dim = q.value.shape[-1]
  scores = q.products("bhld,bhsd->bhls", k, dim + LOGIT)
  scale = 1 / math.sqrt(dim) if scale is None else scale
  return Near(scores.value * scale, scores.error * abs(scale))


def softcap(scores, cap):
  """The header's formula, rounded at every step."""
  return (scores * Near(1 / cap).rounded()).tanh() * cap


def additive_scores(q, k, vector):
  units = (q[:, :, :, None] + k[:, :, None]).through(np.tanh, ADDITIVE_TANH)
  return units.products("bhlsd,d->bhls", Near(vector), len(vector) + LOGIT)


def attend(scores, visible, v, sink=None):
  """Out [batch, heads, rows, dim_v] and weights [batch, heads, rows, keys]; zeros of a row that sees
  nothing. With weights w and logits off by e_j a weight moves by w_j (e_j + sum w e), and out by
  sum w_j e_j |v_j - out|, as what all logits have in common cancels. Both to first order: weights
  cannot move by more than a factor exp(2 max e), which covers what is above."""
  batch, heads, rows, keys = scores.value.shape
  visible = np.broadcast_to(visible, scores.value.shape)
  if sink is not None:  # a key that everyone sees, of value 0
    scores = Near.join([scores, Near(np.full((batch, heads, rows, 1), sink))], -1)
    visible = np.concatenate([visible, np.ones((batch, heads, rows, 1), bool)], -1)
    v = Near.join([v, Near(np.zeros((batch, heads, 1, v.value.shape[-1])))], 2)
  logits = np.where(visible, scores.value, -np.inf)
  seen = visible.any(-1, keepdims=True)
  raised = np.where(visible, np.exp(logits - np.where(seen, logits.max(-1, keepdims=True), 0)), 0)
  w = raised / np.where(seen, raised.sum(-1, keepdims=True), 1)
  size = np.where(visible, np.abs(scores.value), 0).max(-1, keepdims=True)
  off = np.where(visible, scores.error + (LOGIT + LSE) * U * size, 0)
  off = off * np.exp(2 * off.max(-1, keepdims=True))
  terms = (visible.shape[-1] + WEIGHT + JOIN) * U
  out = np.einsum("bhls,bhsd->bhld", w, v.value)
  apart = np.abs(v.value[:, :, None] - out[:, :, :, None])
  moved = np.einsum("bhls,bhlsd->bhld", w * off, apart)
  kept = np.einsum("bhls,bhsd->bhld", w, v.error + terms * (np.abs(v.value) + v.error))
  weights = Near(w, w * (off + (w * off).sum(-1, keepdims=True) + terms))
  return Near(out, moved + kept), weights[..., :keys]


def mean_of_heads(weights):
  """[batch, rows, keys]: the heads are added, and the sum is divided."""
  heads = weights.value.shape[1]
  return weights.products("bhls,h->bls", Near(np.full(heads, 1 / heads)), heads + 1)


def activate(x, kind):
  """The header's formulas, rounded at every step."""
  if kind == "tanh":
    return x.tanh()
  if kind == "relu":
    return x.through(lambda value: np.maximum(value, 0), 0)
  if kind == "silu":
    return x * x.sigmoid()
  if kind == "sigmoid":
    return x.sigmoid()
  if kind == "gelu":
    inner = x * Near(-math.sqrt(0.5)).rounded()
    return x * 0.5 * inner.through(np.vectorize(math.erfc), ERFC)
  if kind == "gelu_tanh":
    cube = x * Near(0.044715).rounded() * x * x
    return x * 0.5 * (((x + cube) * Near(math.sqrt(2 / math.pi)).rounded()).tanh() + 1.0)
  return x


def normalise(kind, x, gain, shift, eps):
  """In double but for x, the rounded sum, and the result. y = d / sqrt(mean of d^2 + eps), and d is off
  by e: y moves by (e + |y| mean(|y| e)) / sqrt(...) at most. The caller's eps is rounded to f32."""
  mean = x.value.mean(-1, keepdims=True) if kind == "layer" else 0.0
  off = x.error + (x.error.mean(-1, keepdims=True) if kind == "layer" else 0.0)
  d = x.value - mean
  root = np.sqrt((d * d).mean(-1, keepdims=True) + eps)
  y = d / root
  moved = np.abs(y) * U * eps / (2 * root * root)
  moved += (off + np.abs(y) * (np.abs(y) * off).mean(-1, keepdims=True)) / root
  gain = 1.0 if gain is None else gain
  return Near(y * gain + (0.0 if shift is None else shift), moved * np.abs(gain)).rounded()


def recur(cell, x, lengths, weights, h, c, backwards):
  """States [batch, len, hidden] and the last h and c, step by step in double, with all errors followed
  through the steps. weights: of x, of h, and their two biases or None."""
  batch, length, _ = x.value.shape
  from_x = linear(x, weights[0], weights[2])
  states = [None] * length
  for t in range(length)[::-1] if backwards else range(length):
    from_h = linear(h, weights[1], weights[3])
    new_h, new_c = (gru_step if cell == "GRU" else lstm_step)(from_x[:, t], from_h, h, c)
    runs = (t < lengths)[:, None]
    h, c = new_h.where(runs, h), new_c.where(runs, c)
    states[t] = new_h.where(runs, 0)
  return Near.join([state.reshape(batch, 1, -1) for state in states], 1), h, c


def gates_of(array, count):
  hidden = array.value.shape[-1] // count
  return [array[..., n * hidden:(n + 1) * hidden] for n in range(count)]


def gru_step(from_x, from_h, h, c):
  (rx, zx, nx), (rh, zh, nh) = gates_of(from_x, 3), gates_of(from_h, 3)
  r, z = (rx + rh).sigmoid(), (zx + zh).sigmoid()
  n = (nx + r * nh).tanh()
  return (-z + 1.0) * n + z * h, c


def lstm_step(from_x, from_h, _, c):
  i, f, g, o = gates_of(from_x + from_h, 4)
  new = f.sigmoid() * c + i.sigmoid() * g.tanh()
  return o.sigmoid() * new.tanh(), new
