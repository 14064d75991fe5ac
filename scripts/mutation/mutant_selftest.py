"""Proves scripts/mutate on a tiny project whose mutants' fates are known."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from mutant_draw import find_mutants

PROJECT = {
    "CMakeLists.txt": """cmake_minimum_required(VERSION 3.25)
project(tiny C)
enable_testing()
add_library(tiny STATIC src/tiny.c)
foreach(name sum halve)
  add_executable(${name}_test ${name}_test.c)
  target_link_libraries(${name}_test tiny)
  add_test(NAME ${name} COMMAND ${name}_test)
endforeach()
add_test(NAME asleep COMMAND false)
set_tests_properties(asleep PROPERTIES DISABLED TRUE)
add_test(NAME checkout COMMAND false)
set_tests_properties(checkout PROPERTIES LABELS tree)
add_test(NAME tidy COMMAND sh -c "! grep -q 'badly indented' ${CMAKE_SOURCE_DIR}/src/tiny.c")
""",
    "src/tiny.h": """#pragma once
int sum(const int *values, int count);
int halve(int n);
int untested(int a, int b);
unsigned is_set(unsigned n);
struct pair { int first, second; } twins(int a);
static inline int doubled(int x) { return x * 2; }
""",
    "src/tiny.c": """#include "tiny.h"
#include <assert.h>
#define LIMIT (8 + 1) /* a directive */
// A comment: a < b && b > c
static const char quoted[] = "if (a < b) return 0;";
int sum(const int *values, int count) {
  assert(count >= 0 && quoted[0] != 0);
  int total = 0;
  for (int i = 0; i < count; i++) total += values[i];
  return total;
}
int halve(int n) {
  int steps = 0;
  while (n > 1) {
    n /= 2;
    steps++;
  }
  return steps;
}
int untested(int a, int b) { return a - b; }
unsigned is_set(unsigned n) { return n != 0; }
struct pair twins(int a) {
  struct pair both = {a, a};
  return both;
}
""",
    "build_values.h": """static const int values[] = {1, 2, 4, 8};
""",
    "sum_test.c": """#include "build_values.h"
#include "src/tiny.h"
int main(void) {
  return !(sum(values, 3) == 7 && is_set(2) && doubled(3) == 6 && twins(5).second == 5);
}
""",
    "halve_test.c": """#include "src/tiny.h"
int main(void) { return !(halve(8) == 3 && halve(1) == 0); }
""",
}

# (line of the file, operator, replacement): (status, the test that killed it)
FATES = {
    ("src/tiny.c", 9, "relational", "<="): ("killed", "sum"),
    ("src/tiny.c", 9, "statement", ";"): ("killed", "sum"),
    ("src/tiny.c", 9, "offset", "(i) + 1"): ("killed", "sum"),
    ("src/tiny.c", 14, "negate", "!(n > 1)"): ("killed", "halve"),
    ("src/tiny.c", 15, "statement", ";"): ("timeout", "halve"),
    ("src/tiny.c", 20, "arithmetic", "+"): ("survived", None),
    ("src/tiny.c", 21, "relational", ">"): ("same object", None),
    ("src/tiny.c", 24, "return", "0"): ("uncompilable", None),
    ("src/tiny.h", 7, "scale", ""): ("killed", "sum"),
}

SNIPPET = """int f(int a, const int *b, int min) {
  if (a < b[0] && !min) return fmin(a, 2) * 3;
  for (;;) break;
  a = b[a] ? -a : a / 4;
  T *p = g(x_q, x_k);
  int n[4];
  run<wide<long>>(a);
  asm volatile("wait;");
}
"""
SNIPPET_SITES = """
2 negate 'a < b[0] && !min' -> '!(a < b[0] && !min)' | 2 index 'a' -> 'b' | 2 relational '<' -> '<='
2 relational '<' -> '>' | 2 index 'b' -> 'a' | 2 index '0' -> '1' | 2 logical '&&' -> '||'
2 negate '!' -> '' | 2 return 'fmin(a, 2) * 3' -> '0' | 2 minmax 'fmin' -> 'fmax'
2 index 'a' -> 'b'
2 constant '2' -> '(2 + 1)' | 2 constant '2' -> '(2 - 1)' | 2 scale ' * 3' -> ''
2 scale 'fmin(a, 2) * ' -> '' | 2 constant '3' -> '(3 + 1)' | 2 constant '3' -> '(3 - 1)'
3 jump 'break' -> '' | 4 index 'a' -> 'b' | 4 statement 'a = b[a] ? -a : a / 4;' -> ';'
4 index 'b' -> 'a' | 4 offset 'a' -> '(a) + 1' | 4 offset 'a' -> '(a) - 1' | 4 index 'a' -> 'b'
4 negate 'b[a]' -> '!(b[a])' | 4 arithmetic '-' -> '' | 4 index 'a' -> 'b' | 4 index 'a' -> 'b'
4 arithmetic '/' -> '*' | 4 scale ' / 4' -> '' | 4 constant '4' -> '(4 + 1)'
4 constant '4' -> '(4 - 1)' | 5 index 'x_q' -> 'x_k' | 5 index 'x_k' -> 'x_q'
6 constant '4' -> '(4 + 1)' | 6 constant '4' -> '(4 - 1)'
7 statement 'run<wide<long>>(a);' -> ';' | 7 index 'a' -> 'b'
8 statement 'asm volatile("wait;");' -> ';'
"""


class Check:
    def __init__(self):
        self.failed = 0

    def that(self, what, good, seen=""):
        self.failed += not good
        print(f"{'ok    ' if good else 'FAILED'} {what}" + ("" if good else f": {seen}"))


def snapshot(folder):
    """Every file under `folder`, with its digest and date."""
    found = {}
    for base, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            with open(path, "rb") as file:
                found[path] = (hashlib.sha256(file.read()).hexdigest(), os.stat(path).st_mtime_ns)
    return found


def read_records(path):
    with open(path) as file:
        return [json.loads(line) for line in file][1:]


class Trial:
    """One tiny project on disk and the ways to run the tool on it."""

    def __init__(self, script, folder):
        self.script, self.folder, self.root = script, folder, os.path.join(folder, "project")
        for name, text in PROJECT.items():
            path = os.path.join(self.root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(text)
        self.mutants = find_mutants({n: t for n, t in PROJECT.items() if n.startswith("src/")})

    def command(self, results, *arguments):
        self.results = os.path.join(self.folder, results)
        return [sys.executable, self.script, "--root", self.root, "--work", self.folder, "src",
                "--results", self.results, "--timeout-floor", "2", *arguments]

    def run(self, results, *arguments):
        done = subprocess.run(self.command(results, *arguments), capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def ids(self, fate):
        path, line, operator, replacement = fate
        return [m.id for m in self.mutants if (m.path, m.line, m.operator, m.replacement) == fate]


def check_sites(check, trial):
    text = {"snippet.c": SNIPPET}
    seen = [f"{m.line} {m.operator} {SNIPPET[m.start:m.end]!r} -> {m.replacement!r}"
            for m in find_mutants(text)]
    wanted = [s for line in SNIPPET_SITES.strip().split("\n") for s in line.split(" | ")]
    check.that("the operators find exactly the known sites", seen == wanted,
               f"too many {[s for s in seen if s not in wanted]}, "
               f"missing {[s for s in wanted if s not in seen]}")
    lines = {m.line for m in trial.mutants if m.path == "src/tiny.c"}
    check.that("comments, strings, assertions and directives hold no site",
               not lines & {3, 4, 5, 7}, lines)
    status, listed, _ = trial.run("none", "--list", "--macros")
    check.that("--macros adds the bodies of macros",
               "src/tiny.c:3:16:constant:1" in listed and status == 0, listed)


def check_fates(check, trial):
    ids = [i for fate in FATES for i in trial.ids(fate)[:1]]
    check.that("every known mutant is found", len(ids) == len(FATES), ids)
    arguments = [a for i in ids for a in ("--id", i)]
    before = snapshot(trial.root)
    status, out, err = trial.run("fates.jsonl", "--jobs", "2", *arguments)
    check.that("a survivor makes the exit status 1", status == 1, (status, out, err))
    check.that("the user's tree is untouched", snapshot(trial.root) == before)
    check.that("a test that judges the sources' text is left out, and no other",
               [line for line in err.split("\n") if "left out" in line]
               == ["left out, it judges the sources' text: tidy"], err)
    records = {r["id"]: (r["status"], r.get("by")) for r in read_records(trial.results)}
    for (fate, wanted), i in zip(FATES.items(), ids):
        check.that(f"{i} -> {wanted[0]}", records.get(i) == wanted, records.get(i))
    check_explanations(check, trial, arguments)


def check_explanations(check, trial, arguments):
    with open(os.path.join(trial.folder, "fates.unexplained.json")) as file:
        entries = json.load(file)
    check.that("the survivor is offered as an entry without a proof", len(entries) == 1, entries)
    path = os.path.join(trial.folder, "explained.json")
    proof = "Nothing in this project calls the function, so no behaviour can change."
    lies = {**entries[0], "original": "return n - 0;"}
    for what, listed, wanted in (
            ("an entry without a proof explains nothing", entries, 1),
            ("an entry for another text explains nothing", [{**lies, "proof": proof}], 1),
            ("an entry with a proof explains the survivor", [{**entries[0], "proof": proof}], 0)):
        with open(path, "w") as file:
            json.dump(listed, file)
        status, out, _ = trial.run("fates.jsonl", "--resume", "--explained", path, *arguments)
        check.that(what, status == wanted, (status, out))
    killed = next(r for r in read_records(trial.results) if r["status"] == "killed")
    fields = dict(zip(("file", "function", "operator", "original", "mutant"), killed["key"]))
    with open(path, "w") as file:
        json.dump([{**entries[0], "proof": proof}, {**fields, "proof": proof}], file)
    status, out, _ = trial.run("fates.jsonl", "--resume", "--explained", path, *arguments)
    check.that("a proof about a killed mutant is refuted", status == 1 and "tells it apart" in out,
               out)


def check_draw(check, trial):
    def counted():
        return {r["id"]: r["status"] for r in read_records(trial.results)}
    trial.run("one.jsonl", "-n", "8", "--seed", "3")
    alone = counted()
    with open(trial.results) as file:
        lines = file.readlines()
    trial.run("two.jsonl", "-n", "8", "--seed", "3", "--jobs", "2")
    check.that("the draw does not depend on the number of workers", counted() == alone, counted())
    with open(os.path.join(trial.folder, "cut.jsonl"), "w") as file:
        file.write("".join(lines[:4]) + lines[4][:9])
    trial.run("cut.jsonl", "-n", "8", "--seed", "3", "--resume")
    check.that("a run that was cut off ends like a whole one", counted() == alone, counted())
    trial.run("cut.jsonl", "-n", "8", "--seed", "3", "--resume", "--retry", "timeout")
    again = [r["id"] for r in read_records(trial.results)][len(lines) - 1:]
    hung = {i for i, status in alone.items() if status == "timeout"}
    check.that("--retry judges again what ended like that, and nothing else",
               hung and set(again) == hung and counted() == alone, again)
    status, _, err = trial.run("cut.jsonl", "-n", "8", "--seed", "4", "--resume")
    check.that("results of another seed are refused", status == 2 and "another seed" in err, err)


def check_interrupt(check, trial):
    process = subprocess.Popen(trial.command("stopped.jsonl", "-n", "50"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if os.path.exists(trial.results) and len(open(trial.results).readlines()) > 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    check.that("an interrupted run says so", process.wait(60) == 130, process.returncode)
    left = [n for n in os.listdir(trial.folder) if n.startswith("fovea-mutate-")]
    check.that("no run leaves its copies behind", not left, left)


def check_broken_tree(check, trial):
    path = os.path.join(trial.root, "halve_test.c")
    with open(path, "w") as file:
        file.write("int main(void) { return 1; }\n")
    status, _, err = trial.run("broken.jsonl", "-n", "1")
    check.that("a tree that fails its own tests is refused",
               status == 3 and "fails its tests" in err, (status, err))


def run(script):
    check = Check()
    with tempfile.TemporaryDirectory(prefix="mutate-self-test-") as folder:
        trial = Trial(script, folder)
        for step in (check_sites, check_fates, check_draw, check_interrupt, check_broken_tree):
            step(check, trial)
    print("the tool works as it says" if not check.failed else f"{check.failed} checks failed")
    return 1 if check.failed else 0
