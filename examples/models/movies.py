#!/usr/bin/env python3
"""Trains a small network that recommends a movie from the movies that somebody has seen, in their order: causal
self-attention over the history, as Kang and McAuley (2018) do it (SASRec). `--check` reads the written files
back, with numpy alone, and can compare the program in C.

The histories are those of MovieLens 100K, which may be used for research but not be passed on: they are
fetched, and what is made of them stays in the folder of downloads. The last movie of each person is the test: it is
ranked among all that the person has not seen before. HR@10 is the share of people for whom it is among
the first ten. --validation holds the last movie but one out instead, and forgets the last.
"""
import argparse
import pathlib
import subprocess
import time

import numpy as np

import fetch
import reference
import weights

RATINGS, MOVIES = (f"recbole/dataset_example/ml-100k/ml-100k.{part}" for part in ("inter", "item"))
LENGTH = 64  # the last movies of a history that are read
WIDTH, HEADS, LAYERS = 64, 2, 2
EPOCHS, BATCH, RATE, DECAY = 60, 64, 1e-3, 1e-2
WARMUP = 100  # steps
KEEP = 0.7  # share of the elements that dropout keeps
EPSILON = 1e-6
RECENT, FORGET = 20, 0.9  # of the baseline: it reads that many movies, each counting less than the next by this
SEED = 0


def load(data):
  """Titles by number, from 1 on, and the histories: numbers of movies in the order of their ratings. Ratings of one
  second are in the order of the file."""
  archive = fetch.fetch("movies", data)
  rows = [line.split("\t") for line in fetch.read_member(archive, RATINGS).decode().splitlines()[1:]]
  names = [line.split("\t") for line in fetch.read_member(archive, MOVIES).decode().splitlines()[1:]]
  known = {int(row[0]): f"{row[1]} ({row[2]})" for row in names}
  numbers = {item: i + 1 for i, item in enumerate(sorted({int(row[1]) for row in rows}))}
  histories = {}
  for user, item, _, when in rows:
    histories.setdefault(int(user), []).append((int(float(when)), numbers[int(item)]))
  ordered = [[item for _, item in sorted(history, key=lambda pair: pair[0])]
             for _, history in sorted(histories.items())]
  return ["<none>", *(known.get(item, str(item)) for item in numbers)], ordered


def normalise(w, name, x):
  """Layer norm with a gain and no shift."""
  centred = x - x.mean(-1, keepdims=True)
  return w[f"{name}.gain"] * centred / np.sqrt(x.var(-1, keepdims=True) + EPSILON)


def attend(w, name, x):
  """The layer's result for normed queries over tokens as they are, the residual added; and the weights
  [heads, len, len]."""
  queries = normalise(w, f"{name}.norm", x)
  split = lambda rows: rows.reshape(len(x), HEADS, -1).swapaxes(0, 1)
  q, k, v = (split(reference.linear(w, f"{name}.{part}", rows))
             for part, rows in (("query", queries), ("key", x), ("value", x)))
  scores = q @ k.swapaxes(1, 2) / np.sqrt(WIDTH // HEADS)
  attention = reference.softmax(np.where(np.tri(len(x)) > 0, scores, -np.inf))
  joined = (attention @ v).swapaxes(0, 1).reshape(len(x), WIDTH)
  return queries + reference.linear(w, f"{name}.output", joined), attention


def forward(w, history):
  """The logits of all movies to come next, and the weights of each layer: what the program in C does."""
  history = history[-LENGTH:]
  x = w["movies.weight"][history] + w["position"][LENGTH - len(history):]
  seen = []
  for n in range(LAYERS):
    x, attention = attend(w, f"layer{n}", x)
    seen.append(attention)
    h = normalise(w, f"layer{n}.mix_norm", x)
    x = h + reference.linear(w, f"layer{n}.mix_out", reference.relu(reference.linear(w, f"layer{n}.mix_in", h)))
  return w["movies.weight"] @ normalise(w, "norm", x[-1]), seen


def draw_parameters(movies):
  from training import draw
  rng = np.random.default_rng(SEED)
  p = {"movies.weight": 0.3 * draw(rng, movies, WIDTH), "position": 0.3 * draw(rng, LENGTH, WIDTH),
       "norm.gain": np.ones(WIDTH)}
  p["movies.weight"] *= WIDTH ** 0.5 / 2
  for n in range(LAYERS):
    for part in ("query", "key", "value", "output", "mix_in", "mix_out"):
      p[f"layer{n}.{part}.weight"] = draw(rng, WIDTH, WIDTH)
    p[f"layer{n}.norm.gain"] = np.ones(WIDTH)
    p[f"layer{n}.mix_norm.gain"] = np.ones(WIDTH)
  return p


def apply_to_batch(p, history, key=None):
  """States after each movie of a batch [batch, LENGTH], in JAX; 0 stands before a short history. With dropout
  if there is a key."""
  import jax
  import jax.numpy as jnp
  from training import linear

  def drop(x, place):
    if key is None:
      return x
    return x * jax.random.bernoulli(jax.random.fold_in(key, place), KEEP, x.shape) / KEEP

  def norm(name, x):
    return p[f"{name}.gain"] * (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + EPSILON)

  def split(x):
    return x.reshape(*x.shape[:2], HEADS, -1)

  x = drop(p["movies.weight"][history] + p["position"], 0)
  visible = (jnp.tril(jnp.ones((LENGTH, LENGTH))) > 0) & (history > 0)[:, None, None]
  for n in range(LAYERS):
    queries = norm(f"layer{n}.norm", x)
    q, k, v = (split(linear(p, f"layer{n}.{part}", rows))
               for part, rows in (("query", queries), ("key", x), ("value", x)))
    scores = jnp.einsum("bihd,bjhd->bhij", q, k) / np.sqrt(WIDTH // HEADS)
    attention = jax.nn.softmax(jnp.where(visible, scores, -1e9))
    joined = jnp.einsum("bhij,bjhd->bihd", attention, v).reshape(x.shape)
    x = queries + drop(linear(p, f"layer{n}.output", joined), 2 * n + 1)
    h = norm(f"layer{n}.mix_norm", x)
    mixed = linear(p, f"layer{n}.mix_out", jnp.maximum(linear(p, f"layer{n}.mix_in", h), 0))
    x = h + drop(mixed, 2 * n + 2)
  return norm("norm", x)


def cut_windows(histories):
  """Movies and the movie after each, in windows that overlap by half, [windows, LENGTH] each."""
  inputs, outputs = [], []
  for history in histories:
    for end in range(len(history), 1, -(LENGTH // 2)):
      window = history[max(0, end - LENGTH - 1):end]
      gap = [0] * (LENGTH + 1 - len(window))
      inputs.append(gap + window[:-1])
      outputs.append(gap + window[1:])
      if end <= LENGTH + 1:
        break
  return np.array(inputs, np.int32), np.array(outputs, np.int32)


def train(histories, movies, report):
  import jax
  import jax.numpy as jnp
  from training import make_update, start_state

  def loss(p, inputs, outputs, key):
    z = jax.nn.log_softmax(apply_to_batch(p, inputs, key) @ p["movies.weight"].T)
    right = jnp.take_along_axis(z, outputs[..., None], -1)[..., 0]
    return -(right * (outputs > 0)).sum() / (outputs > 0).sum()

  inputs, outputs = cut_windows(histories)
  update, state = make_update(loss, decay=DECAY), start_state(draw_parameters(movies))
  rng, key = np.random.default_rng(SEED + 1), jax.random.PRNGKey(SEED)
  steps, done, start = EPOCHS * (len(inputs) // BATCH), 0, time.time()
  for epoch in range(EPOCHS):
    order = rng.permutation(len(inputs))
    for at in range(0, len(inputs) - BATCH + 1, BATCH):
      done += 1
      rows, rate = order[at:at + BATCH], RATE * min(1, done / WARMUP) * (1 - (done - 1) / steps)
      state, value = update(state, float(done), rate, inputs[rows], outputs[rows], jax.random.fold_in(key, done))
    if (epoch + 1) % 10 == 0:
      print(f"epoch {epoch + 1}, {time.time() - start:.0f} s: loss {float(value):.3f}, {report(state[0])}", flush=True)
  return state[0]


def rank(scores, history, target):
  """How many movies that are not in the history have a larger score."""
  scores = np.array(scores, np.float64)
  scores[[0, *set(history)]] = -np.inf
  return int((scores > scores[target]).sum())


def judge(ranks):
  ranks = np.array(ranks)
  gain = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0).mean()
  return (ranks < 10).mean(), gain


def show(rates):
  return f"HR@10 {rates[0]:.4f}, NDCG@10 {rates[1]:.4f}"


def judge_popularity(histories, targets, movies):
  counts = np.bincount([item for history in histories for item in history], minlength=movies)
  return judge([rank(counts, history, target) for history, target in zip(histories, targets)])


def judge_cosine(histories, targets, movies):
  """Movies are near if the same people have seen them; the last ones of a history count most."""
  seen = np.zeros((len(histories), movies))
  recent = np.zeros_like(seen)
  for row, history in enumerate(histories):
    seen[row, history] = 1
    for age, item in enumerate(reversed(history[-RECENT:])):
      recent[row, item] = FORGET ** age
  popular = np.maximum(seen.sum(0), 1)
  near = seen.T @ seen / np.sqrt(np.outer(popular, popular))
  np.fill_diagonal(near, 0)
  return judge([rank(scores, history, target)
                for scores, history, target in zip(recent @ near, histories, targets)])


def train_and_write(data, folder, held_out):
  import jax
  from training import to_arrays
  titles, whole = load(data)
  histories, targets = [history[:-held_out] for history in whole], [history[-held_out] for history in whole]
  padded = np.array([[0] * (LENGTH - len(history[-LENGTH:])) + history[-LENGTH:] for history in histories], np.int32)
  last = jax.jit(lambda p, rows: apply_to_batch(p, rows)[:, -1] @ p["movies.weight"].T)

  def report(p):
    scores = np.asarray(last(p, padded))
    return show(judge([rank(row, history, target) for row, history, target in zip(scores, histories, targets)]))

  print(f"{len(whole)} people, {len(titles) - 1} movies")
  print(f"popularity: {show(judge_popularity(histories, targets, len(titles)))}")
  print(f"item cosine: {show(judge_cosine(histories, targets, len(titles)))}")
  p = train(histories, len(titles), report if held_out > 1 else lambda p: "")
  print(f"attention: {report(p)}")
  if held_out > 1:
    return
  weights.write(folder / "movies.weights", to_arrays(p))
  (folder / "movies.titles.txt").write_text("".join(f"{title}\n" for title in titles), "utf-8")
  (folder / "movies.test.txt").write_text("".join(
    f"{' '.join(map(str, history))}\t{target}\n" for history, target in zip(histories, targets)))


def read_test(folder):
  rows = [line.split("\t") for line in (folder / "movies.test.txt").read_text().splitlines()]
  return [list(map(int, history.split())) for history, _ in rows], [int(target) for _, target in rows]


def describe(w, histories):
  """The golden blocks of the first three people: the ten movies and their logits, and the weights with which
  the last movie of the history looks at the history, by layer and head."""
  for n in range(3):
    logits, seen = forward(w, histories[n])
    open_ = np.array(logits)
    open_[[0, *set(histories[n])]] = -np.inf
    best = np.argsort(-open_, kind="stable")[:10]
    yield {"input": [n], "best": best, "logits": logits[best],
           "weights": np.concatenate([attention[:, -1] for attention in seen])}


def check_program(program, folder, blocks, rate):
  """The program in C: its numbers, and its figure. It reads build-models, wherever that is."""
  def run(*arguments):
    return subprocess.run([program, *arguments], cwd=folder.parent, capture_output=True, text=True, check=True).stdout

  (folder / "movies.program.txt").write_text("".join(run("--numbers", str(n)) for n in range(3)))
  worst = reference.difference(reference.read_golden(folder / "movies.program.txt"), blocks)
  said = run().splitlines()[0]
  print(f"{program}: differs by {worst:.1e} at most; {said}")
  if worst > 1e-3 or f"HR@10 {rate:.3f}" not in said:
    raise SystemExit("the program computes something else")


def check(folder, program):
  """Judges the written weights by the numpy pass."""
  w = weights.read(folder / "movies.weights")
  histories, targets = read_test(folder)
  rates = judge([rank(forward(w, history)[0], history, target) for history, target in zip(histories, targets)])
  print(f"movies.weights: {show(rates)} of {len(targets)} people")
  if program:
    check_program(program.resolve(), folder.resolve(), list(describe(w, histories)), rates[0])
  if rates[0] < 0.19:
    raise SystemExit("the files are not as they should be")


def main():
  parser = argparse.ArgumentParser(description="Train the recommender of movies, 6 to 9 minutes, or check it.")
  parser.add_argument("--check", action="store_true", help="train nothing, judge the files that are there")
  parser.add_argument("--program", type=pathlib.Path, metavar="PATH",
                      help="compare build/examples/example_movies, too, which reads build-models")
  parser.add_argument("--validation", action="store_true", help="hold the last movie but one out, write nothing")
  parser.add_argument("--data", type=pathlib.Path, default=fetch.DATA, metavar="DIR",
                      help="downloads, and where the files are (default: build-models)")
  arguments = parser.parse_args()
  if not arguments.check:
    train_and_write(arguments.data, arguments.data, 2 if arguments.validation else 1)
  if not arguments.validation:
    check(arguments.data, arguments.program)


if __name__ == "__main__":
  main()
