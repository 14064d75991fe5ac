"""The bench a mutant is judged on: a copy of the working tree with its own build folder.

A mutant costs one compile, one link, and the tests until one fails. The changed file's objects are
compiled first, by their own commands from compile_commands.json. A mutant that does not compile, or
compiles to the same object, never reaches the linker. Afterwards the source gets its text and its date
back, and the objects get their bytes back under a fresh date. So the next build links them again, but
compiles only the next mutant. At the end a run on the restored copy proves that nothing of any mutant
stayed behind.
"""

import glob
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import threading
import time

DECOY = "\n   /* This line is badly indented, to find the tests that look at sources. */\n"
TEST_LINE = re.compile(r"Test\s+#(\d+): .*?(Passed|\*\*\*[^\d\n]+?)\s+([\d.]+) sec")
# The list of failures at the end of ctest's output. Text after a "#" there is GoogleTest's parameter.
FAILED_LINE = re.compile(r"^\s+\d+ - (.+?)(?:\s+# .*)? \((.+)\)$", re.MULTILINE)
START_LINE = re.compile(r"^\s+Start\s+\d+: (.+?)(?:\s+# .*)?$", re.MULTILINE)
BUILD_SECONDS_MIN = 120


class BenchError(Exception):
    """The unchanged tree does not build, does not pass, or did not survive the run."""


def copy_tree(root, target):
    """Copies the tree: tracked and new files, but nothing that git ignores."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-coz", "--exclude-standard"],
                            capture_output=True, text=True)
    if listed.returncode != 0:
        def ignored(folder, names):
            return [n for n in names if folder == root and os.path.isdir(os.path.join(root, n))
                    and n.startswith(("build", ".git"))]
        shutil.copytree(root, target, symlinks=True, ignore=ignored)
        return
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = os.path.join(root, name), os.path.join(target, name)
        if os.path.lexists(source) and not os.path.isdir(source):
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


class Shell:
    """Runs one command at a time in its own session, so that it can be ended with its children."""

    def __init__(self, memory_gib, log):
        self.log = log
        limit = f"ulimit -v {memory_gib * 1024 * 1024}; " if memory_gib else ""
        # Memory and files have no limit by default, because tests map terabytes and make files with
        # holes of that size. If a mutant uses up the memory, the kernel ends it first.
        self.limits = "echo 1000 > /proc/self/oom_score_adj; ulimit -c 0; " + limit
        self.process, self.stopped, self.lock = None, False, threading.Lock()

    def run(self, command, cwd, seconds, limited=False):
        """Returns (exit status or None after `seconds`, output)."""
        with open(self.log, "w+", errors="replace") as output:
            with self.lock:
                if self.stopped:
                    raise KeyboardInterrupt
                self.process = subprocess.Popen(
                    (self.limits if limited else "") + command, shell=True, cwd=cwd, stdout=output,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
            try:
                status = self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = None
            self.kill()
            self.process.wait()
            if self.stopped:
                raise KeyboardInterrupt
            output.seek(0)
            return status, output.read()

    def kill(self):
        """Ends the command and whatever it has left running."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, AttributeError):
            pass

    def stop(self):
        with self.lock:
            self.stopped = True
            self.kill()


class TestPlan:
    """The tests, grouped by the program that runs them, in the order that kills soonest.

    Fast groups come first. A group that kills moves to the front. For mutants of the same source file
    it comes before all others, because it is likely to kill those, too.
    """

    def __init__(self, options):
        self.groups, self.seconds = {}, {}
        self.order, self.by_file, self.lock = [], {}, threading.Lock()
        self.factor, self.floor = options.timeout_factor, options.timeout_floor
        self.wanted_first = []
        if options.test_order:
            self.wanted_first = pathlib.Path(options.test_order).read_text().split()

    def add(self, group, number, seconds):
        self.groups.setdefault(group, []).append(number)
        self.seconds[group] = self.seconds.get(group, 0) + seconds

    def sort(self):
        def place(group):
            given = group in self.wanted_first
            return (self.wanted_first.index(group) if given else len(self.wanted_first),
                    self.seconds[group])
        self.order = sorted(self.groups, key=place)

    def order_for(self, path):
        with self.lock:
            own = self.by_file.get(path, [])
            return own + [g for g in self.order if g not in own]

    def promote(self, path, group):
        with self.lock:
            for order in (self.order, self.by_file.setdefault(path, [])):
                if group in order:
                    order.remove(group)
                order.insert(0, group)

    def limit(self, group):
        return max(self.floor, self.factor * self.seconds[group])


class Bench:
    """One worker's copy of the tree."""

    def __init__(self, options, folder, texts, plan):
        self.options, self.plan, self.texts = options, plan, texts
        self.tree, self.build = os.path.join(folder, "tree"), os.path.join(folder, "tree", "build")
        self.saved = os.path.join(folder, "objects")
        self.shell = Shell(options.memory_gib, os.path.join(folder, "log"))
        self.objects = {}
        os.makedirs(folder)
        copy_tree(options.root, self.tree)
        self.dates = {path: os.stat(os.path.join(self.tree, path)).st_mtime_ns for path in texts}

    def run(self, command, limit, limited=False, **fields):
        fields.update(build=shlex.quote(self.build), tree=shlex.quote(self.tree))
        return self.shell.run(command.format(**fields), self.tree, limit, limited)

    def write(self, path, text):
        with open(os.path.join(self.tree, path), "w", newline="") as file:
            file.write(text)

    def restore(self, path):
        """Gives a source its text back, and the date it had: older than its objects."""
        self.write(path, self.texts[path])
        os.utime(os.path.join(self.tree, path), ns=(self.dates[path], self.dates[path]))

    def make(self, command):
        status, output = self.run(command, 7200)
        if status != 0:
            raise BenchError(f"the unchanged tree does not build: {command}\n{output[-4000:]}")

    def configure(self):
        self.make(self.options.configure)

    def prepare(self):
        """Configures, builds and remembers the objects."""
        self.configure()
        started = time.monotonic()
        self.make(self.options.build)
        self.build_limit = max(BUILD_SECONDS_MIN, 3 * (time.monotonic() - started))
        for path in glob.glob(os.path.join(self.build, "**", "*.o"), recursive=True):
            copy = os.path.join(self.saved, os.path.relpath(path, self.build))
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copyfile(path, copy)
            self.objects[path] = (copy, os.stat(path).st_mtime_ns)
        self.read_compile_commands()

    def read_compile_commands(self):
        """self.commands: {absolute source or header: [(folder, command), ...]}."""
        self.commands = {}
        try:
            with open(os.path.join(self.build, "compile_commands.json")) as file:
                entries = json.load(file)
        except FileNotFoundError:
            return
        for entry in entries:
            job = (entry["directory"], entry["command"])
            written = shlex.split(entry["command"])
            listing = os.path.join(entry["directory"], written[written.index("-o") + 1] + ".d")
            names = [entry["file"]]
            if os.path.exists(listing):
                names += pathlib.Path(listing).read_text().replace("\\\n", " ").split()
            for name in {os.path.join(entry["directory"], n) for n in names}:
                self.commands.setdefault(os.path.realpath(name), []).append(job)

    def find_tests(self):
        """Finds the tests to run, and leaves out those that judge the sources' text.

        A test of that kind, such as a format check, would kill every mutant and prove nothing. So all
        tests run once with a badly formatted line added to every source. Those that pass go into the
        plan. Those that fail here but pass on the clean tree judge the text; returns their names.
        """
        self.set_decoy(True)
        self.prepare()
        if "{tests}" not in self.options.test:
            self.set_decoy(False)
            self.plan.add("all tests", 0, self.time_single_command())
            return []
        tests = self.list_tests()
        output = self.run_tests(sorted(tests), 7200, keep_going=True)[1]
        results = {int(n): (state, float(s)) for n, state, s in TEST_LINE.findall(output)}
        if not results:
            raise BenchError(f"there is no test to run: {self.options.test}\n{output[-4000:]}")
        self.set_decoy(False)
        idle = {n for n in results if re.search("Skipped|Disabled", results[n][0])}
        failing = sorted(n for n in results.keys() - idle if results[n][0].startswith("***"))
        status, output = self.run_tests(failing, 7200, keep_going=True)
        if status != 0:
            raise BenchError(f"the unchanged tree fails its tests:\n{output[-4000:]}")
        for number in sorted(results.keys() - idle - set(failing)):
            self.plan.add(tests[number][0], number, results[number][1])
        return [tests[number][1] for number in failing]

    def time_single_command(self):
        started = time.monotonic()
        status, output = self.run(self.options.test, 7200, True)
        if status != 0:
            raise BenchError(f"the unchanged tree fails its tests:\n{output[-4000:]}")
        return time.monotonic() - started

    def list_tests(self):
        """{number: (group, name)}: the tests of one program form a group; any other is its own group."""
        status, output = self.run("ctest --test-dir {build} --show-only=json-v1", 600)
        listing = json.loads(output[output.index("{"):])
        tests = {}
        for number, test in enumerate(listing["tests"], 1):
            program = (test.get("command") or [""])[0]
            group = os.path.basename(program) if program.startswith(self.build) else test["name"]
            labels = next((p["value"] for p in test["properties"] if p["name"] == "LABELS"), [])
            if not self.is_skipped(test["name"], labels):
                tests[number] = (group, test["name"])
        return tests

    def is_skipped(self, name, labels):
        by_name, by_label = self.options.skip_tests, self.options.skip_labels
        return bool((by_name and re.search(by_name, name))
                    or (by_label and any(re.search(by_label, label) for label in labels)))

    def run_tests(self, numbers, seconds, keep_going=False):
        if not numbers:
            return 0, ""
        chosen = ",".join(str(n) for n in [numbers[0], numbers[0], 1] + numbers[1:])
        command = self.options.test
        if keep_going:
            command = command.replace("--stop-on-failure", "--output-on-failure")
        return self.run(command, seconds + 2, True, tests=chosen, seconds=int(seconds))

    def set_decoy(self, on):
        for path, text in self.texts.items():
            if on:
                self.write(path, text + DECOY)
            else:
                self.restore(path)

    def judge(self, mutant):
        """Builds and tests one mutant; returns {status, by, group, seconds}."""
        started = time.monotonic()
        text = self.texts[mutant.path]
        self.write(mutant.path, mutant.apply(text))
        try:
            verdict = self.compile(mutant.path) or self.test(mutant.path)
        finally:
            self.restore(mutant.path)
            self.restore_objects()
        return {**verdict, "seconds": round(time.monotonic() - started, 2)}

    def compile(self, path):
        """Compiles and links. None if there is a changed program to test, else the verdict."""
        jobs = self.commands.get(os.path.realpath(os.path.join(self.tree, path)), [])
        for folder, command in jobs:
            if self.shell.run(command, folder, self.build_limit)[0] != 0:
                return {"status": "uncompilable"}
        if jobs and not self.changed_objects():
            return {"status": "same object"}
        if self.run(self.options.build, self.build_limit)[0] != 0:
            # The objects compile, so the step that failed runs a program that the build made.
            return {"status": "killed", "by": "the build"} if jobs else {"status": "uncompilable"}
        return None if self.changed_objects() else {"status": "same object"}

    def changed_objects(self):
        return [path for path, (copy, date) in self.objects.items()
                if os.stat(path).st_mtime_ns != date and object_digest(path) != object_digest(copy)]

    def restore_objects(self):
        for path, (copy, date) in self.objects.items():
            if not os.path.exists(path) or os.stat(path).st_mtime_ns != date:
                shutil.copyfile(copy, path)
                self.objects[path] = (copy, os.stat(path).st_mtime_ns)

    def test(self, path):
        for group in self.plan.order_for(path):
            limit = self.plan.limit(group)
            if "{tests}" in self.options.test:
                status, output = self.run_tests(self.plan.groups[group], limit)
            else:
                status, output = self.run(self.options.test, limit, True)
            if status != 0:
                self.plan.promote(path, group)
                return self.verdict(group, status, output)
        return {"status": "survived"}

    def verdict(self, group, status, output):
        started = START_LINE.findall(output)
        failed = FAILED_LINE.findall(output.rpartition("The following tests FAILED:")[2])
        name, reason = failed[0] if failed else ((started or [group])[-1], "")
        late = status is None or reason == "Timeout"
        return {"status": "timeout" if late else "killed", "by": name, "group": group}

    def prove_clean(self):
        """Builds the restored copy and runs every test, to show whether a mutant left something."""
        status, output = self.run(self.options.build, 7200)
        if status == 0:
            result = self.test("")
            if result["status"] == "survived":
                return
            output = f"{result['by']} fails"
        raise BenchError("after the run the restored tree no longer passes, so a test is flaky or "
                         "a mutant left something behind; don't trust these results:\n"
                         + output[-4000:])


def object_digest(path):
    """A digest of code, data and relocations, without the debug information."""
    stripped = path + ".stripped"
    subprocess.run(["objcopy", "--strip-debug", path, stripped], check=True)
    with open(stripped, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    os.remove(stripped)
    return digest
