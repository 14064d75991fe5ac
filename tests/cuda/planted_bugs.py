#!/usr/bin/env python3
"""Plants bugs in the library's kernels, and says what finds them.

usage: planted_bugs.py --nvcc NVCC --trials FOLDER --driver LIBRARY [--renew] [--every N] [--only TEXT]
       planted_bugs.py --plant

Each bug of planted_bugs.txt is planted in a copy of kernels/. The kernels that include the changed file
are compiled to PTX, attention in the row that the bug names. Programs of FOLDER (bug_trial, append_trial)
try them twice on the software GPU:

  with all checks, which shows what is reported;
  as hardware often behaves, with quick copies and warps in step, which shows whether a comparison with
    the oracle would have found the bug.

The kernels without a bug must be silent and right both ways. The table in docs/simgpu.md must say the
same; --renew writes it.

--every takes each Nth bug and compares only the lines of those. --only takes the bugs whose name contains
TEXT and just prints their lines. The script always checks first that every pattern can be found; --plant
does only that.

Exit status: 0 the table is right; 1 it is not, a pattern does not occur exactly once, or too few bugs
are found; 2 usage.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/mutation"))

from mutant_kernels import included_by, ptx_command  # noqa: E402

LIST = pathlib.Path(__file__).with_name("planted_bugs.txt")
PAGE = ROOT / "docs/simgpu.md"
BEGIN = "<!-- %s: written by tests/cuda/planted_bugs.py --renew -->"
END = "<!-- end of %s -->"
# Name, source, and the program that runs it.
KERNELS = [("fovea_attention_fwd_sm80_%s", "attention_fwd_sm80.cu", "bug_trial"),
           ("fovea_attention_prepare_sm80", "attention_prepare_sm80.cu", "bug_trial"),
           ("fovea_kv_append_sm80", "kv_append_sm80.cu", "append_trial")]
# The row of attention where a bug names none.
USUAL_ROW = "bf16_d32"

# Least numbers: of bugs, of those that leave the numbers right, and of those in global memory.
LEAST = {"bugs": 200, "right": 50, "global": 20}
SHARE_MIN = 0.9
SECONDS = 20  # processor time limit of one trial, which takes less than two

REPORT = re.compile(r"^simgpu: ([a-z-]+): \S+: .*, PTX line \d+ \((\S+)\), block", re.MULTILINE)


class Bug:
  def __init__(self, name, row=USUAL_ROW):
    self.name, self.row = name, row
    self.pairs = []  # [file or None, pattern, replacement]


def read_bugs(text):
  bugs, file = [], None
  for number, line in enumerate(text.splitlines(), 1):
    word, _, rest = line.partition(" ")
    if not line.strip() or word.startswith("#"):
      continue
    if word == "bug":
      bugs.append(Bug(rest.strip()))
      file = None
    elif word == "row" and bugs:
      bugs[-1].row = rest.strip()
    elif word == "in" and bugs:
      file = rest.strip()
    elif word == "-" and bugs:
      bugs[-1].pairs.append([file, rest.strip(), ""])
    elif word == "+" and bugs and bugs[-1].pairs:
      bugs[-1].pairs[-1][2] = rest.strip()
    else:
      sys.exit(f"{LIST.name}:{number}: not a bug, row, in, - or +: {line}")
  return bugs


def sources(kernels):
  return sorted(path for path in kernels.rglob("*") if path.suffix in (".cu", ".cuh", ".h"))


def plant(bug, kernels):
  """Yields complaints about a bug's patterns; none if it is planted."""
  for file, pattern, replacement in bug.pairs:
    wanted = re.compile(r"\s+".join(re.escape(word) for word in pattern.split()))
    paths = [kernels / file] if file else sources(kernels)
    found = [(path, match) for path in paths for match in wanted.finditer(path.read_text())]
    if len(found) != 1:
      yield f"{bug.name}: {len(found)} times and not once in kernels/{file or ''}: {pattern}"
      continue
    path, match = found[0]
    text = path.read_text()
    path.write_text(text[:match.start()] + replacement + text[match.end():])


def check_patterns(bugs):
  """Yields complaints about the patterns of all bugs. Compiles nothing."""
  for bug in bugs:
    with tempfile.TemporaryDirectory() as folder:
      kernels = pathlib.Path(folder, "kernels")
      shutil.copytree(ROOT / "kernels", kernels)
      yield from plant(bug, kernels)


def kernels_with(files, row):
  """The kernels that include one of the files; all kernels if `files` is empty."""
  return [(name.replace("%s", row), source, program) for name, source, program in KERNELS
          if not files or files & included_by(str(ROOT / "kernels"), source)]


def trial_of(program, row):
  """Which tests of the program try a bug in that row of attention, and the device for them."""
  if program != "bug_trial":
    return "*", {}
  if row == USUAL_ROW:
    return "Trial.*", {"FOVEA_SIMGPU_MULTIPROCESSORS": "16"}  # few need little memory, which is copied
  return f"*/{row}", {"FOVEA_SIMGPU_MULTIPROCESSORS": "1"}


def changed_files(kernels):
  return {str(path.relative_to(kernels)) for path in sources(kernels)
          if path.read_text() != (ROOT / "kernels" / path.relative_to(kernels)).read_text()}


def compile_ptx(nvcc, kernels, wanted):
  """([PTX files], fault)"""
  files = []
  for row, source, _ in wanted:
    files.append(kernels.parent / f"{row}.ptx")
    done = subprocess.run(ptx_command(nvcc, kernels, row, source, files[-1], more=["-lineinfo"]),
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
      return [], done.stdout + done.stderr
  return files, None


def attempt(arguments, program, tests, ptx, settings):
  """(kinds, whether global memory is concerned, whether the numbers are right) of one trial."""
  environment = dict(os.environ, FOVEA_SIMGPU="1", FOVEA_CUDA_DRIVER=arguments.driver,
                     FOVEA_SIMGPU_THREADS="1", FOVEA_SIMGPU_SEED="1", FOVEA_SIMGPU_GO_ON="1",
                     FOVEA_SIMGPU_PTX=":".join(map(str, ptx)), **settings)
  environment.pop("FOVEA_SIMGPU_DEVICE", None)
  command = [os.path.join(arguments.trials, program), "--gtest_brief=1", f"--gtest_filter={tests}"]
  done = subprocess.run(command, env=environment, text=True, capture_output=True, errors="replace", check=False,
                        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1)))
  if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
    return {"endless"}, False, False
  found = REPORT.findall(done.stderr)
  in_global = any(kind in ("global-race", "use-after-free") or ".global" in opcode and
                  kind in ("out-of-bounds", "uninitialised-read") for kind, opcode in found)
  return {kind for kind, _ in found}, in_global, done.returncode == 0


class Result:
  def __init__(self, name):
    self.name, self.fault = name, None
    self.kinds, self.in_global, self.right, self.compared = [], False, True, True

  def is_found(self):
    return bool(self.kinds) or not self.right or not self.compared

  def line(self):
    kinds = ", ".join(self.kinds) if self.kinds else "-"
    return f"| {self.name} | {kinds} | {'right' if self.right else 'wrong'} |"


def try_bug(arguments, bug):
  result = Result(bug.name)
  with tempfile.TemporaryDirectory() as folder:
    kernels = pathlib.Path(folder, "kernels")
    shutil.copytree(ROOT / "kernels", kernels)
    result.fault = "\n".join(plant(bug, kernels))
    if result.fault:
      return result
    wanted = kernels_with(changed_files(kernels), bug.row)
    ptx, result.fault = compile_ptx(arguments.nvcc, kernels, wanted)
    if result.fault:
      return result
    kinds = set()
    for program in sorted({kernel[2] for kernel in wanted}):
      tests, device = trial_of(program, bug.row)
      found, in_global, compared = attempt(arguments, program, tests, ptx, device)
      eager = dict(device, FOVEA_SIMGPU_EAGER="1")
      _, _, right = attempt(arguments, program, tests, ptx, eager)
      kinds |= found
      result.in_global |= in_global
      result.compared &= compared
      result.right &= right
    result.kinds = sorted(kinds)
  return result


def count(results):
  return {"bugs": len(results), "found": sum(r.is_found() for r in results),
          "reported": sum(bool(r.kinds) for r in results), "right": sum(r.right for r in results),
          "global": sum(r.in_global for r in results)}


def table(results):
  n = count(results)
  return "\n".join([
    f"{n['bugs']} bugs: {n['reported']} named by a report, {n['found'] - n['reported']} by the comparison "
    f"alone, {n['bugs'] - n['found']} by nothing; {n['right']} with right numbers, {n['global']} in global "
    "memory.", "", "| bug | found as | numbers |", "|---|---|---|"] + [r.line() for r in results])


def totals(page, results):
  """The totals of both tables. The test kernels' table has one column more."""
  others = re.findall(r"^\| [^|]+ \| [a-z_]+ \| ([^|]+) \| (right|wrong) \|$", page, re.MULTILINE)
  n = count(results)
  bugs, reported = n["bugs"] + len(others), n["reported"] + sum(kinds != "-" for kinds, _ in others)
  found = n["found"] + sum((kinds, numbers) != ("-", "right") for kinds, numbers in others)
  right = n["right"] + sum(numbers == "right" for _, numbers in others)
  return (f"{bugs} bugs in all, {len(others)} in kernels made for it and {n['bugs']} in the library's: "
          f"{reported} are named by\na report, {found - reported} by a comparison alone, "
          f"{bugs - found} by nothing. {right} leave the numbers right.")


def judge(results):
  """Yields complaints about the results."""
  n = count(results)
  for what, least in LEAST.items():
    if n[what] < least:
      yield f"{what}: {n[what]}, which is less than {least}"
  if n["found"] < SHARE_MIN * n["bugs"]:
    yield f"{n['found']} of {n['bugs']} bugs are found: less than {SHARE_MIN:.0%}"


def replaced(text, what, new):
  first, last = BEGIN % what, END % what
  before, begin, rest = text.partition(first)
  _, end, after = rest.partition(last)
  if not begin or not end:
    sys.exit(f"{PAGE.name} lacks the line '{last if begin else first}'")
  return f"{before}{first}\n{new}\n{last}{after}"


def compare(results, renew):
  """Whether the page says what was found; `renew` makes it say so."""
  text = PAGE.read_text()
  new = replaced(text, "planted bugs", table(results))
  new = replaced(new, "totals", totals(text, results))
  if renew:
    PAGE.write_text(new)
  elif new != text:
    there = set(text.splitlines())
    print("docs/simgpu.md says something else; tests/cuda/planted_bugs.py --renew writes\n")
    print("\n".join(line for line in new.splitlines() if line not in there))
    return False
  return True


def compare_lines(results):
  """Whether the page has the line of each result."""
  there = set(PAGE.read_text().splitlines())
  missing = [r.line() for r in results if r.line() not in there]
  print("\n".join(["docs/simgpu.md lacks"] + missing if missing else [f"{len(results)} as the table says"]))
  return not missing


def parse_arguments():
  parser = argparse.ArgumentParser(description="Plants bugs in kernels, and says what finds them.")
  parser.add_argument("--nvcc")
  parser.add_argument("--trials", metavar="FOLDER")
  parser.add_argument("--driver", metavar="LIBRARY")
  parser.add_argument("--plant", action="store_true", help="compile and run nothing")
  parser.add_argument("--renew", action="store_true", help="write the table into docs/simgpu.md")
  parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth bug alone")
  parser.add_argument("--only", metavar="TEXT", help="bugs whose name contains TEXT; prints their lines")
  arguments = parser.parse_args()
  if not arguments.plant and not (arguments.nvcc and arguments.trials and arguments.driver):
    parser.error("--nvcc, --trials and --driver are needed")
  return arguments


def main():
  arguments = parse_arguments()
  bugs = read_bugs(LIST.read_text())
  faults = list(check_patterns(bugs))
  if faults or arguments.plant:
    print("\n".join(faults or [f"{len(bugs)} bugs can be planted"]))
    return 1 if faults else 0
  bugs = [bug for bug in bugs if (arguments.only or "") in bug.name][::arguments.every]
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    unharmed = [Bug(f"no bug, {row}", row) for row in sorted({bug.row for bug in bugs})]
    results = list(pool.map(lambda bug: try_bug(arguments, bug), unharmed + bugs))
  faults = [r.fault for r in results if r.fault]
  clean, results = results[:len(unharmed)], results[len(unharmed):]
  faults = faults or [f"without a bug: {r.line()}" for r in clean if r.is_found()]
  if faults:
    print("\n".join(faults))
    return 1
  if arguments.only:
    print("\n".join(r.line() for r in results))
    return 0
  if arguments.every > 1:
    return 0 if compare_lines(results) else 1
  complaints = list(judge(results))
  print("\n".join(complaints + [table(results).splitlines()[0]]))
  return 0 if compare(results, arguments.renew) and not complaints else 1


if __name__ == "__main__":
  sys.exit(main())
