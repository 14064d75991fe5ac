#!/usr/bin/env python3
"""Trains a small network that reads handwritten digits of 8 x 8 pixels: the image as a whole asks its regions
by attention and adds the answer to itself. `--check` reads the written files back, with numpy alone.

The images are scikit-learn's 1797 digits, split once at random into 1147 for training, 200 that choose among
seeds, and 450 that are looked at once, at the end. Writers are not known, so they are in all three.
"""
import argparse
import gzip
import pathlib
import time

import numpy as np

import fetch
import reference
import weights

HERE = pathlib.Path(__file__).resolve().parent
MEMBER = "scikit_learn-1.9.1/sklearn/datasets/data/digits.csv.gz"
TRAIN, VALIDATION, TEST = 1147, 200, 450
WINDOW, STRIDE, SIDE = 4, 2, 4  # windows of 4 x 4 pixels, 2 apart, over the image within a rim of one zero
MODEL, HEADS = 64, 4  # 4 heads of 16
EPOCHS, BATCH, RATE = 300, 64, 3e-3
SEEDS = range(5)


def load(data):
  """Images [1797, 64] of 0 to 16 and their labels, shuffled."""
  text = gzip.decompress(fetch.read_member(fetch.fetch("digits", data), MEMBER)).decode("ascii")
  table = np.array([[int(float(word)) for word in line.split(",")] for line in text.splitlines()])
  table = table[np.random.default_rng(0).permutation(len(table))]
  return table[:, :64], table[:, 64]


def cut_regions(images):
  """[count, 64] -> [count, 16 regions, 16 pixels], both in rows from the top left, pixels from 0 to 1."""
  framed = np.pad(images.reshape(-1, 8, 8) / 16.0, ((0, 0), (1, 1), (1, 1)))
  windows = np.lib.stride_tricks.sliding_window_view(framed, (WINDOW, WINDOW), axis=(1, 2))
  return windows[:, ::STRIDE, ::STRIDE].reshape(len(images), SIDE * SIDE, WINDOW * WINDOW)


def forward(w, image):
  """Logits [10] and weights [heads, regions] of one image of 64 pixels: what the program in C does."""
  regions = cut_regions(image[None])[0]
  x = reference.relu(reference.linear(w, "region", regions) + w["position"])
  x = x + reference.relu(reference.linear(w, "mix", x))
  summary = x.mean(0)
  query = reference.linear(w, "attention.query", summary).reshape(HEADS, -1)
  keys = reference.linear(w, "attention.key", x).reshape(len(x), HEADS, -1)
  values = reference.linear(w, "attention.value", x).reshape(len(x), HEADS, -1)
  attention = reference.softmax(np.einsum("hd,jhd->hj", query, keys) / np.sqrt(query.shape[1]))
  context = np.einsum("hj,jhd->hd", attention, values).reshape(-1)
  y = summary + reference.linear(w, "attention.output", context)
  return reference.linear(w, "classes", y), attention


def draw_parameters(seed, attention):
  from training import draw
  rng = np.random.default_rng(seed)
  p = {"region.weight": draw(rng, MODEL, WINDOW * WINDOW), "region.bias": np.zeros(MODEL),
       "position": rng.normal(0.0, 0.3, (SIDE * SIDE, MODEL)),
       "mix.weight": draw(rng, MODEL, MODEL), "mix.bias": np.zeros(MODEL)}
  if attention:
    for name in ["query", "key", "value", "output"]:
      p[f"attention.{name}.weight"] = draw(rng, MODEL, MODEL)
      if name != "key":  # a key's bias adds the same to each score of a row, which the softmax takes away
        p[f"attention.{name}.bias"] = np.zeros(MODEL)
  p.update({"classes.weight": draw(rng, 10, MODEL), "classes.bias": np.zeros(10)})
  return p


def apply_to_batch(p, regions):
  """Logits of a batch, in JAX. Without the attention's parameters, those of the summary alone."""
  import jax
  import jax.numpy as jnp
  from training import linear
  x = jax.nn.relu(linear(p, "region", regions) + p["position"])
  x = x + jax.nn.relu(linear(p, "mix", x))
  y = summary = x.mean(1)
  if "attention.query.weight" in p:
    split = lambda t: t.reshape(*t.shape[:-1], HEADS, MODEL // HEADS)
    query, keys, values = (split(linear(p, f"attention.{name}", t))
                           for name, t in [("query", summary), ("key", x), ("value", x)])
    scores = jnp.einsum("bhd,bjhd->bhj", query, keys) * (MODEL // HEADS) ** -0.5
    context = jnp.einsum("bhj,bjhd->bhd", jax.nn.softmax(scores), values).reshape(summary.shape)
    y = summary + linear(p, "attention.output", context)
  return linear(p, "classes", y)


def vary(rng, images):
  """Copies of other brightness and with noise, half of them moved by up to a pixel each way: more images than
  there are."""
  varied = images.reshape(-1, 8, 8).astype(float)
  framed = np.pad(varied, ((0, 0), (1, 1), (1, 1)))
  moves = rng.integers(0, 3, (len(images), 2))
  for i in np.flatnonzero(rng.random(len(images)) < 0.5):
    down, right = moves[i]
    varied[i] = framed[i, down:down + 8, right:right + 8]
  varied = varied * rng.uniform(0.8, 1.1, (len(images), 1, 1)) + rng.normal(0.0, 0.8, varied.shape)
  return np.clip(varied, 0.0, 16.0).reshape(images.shape)


def train(seed, images, labels, attention=True):
  import jax
  import jax.numpy as jnp
  from training import make_update, start_state

  def loss(p, regions, y):
    z = jax.nn.log_softmax(apply_to_batch(p, regions))
    return -jnp.take_along_axis(z, y[:, None], 1).mean()

  update = make_update(loss, decay=0.02)
  state = start_state(draw_parameters(seed, attention))
  rng = np.random.default_rng(1000 + seed)
  steps = EPOCHS * (len(images) // BATCH)
  done = 0
  for _ in range(EPOCHS):
    order = rng.permutation(len(images))
    for at in range(0, len(images) - BATCH + 1, BATCH):
      done += 1
      chosen = order[at:at + BATCH]
      regions = cut_regions(vary(rng, images[chosen])).astype(np.float32)
      state, _ = update(state, float(done), RATE * (1 - (done - 1) / steps), regions, labels[chosen])
  return state[0]


def share_right(p, images, labels):
  guesses = np.argmax(apply_to_batch(p, cut_regions(images).astype(np.float32)), -1)
  return float((np.asarray(guesses) == labels).mean())


def train_and_write(data, folder):
  from sklearn.linear_model import LogisticRegression
  from training import to_arrays
  images, labels = load(data)
  parts = np.split(np.arange(len(labels)), [TRAIN, TRAIN + VALIDATION])
  (x, y), (x_validation, y_validation), (x_test, y_test) = [(images[part], labels[part]) for part in parts]
  for attention in [False, True]:
    best = None
    for seed in SEEDS:
      start = time.time()
      p = train(seed, x, y, attention)
      right = share_right(p, x_validation, y_validation)
      spent = time.time() - start
      print(f"attention {attention}, seed {seed}: validation {right:.4f}, {spent:.0f} s", flush=True)
      if best is None or right > best[0]:
        best = right, seed, p
    print(f"attention {attention}, seed {best[1]}: test {share_right(best[2], x_test, y_test):.4f}")
  straight = LogisticRegression(C=0.1, max_iter=2000).fit(x / 16, y)
  print(f"logistic regression on pixels: test {straight.score(x_test / 16, y_test):.4f}")
  weights.write(folder / "digits.weights", to_arrays(best[2]))
  rows = (" ".join(map(str, [label, *image])) for image, label in zip(x_test, y_test))
  (folder / "digits.test.txt").write_text("\n".join(rows) + "\n")
  (folder / "digits.labels.txt").write_text("".join(f"{label}\n" for label in range(10)))


def read_test(folder):
  table = np.array([line.split() for line in open(folder / "digits.test.txt")], int)
  return table[:, 1:], table[:, 0]


def describe(w, images):
  """The golden blocks of the first three test images."""
  for i in range(3):
    logits, attention = forward(w, images[i])
    yield {"input": [i], "logits": logits, "weights": attention}


def check(folder, renew):
  """Judges the written weights by the numpy pass, and the golden file with them."""
  w = weights.read(folder / "digits.weights")
  images, labels = read_test(folder)
  right = sum(int(np.argmax(forward(w, image)[0])) == label for image, label in zip(images, labels))
  print(f"digits.weights: {right} of {len(labels)} test images, {right / len(labels):.4f}")
  blocks = list(describe(w, images))
  if renew:
    reference.write_golden(folder / "digits.golden.txt", blocks)
  worst = reference.difference(blocks, reference.read_golden(folder / "digits.golden.txt"))
  print(f"digits.golden.txt: differs by {worst:.1e} at most")
  if right / len(labels) < 0.965 or worst > 1e-5:
    raise SystemExit("the files are not as they should be")


def main():
  parser = argparse.ArgumentParser(description="Train the reader of digits, about 2 minutes, or check it.")
  parser.add_argument("--check", action="store_true", help="train nothing, judge the files that are there")
  parser.add_argument("--data", default=fetch.DATA, metavar="DIR", help="downloads (default: build-models)")
  parser.add_argument("--output", type=pathlib.Path, default=HERE, metavar="DIR",
                      help="where the files are (default: beside this script)")
  arguments = parser.parse_args()
  if not arguments.check:
    train_and_write(arguments.data, arguments.output)
  check(arguments.output, renew=not arguments.check)


if __name__ == "__main__":
  main()
