#!/usr/bin/env python3
"""Compares the readers' verdicts with those of numpy and of the safetensors package.

    differential.py VERDICTS [--files N] [--seed S]

VERDICTS is the program reader-verdicts. The script needs numpy and safetensors (python3 -m venv, pip
install), so it is run by hand and not by the test suite. Files are the fuzzers' seeds, mutated in their
text and bytes. Where both accept, names, types, shapes and data must be the same. Where only one accepts,
the reason must be on the lists below. Each line of them is a decision, and anything else is a bug.
"""
import argparse
import collections
import io
import pathlib
import random
import re
import resource
import struct
import subprocess
import sys
import zlib

import numpy
import safetensors

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fuzz"))
import make_corpus  # noqa: E402

BATCH = 2000
LARGEST_SEED = 4096  # bytes

# We refuse, numpy accepts: the pattern of our message, and the reason for refusing.
STRICTER_NPY = [
    ("^(UNSUPPORTED|BIG_ENDIAN|FORTRAN_ORDER|STRINGS|STRUCTURED|PYTHON_OBJECTS)", "not read, by decision"),
    ("follow the header", "numpy ignores bytes after the array"),
    ("a key given twice", "Python keeps the last of two equal keys"),
    ("above the limit of 2\\^48", "numpy takes any dimension of an empty array"),
    ("above 2\\^63-1 bytes", "numpy lets a 0 hide the other dimensions' product"),
    ("expected|leading zero|a key other than", "Python's literals have more spellings than numpy.save writes"),
]
# We accept, numpy refuses.
LOOSER_NPY = []

# We refuse, safetensors accepts.
STRICTER_SAFETENSORS = [
    ("is given twice", "the package keeps the last of two equal names"),
    ("which the format does not", "the package ignores unknown fields"),
    ("begins with '{' here", "the package takes white space before the header"),
    ("U\\+0000 in a string", "a name that contains NUL cannot be a C string"),
    ("more than 8 dimensions", "a tensor has 8 dimensions at most"),
    ("above the limit of 2\\^48", "the package takes any dimension of an empty tensor"),
    ("product of its shape is above", "the package lets a 0 hide the other dimensions' product"),
    ("expected '{' before a tensor's fields", "the package takes an entry written as an array"),
    ("expected '{' before the metadata", "the package takes null as metadata"),
]
# We accept, safetensors refuses.
LOOSER_SAFETENSORS = [(":unknown:", "a tensor of an unknown type is kept without its data")]

NPY_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "int32": "I32",
             "int8": "I8", "uint8": "U8", "bool": "BOOL"}
OUR_TYPES = set("F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 I16 I8 U64 U32 U16 U8 BOOL".split())
NUMBERS = ["0", "1", "2", "3", "4", "6", "7", "8", "12", "24", "255", "-1", "1.0", "1e2", "01", "2147483648",
           "4294967296", "281474976710656", "281474976710657", "9223372036854775807",
           "18446744073709551615", "18446744073709551616", "null", "true", "[1]", '"1"']
WORDS = ["True", "False", "descr", "shape", "fortran_order", "<f4", "<f2", ">f4", "|O", "|b1", "<i8", "F32",
         "F16", "BF16", "U8", "F99", "dtype", "data_offsets", "__metadata__", "q", "\\u0071", "\\n", "é",
         "\\ud800", " ", "\n", "\t", ",", ":", "{", "}", "[", "]", "(", ")", "'", '"', "\\", "\0", "#"]


def split(kind, data):
    """The prefix, the header's text and the data of a file; None if it is too short for them."""
    prefix = 8 if kind == "safetensors" else 10 if data[6:7] == b"\1" else 12
    if len(data) < prefix:
        return None
    if kind == "safetensors":
        size = struct.unpack("<Q", data[:8])[0]
    else:
        size = int.from_bytes(data[8:prefix], "little")
    if size > len(data) - prefix:
        return None
    return data[:prefix], data[prefix:prefix + size], data[prefix + size:]


def join(kind, prefix, text, data):
    if kind == "safetensors":
        return struct.pack("<Q", len(text)) + text + data
    width = len(prefix) - 8
    return prefix[:8] + (len(text) % 256**width).to_bytes(width, "little") + text + data


def mutate_text(rng, text):
    choice = rng.randrange(9)
    numbers = list(re.finditer(rb"\d+", text))
    words = list(re.finditer(rb"\w+|[^\w]", text))
    if choice <= 1 and numbers:
        found = rng.choice(numbers)
        return text[:found.start()] + rng.choice(NUMBERS).encode() + text[found.end():]
    if choice == 2 and words:
        found = rng.choice(words)
        return text[:found.start()] + rng.choice(WORDS).encode() + text[found.end():]
    if choice == 3 and words:
        found = rng.choice(words)
        return text[:found.start()] + text[found.end():]
    at = rng.randrange(len(text) + 1)
    # The next two mostly keep a valid file valid: white space after a token, another first letter.
    if choice >= 7 and words:
        found = rng.choice([w for w in words if not w[0].isalnum()] or words)
        return text[:found.end()] + rng.choice([b" ", b" ", b"\n", b"\t"]) + text[found.end():]
    if choice == 6 and words:
        found = rng.choice(words)
        return text[:found.start()] + rng.choice([b"\\u0062", b"Z", b"_"]) + text[found.start() + 1:]
    if choice == 4:
        return text[:at] + rng.choice(WORDS + NUMBERS).encode() + text[at:]
    end = rng.randrange(at, min(len(text), at + 40) + 1)
    return text[:end] + text[at:end] + text[end:]


def mutate_bytes(rng, data):
    data = bytearray(data)
    at = rng.randrange(len(data) + 1)
    choice = rng.randrange(4)
    if choice == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif choice == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif choice == 2:
        data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice([1, 4, 8])))
    else:
        del data[at:at + rng.choice([1, 4, 8])]
    return bytes(data)


def mutate(rng, kind, data):
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        parts = split(kind, data)
        if parts is None or rng.random() < 0.2:
            data = mutate_bytes(rng, data)
        else:
            prefix, text, rest = parts
            if rest and rng.random() < 0.3:
                at = rng.randrange(len(rest))
                rest = rest[:at] + bytes([rng.randrange(256)]) + rest[at + 1:]
            data = join(kind, prefix, mutate_text(rng, text), rest)
    return data


def describe(name, dtype, shape, data):
    shape = ",".join(str(dim) for dim in shape)
    if dtype not in OUR_TYPES:
        return f"{name.encode().hex()}:unknown:{shape}:00000000"
    return f"{name.encode().hex()}:{dtype}:{shape}:{zlib.crc32(data):08x}"


def numpy_says(data):
    """The sorted descriptions of the tensors, or None if refused."""
    stream = io.BytesIO(data)
    try:
        array = numpy.lib.format.read_array(stream, allow_pickle=False, max_header_size=65536)
        dtype = NPY_NAMES.get(array.dtype.name, array.dtype.name)
        return [describe("q", dtype, array.shape, array.tobytes())]
    except Exception:  # it promises no kind of exception, so any of them is a refusal
        return None


def safetensors_says(data):
    try:
        return sorted(describe(name, info["dtype"], info["shape"], bytes(info["data"]))
                      for name, info in safetensors.deserialize(data))
    except Exception:
        return None


def explain(line, lists):
    for pattern, reason in lists:
        if re.search(pattern, line):
            return reason
    return None


def compare(kind, data, line, counts):
    theirs = numpy_says(data) if kind == "npy" else safetensors_says(data)
    accepted = line.split("\t")[0] == "OK"
    if not accepted and theirs is None:
        counts["both refuse"] += 1
        return True
    if accepted and theirs is not None:
        counts["both accept"] += 1
        return sorted(line.split("\t")[1:]) == theirs
    npy = kind == "npy"
    if accepted:
        reason = explain(line, LOOSER_NPY if npy else LOOSER_SAFETENSORS)
    else:
        reason = explain(line, STRICTER_NPY if npy else STRICTER_SAFETENSORS)
    counts[f"{kind}, only {'we accept' if accepted else 'they accept'}: {reason}"] += 1
    return reason is not None


def run_batch(program, files, counts):
    frames = b"".join(struct.pack("<BI", kind == "safetensors", len(data)) + data for kind, data in files)
    done = subprocess.run([program], input=frames, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode().split("\n")[:-1]
    assert len(lines) == len(files), (len(lines), len(files))
    bad = 0
    for (kind, data), line in zip(files, lines):
        if not compare(kind, data, line, counts):
            bad += 1
            print(f"DIFFERENT: {kind} {data!r}\n  {line}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verdicts")
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    limit = 8 << 30  # numpy allocates what a header claims before it reads
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    make_corpus.build()
    seeds = [(kind, data) for kind, _, _, data in make_corpus.SEEDS if len(data) <= LARGEST_SEED]
    # Mutants of valid files get furthest into the readers, so half of all files come from them.
    valid = [(kind, data) for kind, _, verdict, data in make_corpus.SEEDS if verdict == "OK"]
    rng = random.Random(options.seed)
    counts, bad, done = collections.Counter(), run_batch(options.verdicts, seeds, collections.Counter()), 0
    while done < options.files:
        files = []
        for _ in range(min(BATCH, options.files - done)):
            kind, data = rng.choice(valid if rng.random() < 0.5 else seeds)
            files.append((kind, mutate(rng, kind, data)))
        bad += run_batch(options.verdicts, files, counts)
        done += len(files)
    for what, count in sorted(counts.items()):
        print(f"{count:9d}  {what}")
    print(f"{done} files, seed {options.seed}, {bad} differences without a reason")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
