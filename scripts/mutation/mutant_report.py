"""What a run leaves behind: the results file, the committed explanations and the summary."""

import collections
import json
import os
import sys
import threading

COUNTED = ("killed", "timeout", "survived")
PROOF_LENGTH_MIN = 40  # shorter than any sentence that could prove something


class UsageError(Exception):
    """The caller asked for something that cannot be done."""


class Results:
    """Judged mutants by id. They are kept in a JSON-lines file, from which a run can be resumed."""

    def __init__(self, path, header, resume):
        self.path, self.records, self.lock = path, {}, threading.Lock()
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if resume and os.path.exists(path):
            self.load(header)
        else:
            with open(path, "w") as file:
                file.write(json.dumps(header) + "\n")

    def load(self, header):
        with open(self.path) as file:
            lines = file.read().split("\n")
        whole = lines[:-1]  # an interrupted write leaves its last line without an end
        if not whole or json.loads(whole[0])["run"] != header["run"]:
            raise UsageError(f"{self.path} belongs to other sources or another seed; "
                             "run without --resume or give another --results")
        for line in whole[1:]:
            record = json.loads(line)
            self.records[record["id"]] = record
        with open(self.path, "w") as file:
            file.write("\n".join(whole) + "\n")

    def forget(self, status):
        self.records = {i: r for i, r in self.records.items() if r["status"] != status}

    def add(self, record):
        with self.lock, open(self.path, "a") as file:
            self.records[record["id"]] = record
            file.write(json.dumps(record) + "\n")


class Explanations:
    """Survivors that a person has proved equivalent, by the mutant's change and the text it changes."""

    def __init__(self, path, mutants, texts, root):
        self.proofs, self.complaints = {}, []
        if not os.path.exists(path):
            return
        places = collections.Counter(m.key(texts[m.path]) for m in mutants)
        with open(path) as file:
            entries = json.load(file)
        for number, entry in enumerate(entries, 1):
            if entry.get("file") not in texts and os.path.exists(
                    os.path.join(root, str(entry.get("file")))):
                continue  # its source is not part of this run
            fault = self.fault(entry, places)
            if fault:
                self.complaints.append(f"{path}, entry {number}: {fault}")
            else:
                self.proofs[self.key(entry)] = entry["proof"]

    @staticmethod
    def key(entry):
        fields = [entry[f] for f in ("file", "function", "operator", "original", "mutant")]
        return tuple(" ".join(f.split()) for f in fields)

    def fault(self, entry, places):
        missing = [f for f in ("file", "function", "operator", "original", "mutant", "proof")
                   if not isinstance(entry.get(f), str)]
        if missing:
            return f"{missing[0]} is missing"
        if len(entry["proof"]) < PROOF_LENGTH_MIN:
            return "the proof is empty or too short to prove anything"
        found, wanted = places[self.key(entry)], entry.get("occurrences", 1)
        if found == 0:
            return "no such mutant exists any more; remove it"
        if found != wanted:
            return (f"{found} places read like this; say \"occurrences\": {found} "
                    "if the proof holds for each of them")
        return None


def as_entry(record):
    """The survivor as an entry of the explanations that lacks only its proof."""
    file, function, operator, original, mutant = record["key"]
    return {"file": file, "function": function, "operator": operator, "original": original,
            "mutant": mutant, "proof": ""}


class Progress:
    """On a terminal a line that rewrites itself, elsewhere a line every ten mutants."""

    def __init__(self, wanted):
        self.wanted, self.stream, self.terminal = wanted, sys.stderr, sys.stderr.isatty()
        self.counts = collections.Counter()

    def note(self, record, show=True):
        self.counts[record["status"]] += 1
        done = sum(self.counts[s] for s in COUNTED)
        if not show:
            return
        line = (f"{done}/{self.wanted} mutants: {self.counts['killed']} killed, "
                f"{self.counts['timeout']} timed out, {self.counts['survived']} survived")
        if self.terminal:
            self.stream.write(f"\r\x1b[K{line}  {record['id'][-60:]}")
        elif record["status"] in COUNTED and (done % 10 == 0 or done == self.wanted):
            self.stream.write(line + "\n")
        self.stream.flush()

    def end(self):
        if self.terminal:
            self.stream.write("\n")


def operator_table(records):
    rows = [("operator", "killed", "timeout", "survived", "uncompilable", "same object")]
    for operator in sorted({r["operator"] for r in records}) + ["all"]:
        counts = collections.Counter(r["status"] for r in records
                                     if operator in (r["operator"], "all"))
        rows.append((operator,) + tuple(counts[name] for name in rows[0][1:]))
    return "\n".join(f"  {row[0]:12}" + "".join(str(c).rjust(14) for c in row[1:]) for row in rows)


def summarise(records, explanations, out):
    """Prints the summary; returns the records that still need a test or a proof."""
    counted = [r for r in records if r["status"] in COUNTED]
    survivors = [r for r in counted if r["status"] == "survived"]
    explained = [r for r in survivors if tuple(r["key"]) in explanations.proofs]
    open_ones = [r for r in survivors if tuple(r["key"]) not in explanations.proofs]
    refuted = [r for r in counted
               if r["status"] == "killed" and tuple(r["key"]) in explanations.proofs]
    print(f"{len(counted)} mutants that compile: {len(counted) - len(survivors)} killed, "
          f"{len(explained)} proved equivalent, {len(open_ones)} survived", file=out)
    print(operator_table(records), file=out)
    killers = collections.Counter(r["by"] for r in counted if r["status"] == "killed")
    print("\nkilled by", file=out)
    for name, count in sorted(killers.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {count:4}  {name}", file=out)
    for record in [r for r in counted if r["status"] == "timeout"]:
        print(f"\ntimed out in {record['by']}: {record['id']}", file=out)
    for record in explained:
        print(f"\nproved equivalent: {record['id']}\n  {explanations.proofs[tuple(record['key'])]}",
              file=out)
    for record in refuted:
        print(f"\nexplained as equivalent, but {record['by']} tells it apart: {record['id']}",
              file=out)
    for record in open_ones:
        print(f"\nsurvived: {record['id']}\n{record['diff']}", file=out)
    for complaint in explanations.complaints:
        print(f"\n{complaint}", file=out)
    return open_ones + refuted
