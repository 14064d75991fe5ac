"""The arithmetic of the models in numpy, in double precision, one input at a time. It is written for
reading: the forward passes of the models are made of it, and the programs in C are compared with them.
`w` is a dict of tensors, as weights.read returns it.
"""
import numpy as np


def linear(w, name, x):
  """W x + b for each row of x, with W stored [out, in]. A layer without a tensor NAME.bias has b = 0."""
  return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def relu(x):
  return np.maximum(x, 0.0)


def sigmoid(x):
  return 1.0 / (1.0 + np.exp(-x))


def softmax(scores):
  """Over the last dimension."""
  e = np.exp(scores - scores.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def step_gru(w, name, x, h):
  """The next state of a GRU. Its gates lie in the order reset, update, new: a third of the rows each."""
  a = w[f"{name}.weight_ih"] @ x + w[f"{name}.bias_ih"]
  b = w[f"{name}.weight_hh"] @ h + w[f"{name}.bias_hh"]
  n = len(h)
  r = sigmoid(a[:n] + b[:n])
  z = sigmoid(a[n:2 * n] + b[n:2 * n])
  new = np.tanh(a[2 * n:] + r * b[2 * n:])
  return (1.0 - z) * new + z * h


def run_gru(w, name, inputs):
  """The states [length, hidden] after each row of the inputs, from a state of zeros."""
  h = np.zeros(w[f"{name}.weight_hh"].shape[1])
  states = []
  for x in inputs:
    h = step_gru(w, name, x, h)
    states.append(h)
  return np.array(states)


def run_both_ways(w, name, inputs):
  """[length, 2 * hidden]: beside the state of a GRU that has read up to a row, the state of another that has
  read from the end down to that row."""
  ahead = run_gru(w, f"{name}.forward", inputs)
  back = run_gru(w, f"{name}.backward", inputs[::-1])[::-1]
  return np.concatenate([ahead, back], axis=1)


def attend_additive(w, name, query, states, keys):
  """Bahdanau's attention: weights = softmax(v . tanh(query + key)) over the states, and their mean under
  these weights. Query and keys are projections, with the bias in the query."""
  weights = softmax(np.tanh(query + keys) @ w[f"{name}.vector"])
  return weights @ states, weights


def write_golden(path, blocks):
  """A golden file. Each block is a dict of named tables (arrays of one or two dimensions)."""
  with open(path, "w", encoding="ascii") as file:
    for block in blocks:
      for name, values in block.items():
        table = np.atleast_2d(np.asarray(values))
        file.write(f"{name} {table.shape[0]} {table.shape[1]}\n")
        for row in table:
          file.write(" ".join(f"{value:.6g}" for value in row) + "\n")


def read_golden(path):
  """The blocks of a golden file. A block begins with the table that is named `input`."""
  words = iter(open(path, encoding="ascii").read().split())
  blocks = []
  for name in words:
    rows, columns = int(next(words)), int(next(words))
    table = np.array([float(next(words)) for _ in range(rows * columns)]).reshape(rows, columns)
    if name == "input":
      blocks.append({})
    blocks[-1][name] = table
  return blocks


def difference(blocks, others):
  """The largest difference of two lists of blocks, relative to the larger of 1 and the value."""
  assert [list(block) for block in blocks] == [list(block) for block in others]
  worst = 0.0
  for block, other in zip(blocks, others):
    for name, values in block.items():
      a, b = np.atleast_2d(np.asarray(values, np.float64)), np.atleast_2d(np.asarray(other[name], np.float64))
      assert a.shape == b.shape, name
      worst = max(worst, float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)))))
  return worst
