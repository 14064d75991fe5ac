#!/usr/bin/env python3
"""Trains a small network that tells whether a sentence about a movie is for or against it: a GRU reads the
sentence both ways, and attention with a learned query pools its states. `--check` reads the written files
back, with numpy alone.

The sentences are those of movie reviews that come with VADER, with the mean score that about 20 people gave
each; those with a score between -0.5 and 0.5 are left out. They are split once at random: 1500 for the test
and the rest for training. Choices were made with --validation, which holds 800 of the rest out instead of the
test. Words begin with the score that VADER's lexicon gives them, which has nothing of the sentences.
"""
import argparse
import collections
import pathlib
import re
import time

import numpy as np

import fetch
import reference
import weights

HERE = pathlib.Path(__file__).resolve().parent
ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
TEST, VALIDATION = 1500, 800
LEXICON = "vaderSentiment-3.3.2/vaderSentiment/vader_lexicon.txt"
UNDECIDED = 0.5  # scores nearer to 0 than this, of -4 to 4, say too little about a side
RARE = 4  # words seen less often in the sentences are unknown, unless the lexicon has them
LONGEST = 64  # tokens; the rest of a sentence is not read
LIMITS = [20, 32, LONGEST]  # sentences that are no longer are trained on together
UNKNOWN = 0
EMBEDDING, HIDDEN = 64, 64
EPOCHS, BATCH, RATE = 12, 64, 3e-3
KEEP = 0.5  # share of the embedding's and the context's elements that dropout keeps
CERTAINTY = 1.5  # a score is learned as the chance that it is for the movie: 1.1 is 84 %, 3 is 99 %
LEXICON_SHARE = 0.5  # of a word's lexicon score, -4 to 4, in the first element of its embedding at the start
SEED = 0
TOKEN = re.compile(rb"[a-z]+(?:'[a-z]+)*|[!?.,]")


def cut_tokens(sentence):
  """The tokens of a sentence: words of ASCII letters in lower case, with apostrophes inside them, and the
  marks ! ? . , one by one. All other bytes of its UTF-8 only separate."""
  return [token.decode("ascii") for token in TOKEN.findall(sentence.encode("utf-8").lower())][:LONGEST]


def load(data):
  """Sentences and scores (above 0: for the movie), shuffled. A sentence whose tokens came before is left
  out, so that none is both in training and in the test."""
  archive = fetch.read_member(fetch.fetch("opinion", data), ARCHIVE)
  lines = fetch.read_member(archive, MEMBER).decode("utf-8").split("\r\n")
  seen, rows = set(), []
  for _, score, sentence in (line.split("\t") for line in lines if line):
    tokens = tuple(cut_tokens(sentence))
    if abs(float(score)) >= UNDECIDED and tokens and tokens not in seen:
      seen.add(tokens)
      rows.append((sentence, float(score)))
  return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]


def load_lexicon(data):
  """The scores of VADER's words."""
  text = fetch.read_member(fetch.fetch("opinion", data), LEXICON).decode("utf-8")
  return {word: float(score) for word, score, *_ in (line.split("\t") for line in text.splitlines() if line)}


def learn_words(sentences, lexicon):
  """The vocabulary, the most frequent first. Number 0 stands for all other words."""
  counts = collections.Counter(token for sentence in sentences for token in cut_tokens(sentence))
  known = [word for word, count in counts.items() if count >= RARE or word in lexicon]
  return ["<unknown>", *sorted(known, key=lambda word: (-counts[word], word))]


def number_tokens(numbers, sentence):
  """Numbers of the tokens, from a dict. A sentence without any is read as one unknown word."""
  return [numbers.get(token, UNKNOWN) for token in cut_tokens(sentence)] or [UNKNOWN]


def forward(w, numbers):
  """The logit that a sentence is for the movie, and the weight of each token: what the program in C does."""
  states = reference.run_both_ways(w, "reader", w["words.weight"][numbers])
  keys = reference.linear(w, "attention.key", states)
  context, attention = reference.attend_additive(w, "attention", w["attention.query"], states, keys)
  return reference.linear(w, "opinion", context)[0], attention


def draw_embeddings(rng, words, lexicon):
  table = rng.normal(0.0, 0.3, (len(words), EMBEDDING))
  table[:, 0] = [LEXICON_SHARE * lexicon.get(word, 0.0) for word in words]
  return table


def draw_parameters(words, lexicon, attention):
  from training import draw, draw_gru
  rng = np.random.default_rng(SEED)
  p = {"words.weight": draw_embeddings(rng, words, lexicon),
       **draw_gru(rng, "reader.forward", EMBEDDING, HIDDEN),
       **draw_gru(rng, "reader.backward", EMBEDDING, HIDDEN)}
  if attention:
    p.update({"attention.key.weight": draw(rng, HIDDEN, 2 * HIDDEN), "attention.query": np.zeros(HIDDEN),
              "attention.vector": 3.0 * draw(rng, HIDDEN)})
  p.update({"opinion.weight": draw(rng, 1, 2 * HIDDEN), "opinion.bias": np.zeros(1)})
  return p


def drop(key, x):
  import jax
  return x * jax.random.bernoulli(key, KEEP, x.shape) / KEEP


def apply_to_batch(p, numbers, mask, key=None):
  """Logits of a batch, in JAX; with dropout if there is a key. Without the attention's parameters, those of
  the last states of the two directions."""
  import jax
  import jax.numpy as jnp
  from training import linear, run_both_ways, soft_select
  x = p["words.weight"][numbers]
  inner, outer = (None, None) if key is None else jax.random.split(key)
  x = x if key is None else drop(inner, x)
  states = run_both_ways(p, "reader", x, mask)
  if "attention.vector" in p:
    scores = jnp.tanh(linear(p, "attention.key", states) + p["attention.query"]) @ p["attention.vector"]
    context = jnp.einsum("bj,bjd->bd", soft_select(scores, mask), states)
  else:
    context = jnp.concatenate([states[:, -1, :HIDDEN], states[:, 0, HIDDEN:]], -1)
  return linear(p, "opinion", context if key is None else drop(outer, context))[:, 0]


def number_words(words):
  return {word: i for i, word in enumerate(words)}


def make_groups(known, rows):
  """Arrays of numbers, mask and scores for the sentences of each limit of LIMITS."""
  from training import fill, split_by_length
  pairs = [(number_tokens(known, sentence), score) for sentence, score in rows]
  groups = split_by_length(pairs, LIMITS, lambda pair: len(pair[0]))
  return [(*fill([numbers for numbers, _ in group], limit), np.float32([score for _, score in group]))
          for limit, group in zip(LIMITS, groups)]


def loss(p, numbers, mask, scores, key):
  import jax
  import jax.numpy as jnp
  z = apply_to_batch(p, numbers, mask, key)
  return jnp.mean(jax.nn.softplus(z) - z * jax.nn.sigmoid(CERTAINTY * scores))


def train(groups, attention, words, lexicon):
  import jax
  from training import count_batches, make_batches, make_update, start_state
  update = make_update(loss, decay=0.1)
  state = start_state(draw_parameters(words, lexicon, attention))
  rng, key = np.random.default_rng(1000 + SEED), jax.random.PRNGKey(SEED)
  steps, done = EPOCHS * count_batches(groups, BATCH), 0
  for _ in range(EPOCHS):
    for batch in make_batches(rng, groups, BATCH):
      done += 1
      rate = RATE * (1 - (done - 1) / steps)
      state, _ = update(state, float(done), rate, *batch, jax.random.fold_in(key, done))
  return state[0]


def share_right(p, groups):
  right = sum(int(((np.asarray(apply_to_batch(p, numbers, mask)) > 0) == (scores > 0)).sum())
              for numbers, mask, scores in groups)
  return right / sum(len(scores) for _, _, scores in groups)


def judge_tfidf(rows, test):
  """The baseline without order: logistic regression on tf-idf of words and pairs of words."""
  from sklearn.feature_extraction.text import TfidfVectorizer
  from sklearn.linear_model import LogisticRegression
  pairs = lambda tokens: [" ".join(pair) for pair in zip(tokens, tokens[1:])]
  vectorizer = TfidfVectorizer(analyzer=lambda sentence: cut_tokens(sentence) + pairs(cut_tokens(sentence)))
  features = vectorizer.fit_transform([sentence for sentence, _ in rows])
  model = LogisticRegression(C=10, max_iter=300).fit(features, [score > 0 for _, score in rows])
  unseen = vectorizer.transform([sentence for sentence, _ in test])
  return model.score(unseen, [score > 0 for _, score in test])


def train_and_judge(rest, held_out, lexicon):
  """The vocabulary and the parameters that `rest` gives; prints how they and the baselines do."""
  words = learn_words((sentence for sentence, _ in rest), lexicon)
  print(f"{len(rest)} sentences for training, {len(words)} words, {len(held_out)} held out")
  print(f"tf-idf and logistic regression: {judge_tfidf(rest, held_out):.4f}", flush=True)
  known = number_words(words)
  for attention in [False, True]:
    start = time.time()
    p = train(make_groups(known, rest), attention, words, lexicon)
    right = share_right(p, make_groups(known, held_out))
    print(f"attention {attention}: {right:.4f}, {time.time() - start:.0f} s", flush=True)
  return words, p


def write_files(folder, words, p, test):
  from training import to_arrays
  weights.write(folder / "opinion.weights", to_arrays(p))
  (folder / "opinion.words.txt").write_text("".join(f"{word}\n" for word in words), encoding="ascii")
  lines = "".join(f"{int(score > 0)}\t{sentence}\n" for sentence, score in test)
  (folder / "opinion.test.txt").write_text(lines, encoding="utf-8", newline="\n")


def read_test(folder):
  lines = (folder / "opinion.test.txt").read_text(encoding="utf-8").split("\n")[:-1]
  return [(line[2:], int(line[0])) for line in lines]


def describe(w, known, rows):
  """The golden blocks of the first three test sentences."""
  for i, (sentence, _) in enumerate(rows[:3]):
    numbers = number_tokens(known, sentence)
    logit, attention = forward(w, numbers)
    yield {"input": [i], "tokens": numbers, "logit": [logit], "weights": attention}


def check(folder, renew):
  """Judges the written weights by the numpy pass, and the golden file with them."""
  w = weights.read(folder / "opinion.weights")
  known = number_words((folder / "opinion.words.txt").read_text(encoding="ascii").splitlines())
  rows = read_test(folder)
  right = sum((forward(w, number_tokens(known, sentence))[0] > 0) == label for sentence, label in rows)
  print(f"opinion.weights: {right} of {len(rows)} test sentences, {right / len(rows):.4f}")
  blocks = list(describe(w, known, rows))
  if renew:
    reference.write_golden(folder / "opinion.golden.txt", blocks)
  worst = reference.difference(blocks, reference.read_golden(folder / "opinion.golden.txt"))
  print(f"opinion.golden.txt: differs by {worst:.1e} at most")
  if right / len(rows) < 0.805 or worst > 1e-5:
    raise SystemExit("the files are not as they should be")


def main():
  parser = argparse.ArgumentParser(description="Train the reader of opinions, about 2 minutes, or check it.")
  parser.add_argument("--check", action="store_true", help="train nothing, judge the files that are there")
  parser.add_argument("--validation", action="store_true",
                      help="hold out 800 other sentences instead of the test's, and write nothing")
  parser.add_argument("--data", default=fetch.DATA, metavar="DIR", help="downloads (default: build-models)")
  parser.add_argument("--output", type=pathlib.Path, default=HERE, metavar="DIR",
                      help="where the files are (default: beside this script)")
  arguments = parser.parse_args()
  if not arguments.check:
    rows, lexicon = load(arguments.data), load_lexicon(arguments.data)
    test, rest = rows[:TEST], rows[TEST:]
    if arguments.validation:
      train_and_judge(rest[VALIDATION:], rest[:VALIDATION], lexicon)
      return
    write_files(arguments.output, *train_and_judge(rest, test, lexicon), test)
  check(arguments.output, renew=not arguments.check)


if __name__ == "__main__":
  main()
