"""All mutants of a set of files, and the order in which a seed draws them.

The draw is stratified by operator, then by file. An operator's weight is the square root of its number
of mutants: ten times the sites weigh three times as much, so that constants don't drown loop bounds.
Each turn goes to the operator that has had the fewest turns for its weight. One of its files is drawn
with weights of the same kind, and in the file every site is equally likely. A drawn site comes up again,
with another replacement, only when its file has no fresh site left for the operator.
"""

import collections
import difflib
import hashlib
import math
import random

from mutant_operators import OPERATORS
from mutant_tokens import token_lists


class Mutant:
    """One replacement in one file; `id` is FILE:LINE:COLUMN:OPERATOR:N."""

    def __init__(self, path, text, operator, token, number, edit):
        self.path, self.operator, self.number = path, operator, number
        self.function = token.function
        self.start, self.end, self.replacement = edit
        self.line = text.count("\n", 0, token.start) + 1
        self.column = token.start - (text.rfind("\n", 0, token.start) + 1) + 1
        self.id = f"{path}:{self.line}:{self.column}:{operator}:{number}"

    def apply(self, text):
        return text[:self.start] + self.replacement + text[self.end:]

    def key(self, text):
        """Identifies the mutant in an explanation, even after lines are added above it."""
        first = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", self.end)
        last = len(text) if last < 0 else last
        mutated = text[first:self.start] + self.replacement + text[self.end:last]
        return (self.path, self.function, self.operator,
                " ".join(text[first:last].split()), " ".join(mutated.split()))

    def diff(self, text):
        lines = difflib.unified_diff(text.splitlines(), self.apply(text).splitlines(),
                                     "a/" + self.path, "b/" + self.path, n=2, lineterm="")
        return "\n".join(lines)


def find_mutants(texts, with_macros=False):
    """Every mutant of every operator in {path: text}, in the order of the text."""
    mutants = []
    for path, text in sorted(texts.items()):
        for tokens in token_lists(text, with_macros):
            for k, token in enumerate(tokens):
                for operator, propose in OPERATORS.items() if token.live else ():
                    for number, edit in enumerate(propose(text, tokens, k), 1):
                        mutants.append(Mutant(path, text, operator, token, number, edit))
    return mutants


def digest(mutants, seed):
    """A digest of all mutants and the seed. Results under another digest belong to another run."""
    text = "\n".join([str(seed)] + [f"{m.id} {m.replacement}" for m in mutants])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shuffled(mutants, rng):
    keys = {m: rng.random() for m in mutants}
    return sorted(mutants, key=lambda m: (m.number, keys[m]))


def draw_order(mutants, seed):
    """Yields every mutant once. Uses only random(), whose sequence per seed Python promises."""
    rng = random.Random(f"mutate {seed}")
    strata = collections.defaultdict(lambda: collections.defaultdict(list))
    for mutant in mutants:
        strata[mutant.operator][mutant.path].append(mutant)
    operator_weight = {o: math.sqrt(sum(map(len, files.values()))) for o, files in strata.items()}
    file_weight = {o: {f: math.sqrt(len(m)) for f, m in files.items()}
                   for o, files in strata.items()}
    left = {o: {f: shuffled(m, rng) for f, m in files.items()} for o, files in strata.items()}
    turns = {operator: rng.random() for operator in sorted(left)}
    while left:
        operator = min(left, key=lambda o: (turns[o] / operator_weight[o], o))
        turns[operator] += 1
        path = weighted_choice({f: file_weight[operator][f] for f in left[operator]}, rng)
        yield left[operator][path].pop(0)
        if not left[operator][path]:
            del left[operator][path]
        if not left[operator]:
            del left[operator]


def weighted_choice(weights, rng):
    point = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        point -= weight
        if point < 0:
            return name
    return name


def totals_table(mutants):
    """Mutants and lines per file, one column per operator that occurs."""
    operators = [o for o in OPERATORS if any(m.operator == o for m in mutants)]
    counts = collections.Counter((m.path, m.operator) for m in mutants)
    counts.update(("total", m.operator) for m in mutants)
    paths = sorted({m.path for m in mutants})
    width = max([len(p) for p in paths] + [5])
    rows = [["file".ljust(width), "lines", "mutants"] + operators]
    for path in paths + ["total"]:
        chosen = [m for m in mutants if path in (m.path, "total")]
        lines = len({(m.path, m.line) for m in chosen})
        rows.append([path.ljust(width), lines, len(chosen)] + [counts[path, o] for o in operators])
    return "\n".join("  ".join(str(c).rjust(len(h)) for c, h in zip(row, rows[0])) for row in rows)
