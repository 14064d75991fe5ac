#!/usr/bin/env python3
"""examples/movies.c on a made-up model: its data may not be in the tree. Random weights and histories; the
program's movies, logits and weights are those of the formulas, in double precision, and its figure is that of
the same ranking.

usage: movies_test.py PROGRAM

1e-3 of the larger of 1 and the number is allowed, as in model_test.py.
"""
import array
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile

LENGTH, WIDTH, HEADS, LAYERS, BEST = 64, 64, 2, 2, 10
MOVIES = 40
ALLOWED = 1e-3


def write_weights(path, tensors):
  """The format of examples/models/weights.py."""
  lines = ["fovea-weights 1", *(f"{name} f32 {' '.join(map(str, shape))}" for name, (shape, _) in tensors.items())]
  data = bytearray("\n".join(lines).encode() + b"\n\n")
  for _, values in tensors.values():
    data += bytes(-len(data) % 64) + array.array("f", values).tobytes()
  path.write_bytes(data)


def make_model(rng):
  """name -> (shape, numbers that f32 has)."""
  def draw(*shape, size=1.0):
    count = math.prod(shape)
    return shape, list(array.array("f", (rng.gauss(0, size) for _ in range(count))))

  made = {"movies.weight": draw(MOVIES, WIDTH), "position": draw(LENGTH, WIDTH, size=0.3), "norm.gain": draw(WIDTH)}
  for layer in range(LAYERS):
    for part in ("query", "key", "value", "output", "mix_in", "mix_out"):
      made[f"layer{layer}.{part}.weight"] = draw(WIDTH, WIDTH, size=WIDTH ** -0.5)
    for part in ("norm", "mix_norm"):
      made[f"layer{layer}.{part}.gain"] = draw(WIDTH)
  made["layer1.query.bias"] = draw(WIDTH)  # a bias is used where there is one
  return made


class Model:
  def __init__(self, tensors):
    self.rows = {name: [values[at:at + shape[-1]] for at in range(0, len(values), shape[-1])]
                 for name, (shape, values) in tensors.items()}

  def linear(self, name, x):
    bias = self.rows.get(f"{name}.bias", [[0.0] * WIDTH])[0]
    return [[sum(a * b for a, b in zip(row, w)) + bias[o] for o, w in enumerate(self.rows[f"{name}.weight"])]
            for row in x]

  def normalise(self, name, x):
    gain, out = self.rows[f"{name}.gain"][0], []
    for row in x:
      mean = sum(row) / WIDTH
      variance = sum((value - mean) ** 2 for value in row) / WIDTH
      out.append([g * (value - mean) / math.sqrt(variance + 1e-6) for g, value in zip(gain, row)])
    return out

  def attend(self, layer, x):
    """The result, and the weights of each head, a row per movie, which sees itself and those before it."""
    name, seen = f"layer{layer}", []
    queries = self.normalise(f"{name}.norm", x)
    q, k, v = (self.linear(f"{name}.{part}", rows) for part, rows in (("query", queries), ("key", x), ("value", x)))
    joined = [[] for _ in x]
    for head in range(HEADS):
      part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
      seen.append([])
      for i in range(len(x)):
        scores = [sum(a * b for a, b in zip(q[i][part], k[j][part])) / math.sqrt(WIDTH / HEADS) for j in range(i + 1)]
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
        weights = [weight / sum(weights) for weight in weights]
        joined[i] += [sum(w * v[j][part][d] for j, w in enumerate(weights)) for d in range(WIDTH // HEADS)]
        seen[-1].append(weights)
    answer = self.linear(f"{name}.output", joined)
    return [[a + b for a, b in zip(*rows)] for rows in zip(queries, answer)], seen

  def forward(self, history):
    history = history[-LENGTH:]
    places = self.rows["position"][LENGTH - len(history):]
    x = [[a + b for a, b in zip(self.rows["movies.weight"][item], place)] for item, place in zip(history, places)]
    seen = []
    for layer in range(LAYERS):
      x, weights = self.attend(layer, x)
      seen += weights
      h = self.normalise(f"layer{layer}.mix_norm", x)
      inner = [[max(value, 0.0) for value in row] for row in self.linear(f"layer{layer}.mix_in", h)]
      x = [[a + b for a, b in zip(*rows)] for rows in zip(h, self.linear(f"layer{layer}.mix_out", inner))]
    last = self.normalise("norm", x[-1:])[0]
    return [sum(a * b for a, b in zip(last, row)) for row in self.rows["movies.weight"]], seen


def run(program, folder, *arguments):
  return subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def close(got, truth):
  return len(got) == len(truth) and all(abs(a - b) <= ALLOWED * max(1, abs(b)) for a, b in zip(got, truth))


def tables(text):
  words = iter(text.split())
  for name in words:
    rows, columns = int(next(words)), int(next(words))
    yield name, [float(next(words)) for _ in range(rows * columns)]


def roll_out(seen):
  """The last row of the product of the layers, each half its mean weights and half the residual."""
  shares = [0.0] * (len(seen[0]) - 1) + [1.0]
  for layer in reversed(range(LAYERS)):
    heads = seen[layer * HEADS:(layer + 1) * HEADS]
    below = [share / 2 for share in shares]
    for i, share in enumerate(shares):
      for head in heads:
        for j, weight in enumerate(head[i]):
          below[j] += share * weight / 2 / HEADS
    shares = below
  return shares


def check_numbers(program, folder, n, history, logits, seen):
  done = run(program, folder, "--numbers", str(n))
  assert done.returncode == 0, done
  got = dict(tables(done.stdout))
  unseen = [item for item in range(1, MOVIES) if item not in history]
  best = sorted(unseen, key=lambda item: -logits[item])[:BEST]
  assert got["best"] == best, (got["best"], best)
  assert close(got["logits"], [logits[item] for item in best])
  assert close(got["weights"], [weight for head in seen for weight in head[-1]])


def check_map(program, folder, n, history, seen):
  """Rows of the layers' heads, then rollout: half of each layer's weights is the residual."""
  done = run(program, folder, "--map", "map.safetensors", str(n))
  assert done.returncode == 0 and "recommended:" in done.stdout, done
  data = (folder / "map.safetensors").read_bytes()
  length = int.from_bytes(data[:8], "little")
  header = json.loads(data[8:8 + length])
  shown = min(12, len(history))
  assert header["weights"]["shape"] == [1, 5, shown], header
  assert json.loads(header["__metadata__"]["tokens"]) == [[f'"Film" {item}\\' for item in history[-shown:]]]
  numbers = array.array("f", data[8 + length:])
  for row in range(4):
    assert close(numbers[row * shown:(row + 1) * shown], seen[row][-1][-shown:]), row
  assert close(numbers[4 * shown:], roll_out(seen)[-shown:])


def check_refusals(program, folder):
  tests = folder / "build-models/movies.test.txt"
  whole = tests.read_text()
  for line in ("", "\t", "\t1", "1 2", "1 2\t", "1 x\t2", "0\t1", f"1\t{MOVIES}", f"{MOVIES} 1\t2", "1\t2 3", "-1\t2",
               "99999999999999999999\t2"):
    tests.write_text(line + "\n" + whole)
    done = run(program, folder)
    assert done.returncode == 1 and "movies.test.txt" in done.stderr and not done.stdout, (line, done)
  tests.write_text(" ".join(map(str, range(1, MOVIES - 5))) + "\t39\n")
  done = run(program, folder)
  assert done.returncode == 1 and "ten movies" in done.stderr, done
  tests.write_text(whole)
  tests.rename(folder / "aside")
  done = run(program, folder)
  assert done.returncode == 1 and "movies.test.txt: cannot be opened" in done.stderr, done
  assert "examples/models/movies.py" in run(program, folder, "--help").stdout
  assert run(program, folder, "--nothing").returncode == 2


def main(program):
  program, rng = str(pathlib.Path(program).resolve()), random.Random(1)
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    models = folder / "build-models"
    models.mkdir()
    tensors = make_model(rng)
    write_weights(models / "movies.weights", tensors)
    (models / "movies.titles.txt").write_text("".join(f'"Film" {n}\\\n' for n in range(MOVIES)))
    # One movie alone, repetitions, and more than the network reads.
    histories = [[3], [7, 7, 2, 7], *(rng.choices(range(1, 25), k=rng.randint(2, 9)) for _ in range(5)),
                 rng.choices(range(1, 25), k=70)]
    targets = [rng.randint(1, MOVIES - 1) for _ in histories]
    (models / "movies.test.txt").write_text("".join(f"{' '.join(map(str, history))}\t{target}\n"
                                                    for history, target in zip(histories, targets)))
    hits, model = 0, Model(tensors)
    for n, (history, target) in enumerate(zip(histories, targets)):
      logits, seen = model.forward(history)
      above = sum(logits[item] > logits[target] for item in range(1, MOVIES) if item not in history)
      hits += above < BEST
      check_numbers(program, folder, n, history, logits, seen)
      check_map(program, folder, n, history[-LENGTH:], seen)
      done = run(program, folder, str(n))
      assert f'next came "Film" {target}\\, number {above + 1} of the movies not seen' in done.stdout, done
    done = run(program, folder)
    assert done.stdout.startswith(f"{len(histories)} people: HR@10 {hits / len(histories):.3f}"), (hits, done)
    assert 0 < hits < len(histories), hits
    check_refusals(program, folder)
  print(f"{len(histories)} histories, {hits} hits")


if __name__ == "__main__":
  main(*sys.argv[1:])
