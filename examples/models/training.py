"""What the training scripts share: GRUs and the Adam optimizer in JAX. Parameters are a flat dict whose names
are those of the file of weights, so that nothing is renamed on the way there. The scripts import this module
where they train, so that their --check needs numpy alone.
"""
import jax
import jax.numpy as jnp
import numpy as np


def draw(rng, *shape):
  """Normal values whose products with unit inputs have variance 1: the last dimension is summed over."""
  return rng.normal(0.0, shape[-1] ** -0.5, shape)


def draw_gru(rng, name, inputs, hidden):
  gates = 3 * hidden
  return {f"{name}.weight_ih": draw(rng, gates, inputs), f"{name}.weight_hh": draw(rng, gates, hidden),
          f"{name}.bias_ih": np.zeros(gates), f"{name}.bias_hh": np.zeros(gates)}


def to_device(parameters):
  return {name: jnp.asarray(values, jnp.float32) for name, values in parameters.items()}


def linear(p, name, x):
  y = x @ p[f"{name}.weight"].T
  return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def step_gru(p, name, a, h):
  """The next state of a batch, where `a` is the input's share of the gates: W_ih x + b_ih."""
  b = h @ p[f"{name}.weight_hh"].T + p[f"{name}.bias_hh"]
  n = h.shape[-1]
  r = jax.nn.sigmoid(a[:, :n] + b[:, :n])
  z = jax.nn.sigmoid(a[:, n:2 * n] + b[:, n:2 * n])
  return (1 - z) * jnp.tanh(a[:, 2 * n:] + r * b[:, 2 * n:]) + z * h


def project_input(p, name, x):
  return x @ p[f"{name}.weight_ih"].T + p[f"{name}.bias_ih"]


def run_gru(p, name, x, mask):
  """States [batch, length, hidden] of x [batch, length, inputs]. Where the mask is 0 the state stays, so
  that padding changes nothing, at the end as well as before the first input of a reversed batch."""
  gates = project_input(p, name, x).swapaxes(0, 1)

  def step(h, given):
    a, seen = given
    h = jnp.where(seen[:, None] > 0, step_gru(p, name, a, h), h)
    return h, h

  start = jnp.zeros((x.shape[0], p[f"{name}.weight_hh"].shape[1]))
  return jax.lax.scan(step, start, (gates, mask.T))[1].swapaxes(0, 1)


def run_both_ways(p, name, x, mask):
  ahead = run_gru(p, f"{name}.forward", x, mask)
  back = run_gru(p, f"{name}.backward", x[:, ::-1], mask[:, ::-1])[:, ::-1]
  return jnp.concatenate([ahead, back], -1)


def fill(rows, width, more=0):
  """Rows of numbers in one array, and a mask of what is in them and `more` elements after."""
  numbers, mask = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), np.float32)
  for i, row in enumerate(rows):
    numbers[i, :len(row)], mask[i, :len(row) + more] = row, 1
  return numbers, mask


def split_by_length(items, limits, measure):
  """Lists of the items that are no longer than each limit and longer than the limit before."""
  groups = [[] for _ in limits]
  for item in items:
    groups[next(i for i, limit in enumerate(limits) if measure(item) <= limit)].append(item)
  return groups


def make_batches(rng, groups, size):
  """An epoch's batches in random order, each from one group, a tuple of arrays. What is less than a batch at
  the end of a group's random order is left out."""
  batches = []
  for group in groups:
    order = rng.permutation(len(group[0]))
    batches += [(group, order[at:at + size]) for at in range(0, len(order) - size + 1, size)]
  for i in rng.permutation(len(batches)):
    group, rows = batches[i]
    yield [part[rows] for part in group]


def count_batches(groups, size):
  return sum(len(group[0]) // size for group in groups)


def soft_select(scores, mask):
  """The softmax over the positions that the mask shows."""
  return jax.nn.softmax(jnp.where(mask > 0, scores, -1e9))


def make_update(loss, decay=0.0, largest_gradient=None):
  """A step of AdamW with the gradient's norm limited. The state is (parameters, mean, mean square); `time`
  counts from 1."""

  @jax.jit
  def update(state, time, rate, *batch):
    p, mean, square = state
    value, gradient = jax.value_and_grad(loss)(p, *batch)
    if largest_gradient is not None:
      norm = jnp.sqrt(sum((g ** 2).sum() for g in gradient.values()))
      shrink = jnp.minimum(1.0, largest_gradient / (norm + 1e-12))
      gradient = {name: g * shrink for name, g in gradient.items()}
    mean = {name: 0.9 * mean[name] + 0.1 * g for name, g in gradient.items()}
    square = {name: 0.999 * square[name] + 0.001 * g ** 2 for name, g in gradient.items()}
    bias, square_bias = 1 - 0.9 ** time, 1 - 0.999 ** time
    move = {name: mean[name] / bias / (jnp.sqrt(square[name] / square_bias) + 1e-8) for name in p}
    p = {name: q - rate * (move[name] + decay * q) for name, q in p.items()}
    return (p, mean, square), value

  return update


def start_state(parameters):
  p = to_device(parameters)
  zeros = {name: jnp.zeros_like(values) for name, values in p.items()}
  return p, zeros, zeros


def to_arrays(parameters):
  """The tensors as they are written."""
  return {name: np.asarray(values, np.float32) for name, values in parameters.items()}
