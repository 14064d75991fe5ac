"""The bench for CUDA code: kernels, the headers that kernels and host share, and the host's CUDA code.

A mutant of a kernel is not linked into anything. It is compiled to PTX, which takes a few seconds for a
small row. The software GPU takes that in place of the image that the unchanged programs embed
(FOVEA_SIMGPU_PTX). All of simgpu's checks are on: a report fails the call, and so the test. A mutant that
leaves the PTX unchanged counts as the same object.

A mutant of the host is compiled and linked, and the images stay as they are. Sources keep their dates, so
that the build uses only the objects that this bench has compiled. A shared header is compiled for both
sides, since both must change together.

Tests run one by one, cheapest first. Each first runs on the unchanged code, which shows how long it may
take.
"""

import glob
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import threading
import time

from mutant_bench import Bench, BenchError

KERNEL_SOURCES = ["kernels/**/*.cuh", "kernels/*.cu", "kernels/shared/*.h", "csrc/plan.c",
                  "csrc/cuda/plan.c", "csrc/cuda/schedule.c", "csrc/cuda/backend.c", "csrc/cuda/attention.c",
                  "csrc/cuda/append.c", "csrc/cuda/merge.c", "csrc/cuda/queue.c"]

CUDA = "tests/cuda/"
# These test the mathematics, which is in headers. If they include the mutant's file they run first.
HEADER_PROGRAMS = {"tests/shape_test.cc": "tests/shape_test",
                   "tests/sequence_rules_test.cc": "tests/sequence_rules_test",
                   "tests/schedule_test.cc": "tests/schedule_test"}
# For mutants of the host: plans, and launches on a driver made for tests.
HOST_PROGRAMS = ["tests/plan_test", CUDA + "cuda_test"]
# If those notice nothing: the calls on the CPU.
LAST_PROGRAMS = ["tests/append_test", "tests/merge_test"] + [
    f"tests/attention/{name}_test" for name in ("weights", "mass", "allocation")]
DEVICE_PROGRAMS = [CUDA + name for name in ("bug_trial", "append_trial", "kernel_test",
                                            "cache_kernel_test", "kernel_promise_test")]
PROGRAMS = list(HEADER_PROGRAMS.values()) + HOST_PROGRAMS + LAST_PROGRAMS + DEVICE_PROGRAMS
LIBRARY = "libsimgpu.so"
KERNEL_BUILD = "cmake --build {build} -j1 --target simgpu " + " ".join(map(os.path.basename, PROGRAMS))

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
# A digest of options and times, which nvcc puts into the names of internal symbols.
UNIT_NAME = re.compile(r"_INTERNAL_[0-9a-f]{8}")
FAILED_TEST = re.compile(r"^\[  FAILED  \] ([^\s,]+)", re.MULTILINE)
REPORT = re.compile(r"^simgpu: ([a-z-]+): ", re.MULTILINE)
# None: our own limit. SIGKILL and SIGXCPU: the kernel's, as the shell reports them and as they are.
OVER_TIME = (None, 137, 152, -9, -24)
SECONDS_MIN, FACTOR = 20, 5


class Variant:
    """Kernels that are compiled for a mutant, and the tests that run them: (program, filter) each."""

    def __init__(self, name, kernels, tests, architecture=80, settings=None):
        self.name, self.kernels, self.tests, self.architecture = name, kernels, tests, architecture
        self.settings = settings or {}


def attention(row):
    return [("fovea_attention_fwd_sm80_" + row, "attention_fwd_sm80.cu"),
            ("fovea_attention_prepare_sm80", "attention_prepare_sm80.cu")]


APPEND = [("fovea_kv_append_sm80", "kv_append_sm80.cu")]
MERGE = [("fovea_merge_sm80_p8", "merge_sm80.cu")]
CALLS = CUDA + "kernel_test"
PROMISES = CUDA + "kernel_promise_test"
# A few hundred rows fill a device of one multiprocessor, and tiles of 128 rows serve them.
ONE = {"FOVEA_SIMGPU_MULTIPROCESSORS": 1}
CACHE_CALLS = CUDA + "cache_kernel_test"
# They are tried in this order. Code that only newer devices run, or that only other rows instantiate, has
# variants of its own at the end.
VARIANTS = [
    Variant("attention", attention("bf16_d32"),
            [(CUDA + "bug_trial", None), (CALLS, "*/bf16_d32:KernelEdge*")]),
    Variant("append", APPEND,
            [(CUDA + "append_trial", None), (CACHE_CALLS, "AppendKernel*:CacheGraph*")]),
    Variant("merge", MERGE, [(CACHE_CALLS, "MergeKernel*:CacheGraph*")]),
    Variant("sm_90", attention("bf16_d32") + APPEND + MERGE,
            [(CUDA + "bug_trial", None), (CUDA + "append_trial", None)], 90),
    Variant("f16", attention("f16_d32"),
            [(CALLS, "*VisibleKeys/f16_d32:*AllKeysVisible/f16_d32:*ZeroQueries*"),
             (CACHE_CALLS, "*AttentionGraph*")]),
    Variant("wide", attention("bf16_d256_q64"),
            [(CALLS, "*MixedBatches*/bf16_d256:*ManyParts/bf16_d256:*Causality/bf16_d256:"
                     "*PaddingMasks/bf16_d256:*ThatDifferFrom*/bf16_d256")]),
    Variant("many rows", attention("bf16_d64"),
            [(CUDA + "bug_trial", "*ManyRows*bf16_d64*"), (PROMISES, "*RowKernel*sm80_bf16_d64")], 80, ONE),
    Variant("many rows, one stage", attention("bf16_d128"),
            [(CUDA + "bug_trial", "*ManyRows*bf16_d128*"), (PROMISES, "*RowKernel*sm80_bf16_d128")], 80, ONE),
    Variant("rules", attention("bf16_d64_general"),
            [(PROMISES, "*RulesKernel*_bf16_d64_*:*RowKernel*sm80_bf16_d64_general:RulesEdge*")]),
    Variant("8 bits", attention("bf16_d64_kv8"),
            [(CUDA + "bug_trial", "*Cached*bf16_d64_kv8"), (PROMISES, "*CachedScales*bf16*d64*"),
             (PROMISES, "*CachedCodes*AtEveryPlace/bf16*:*ThatAreAlike/bf16")]),
    Variant("8 bits, f16", attention("f16_d64_kv8"),
            [(CUDA + "bug_trial", "*Cached*f16_d64_kv8"), (PROMISES, "*CachedScales*f16*d64*"),
             (PROMISES, "*CachedCodes*AtEveryPlace/f16*:*ThatAreAlike/f16")]),
    Variant("8 bits, sm_90", attention("f16_d64_kv8"),
            [(CUDA + "bug_trial", "*Cached*f16_d64_kv8"), (PROMISES, "*CachedCodes*AtEveryPlace/f16*")], 90),
    Variant("8 bits with rules", attention("bf16_d64_general_kv8"),
            [(PROMISES, "*AmongOtherFeatures/bf16")]),
]


def included_by(kernels, source):
    """`source` and the files under the folder `kernels` that it includes, directly or not."""
    found, left = set(), [source]
    while left:
        name = left.pop()
        path = os.path.join(kernels, name)
        if name in found or not os.path.isfile(path):
            continue
        found.add(name)
        for other in INCLUDE.findall(pathlib.Path(path).read_text()):
            left.append(os.path.relpath(other, "kernels"))
    return found


def ptx_command(nvcc, kernels, row, source, ptx, architecture=80, more=()):
    return [nvcc, "-std=c++17", "-O3", "-ptx", f"-arch=compute_{architecture}", "-w", f"-DFV_ROW={row}",
            "-I", os.path.dirname(os.path.abspath(str(kernels))), *more, "-o", str(ptx), os.path.join(str(kernels), source)]


def comparable(ptx):
    """The text without comments, which name the compiler's build, and without digests."""
    text = pathlib.Path(ptx).read_text()
    return UNIT_NAME.sub("_INTERNAL_", re.sub(r"//[^\n]*", "", text))


class Test:
    """One test of a program, or all its tests, on one variant's kernels, or without a variant on the host."""

    def __init__(self, program, name=None, variant=None):
        self.program, self.name, self.variant = program, name, variant
        parts = [variant.name if variant else "", os.path.basename(program), name or ""]
        self.group = ":".join(filter(None, parts))


class Unchanged:
    """Shared by all workers: the programs, kernels and PTX of the unchanged tree."""

    def __init__(self, folder):
        self.folder, self.kernels = folder, os.path.join(folder, "kernels")
        self.texts, self.locks, self.lock = {}, {}, threading.Lock()

    def lock_of(self, name):
        with self.lock:
            return self.locks.setdefault(name, threading.Lock())

    def keep(self, bench):
        shutil.copytree(os.path.join(bench.tree, "kernels"), self.kernels)
        for name in PROGRAMS + [LIBRARY]:
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            shutil.copy2(os.path.join(bench.build, name), self.path(name))

    def path(self, name):
        return os.path.join(self.folder, name)


class KernelBench(Bench):
    """One worker's copy of the tree. Mutants of kernels need no build in it."""

    def __init__(self, options, folder, texts, plan):
        super().__init__(options, folder, texts, plan)
        self.ptx_folder = os.path.join(folder, "ptx")
        os.makedirs(self.ptx_folder)
        if not hasattr(plan, "unchanged"):
            plan.unchanged = Unchanged(os.path.join(os.path.dirname(folder), "unchanged"))
        self.unchanged = plan.unchanged

    # ---- Making ready ----

    def configure(self):
        """Builds here with as many compilers as there are workers, which are idle until the copies exist."""
        super().configure()
        if self.options.images:
            self.take_images(self.options.images)
        self.make(self.options.build.replace("-j1", f"-j{self.options.jobs}"))
        with open(os.path.join(self.build, "CMakeCache.txt")) as file:
            self.nvcc = re.search(r"^FOVEA_NVCC:\w+=(.+)$", file.read(), re.MULTILINE)[1]

    def take_images(self, folder):
        """Takes the images of another build: they cost minutes and are the same in every copy."""
        images = glob.glob(os.path.join(folder, "*.fatbin"))
        sources = glob.glob(os.path.join(self.tree, "kernels", "**", "*.*"), recursive=True)
        if not images or min(map(os.path.getmtime, images)) < max(map(os.path.getmtime, sources)):
            raise BenchError(f"{folder} holds no images that are newer than kernels/")
        for image in images:
            shutil.copyfile(image, os.path.join(self.build, "images", os.path.basename(image)))

    def find_tests(self):
        """Builds, keeps the unchanged programs, and lists their tests. None judges the sources' text."""
        self.prepare()
        self.options.images = os.path.join(self.build, "images")
        self.unchanged.keep(self)
        self.plan.host = [Test(p) for p in list(HEADER_PROGRAMS.values()) + HOST_PROGRAMS]
        self.plan.last = [Test(p) for p in LAST_PROGRAMS]
        self.plan.device = {v.name: self.list_tests_of(v) for v in VARIANTS}
        self.plan.quick = [t for tests in self.plan.device.values() for t in tests
                           if not t.name and t.variant.architecture == 80]
        self.plan.by_group = {}
        for test in self.plan.host + self.plan.last + sum(self.plan.device.values(), []):
            self.plan.add(test.group, test, 0)
            self.plan.by_group[test.group] = test
        return []

    def list_tests_of(self, variant):
        tests = []
        for program, chosen in variant.tests:
            if chosen is None:
                tests.append(Test(program, None, variant))
                continue
            listed = subprocess.run([self.unchanged.path(program), "--gtest_list_tests",
                                     f"--gtest_filter={chosen}"],
                                    capture_output=True, text=True, check=True).stdout
            suite = ""
            for line in listed.splitlines():
                name = line.split("#")[0].rstrip()
                if line.startswith(" "):
                    tests.append(Test(program, suite + name.strip(), variant))
                else:
                    suite = name
        return tests

    # ---- Running a test ----

    def run_test(self, test, programs, ptx, seconds):
        """(status, output) of a test of the programs below the folder `programs`."""
        settings = {}
        if test.variant:
            settings = {"FOVEA_SIMGPU": 1, "FOVEA_SIMGPU_THREADS": 1, "FOVEA_SIMGPU_SEED": 1,
                        "FOVEA_SIMGPU_DEVICE": f"sm_{test.variant.architecture}",
                        "FOVEA_CUDA_DRIVER": os.path.join(programs, LIBRARY),
                        "FOVEA_SIMGPU_PTX": ":".join(ptx), **test.variant.settings}
        words = ["env", *(f"{name}={value}" for name, value in settings.items()),
                 os.path.join(programs, test.program), "--gtest_brief=1", "--gtest_fail_fast"]
        if test.name:
            words.append(f"--gtest_filter={test.name}")
        # The limit is processor time, because other programs may keep the machine busy.
        command = f"ulimit -t {seconds}; " + " ".join(map(shlex.quote, words))
        return self.shell.run(command, self.build, 6 * seconds, True)

    def limit_of(self, test):
        """The seconds that a mutant may take. The first call runs the test on the unchanged code, which
        must pass."""
        with self.unchanged.lock_of(test.group):
            if not self.plan.seconds[test.group]:
                ptx = []
                for row, source in test.variant.kernels if test.variant else ():
                    ptx.append(self.unchanged_ptx(test.variant, row, source)[0])
                started = time.monotonic()
                status, output = self.run_test(test, self.unchanged.folder, ptx, 1800)
                if status != 0:
                    raise BenchError(f"the unchanged tree fails {test.group}:\n{output[-4000:]}")
                self.plan.seconds[test.group] = time.monotonic() - started
        return int(max(SECONDS_MIN, FACTOR * self.plan.seconds[test.group])) + 1

    def try_tests(self, tests, path, programs, ptx):
        """The verdict of the first test that fails; None if none does."""
        left = {test.group: test for test in tests}
        for group in [g for g in self.plan.order_for(path) if g in left]:
            status, output = self.run_test(left[group], programs, ptx, self.limit_of(left[group]))
            if status == 0:
                continue
            self.plan.promote(path, group)
            failed = FAILED_TEST.search(output)
            kinds = sorted(set(REPORT.findall(output)))
            by = left[group].name or (failed[1] if failed else group)
            # A test that runs over time after a report was killed by the report.
            late = status in OVER_TIME and not kinds
            return {"status": "timeout" if late else "killed", "group": group,
                    "by": by + (f" ({', '.join(kinds)})" if kinds else "")}
        return None

    # ---- One mutant ----

    def judge(self, mutant):
        started = time.monotonic()
        path = mutant.path
        self.write(path, mutant.apply(self.texts[path]))
        os.utime(os.path.join(self.tree, path), ns=(self.dates[path], self.dates[path]))
        try:
            verdict = self.judge_written(path)
        finally:
            self.restore(path)
            self.restore_objects()
        return {**verdict, "seconds": round(time.monotonic() - started, 2)}

    def judge_written(self, path):
        jobs = self.commands.get(os.path.realpath(os.path.join(self.tree, path)), [])
        for part in self.parts_of(jobs):
            verdict = self.judge_host(path, *part)
            if verdict:
                return verdict
        return self.judge_device(path, bool(jobs) and bool(self.changed_objects()))

    def parts_of(self, jobs):
        """Yields (compilations, tests) in their order: the headers' own programs, then the rest."""
        for source, program in HEADER_PROGRAMS.items():
            own = [job for job in jobs if job[1].endswith(source)]
            if own:
                yield own, [t for t in self.plan.host if t.program == program]
        rest = [job for job in jobs if not job[1].endswith(tuple(HEADER_PROGRAMS))]
        if rest:
            yield rest, [t for t in self.plan.host if t.program in HOST_PROGRAMS]

    def judge_host(self, path, jobs, tests):
        """Compiles, links and tests. Returns a verdict if one of these fails."""
        for folder, command in jobs:
            if self.shell.run(command, folder, self.build_limit)[0] != 0:
                return {"status": "uncompilable"}
        if not self.changed_objects():
            return None
        targets = " ".join(os.path.basename(t.program) for t in tests)
        command = f"cmake --build {{build}} -j1 --target {targets}"
        if self.run(command, self.build_limit)[0] != 0:
            return {"status": "killed", "by": "the build"}
        return self.try_tests(tests, path, self.build, [])

    def judge_device(self, path, host_changed):
        """Tries the variants one by one, with the changed PTX and, if the host changed, with its programs."""
        different = host_changed
        if host_changed and self.run(self.options.build, self.build_limit)[0] != 0:
            return {"status": "killed", "by": "the build"}
        programs = self.build if host_changed else self.unchanged.folder
        if path.startswith("csrc"):
            verdict = self.try_tests(self.plan.quick + self.plan.last, path, programs, [])
            if verdict:
                return verdict
        for variant in VARIANTS:
            ptx = self.compile_variant(variant, path)
            if ptx is None:
                return {"status": "uncompilable"}
            if not ptx and not host_changed:
                continue
            different = True
            verdict = self.try_tests(self.plan.device[variant.name], path, programs, ptx)
            if verdict:
                return verdict
        return {"status": "survived" if different else "same object"}

    def compile_variant(self, variant, path):
        """The variant's PTX that the mutant changes; None if it does not compile."""
        changed = []
        for row, source in variant.kernels:
            if os.path.relpath(path, "kernels") not in included_by(self.unchanged.kernels, source):
                continue
            target = os.path.join(self.ptx_folder, f"{row}_{variant.architecture}.ptx")
            if not self.compile_ptx(os.path.join(self.tree, "kernels"), row, source, target, variant):
                return None
            if comparable(target) != self.unchanged_ptx(variant, row, source)[1]:
                changed.append(target)
        return changed

    def compile_ptx(self, kernels, row, source, target, variant):
        words = ptx_command(self.nvcc, kernels, row, source, target, variant.architecture)
        return self.shell.run(" ".join(map(shlex.quote, words)), self.tree, self.build_limit)[0] == 0

    def unchanged_ptx(self, variant, row, source):
        """(path, comparable text) of the unchanged kernel; compiled once."""
        target = self.unchanged.path(f"{row}_{variant.architecture}.ptx")
        with self.unchanged.lock_of(target):
            if target not in self.unchanged.texts:
                if not self.compile_ptx(self.unchanged.kernels, row, source, target, variant):
                    raise BenchError(f"the unchanged {source} does not compile for {row}")
                self.unchanged.texts[target] = comparable(target)
        return target, self.unchanged.texts[target]

    def prove_clean(self):
        """Builds the restored copy and runs a test of each kind, to show whether a mutant left something."""
        self.make(self.options.build)
        first = [tests[0] for tests in self.plan.device.values()]
        result = self.try_tests(self.plan.host + first, "", self.build, [])
        if result:
            raise BenchError(f"after the run the restored tree no longer passes {result['by']}: a mutant "
                             "left something behind; don't trust these results")
