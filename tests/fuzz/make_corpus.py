#!/usr/bin/env python3
"""Writes the seeds for the readers' fuzzers, each with the verdict that the readers must give.

    make_corpus.py DIRECTORY              writes DIRECTORY/npy and DIRECTORY/safetensors
    make_corpus.py --check VERDICTS       runs the program reader-verdicts on all of them

Each seed stands for a mistake that a reader of model files made. The comment over a group names the
mechanism and the report. The program needs only Python's standard library.
"""
import json
import pathlib
import struct
import subprocess
import sys

SEEDS = []  # (format, name, verdict, bytes)


def seed(kind, name, verdict, data):
    SEEDS.append((kind, name, verdict, data))


# --- .npy ---------------------------------------------------------------------------------------


def npy(dict_text, data=b"", version=1, length=None):
    text = dict_text if isinstance(dict_text, bytes) else dict_text.encode("latin-1")
    prefix = 10 if version == 1 else 12
    text += b" " * (-(prefix + len(text) + 1) % 64) + b"\n"
    length = len(text) if length is None else length
    head = b"\x93NUMPY" + bytes([version, 0])
    return head + struct.pack("<H" if version == 1 else "<I", length) + text + data


def array(descr="<f4", order="False", shape="(2, 3)"):
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"


def add_npy(name, verdict, data):
    seed("npy", name, verdict, data)


def npy_valid():
    for descr, size in [("<f8", 8), ("<f4", 4), ("<f2", 2), ("<i8", 8), ("<i4", 4), ("|i1", 1),
                        ("|u1", 1), ("|b1", 1)]:
        add_npy(f"ok-{descr[1:]}", "OK", npy(array(descr), bytes(range(6)) * size))
    add_npy("ok-scalar", "OK", npy(array(shape="()"), b"\0" * 4))
    add_npy("ok-empty", "OK", npy(array(shape="(3, 0)")))
    add_npy("ok-rank8", "OK", npy(array(shape="(1, 1, 2, 1, 1, 1, 1, 1)"), b"\0" * 8))
    for version in (2, 3):
        add_npy(f"ok-version{version}", "OK", npy(array(), b"\0" * 24, version))
    add_npy("ok-double-quotes", "OK", npy(array().replace("'", '"'), b"\0" * 24))


def npy_lengths():
    # The header length is allocated before the comparison with the file: 4 GiB for 12 bytes.
    # CWE-789/190: libnpy#44, mlx#3365.
    add_npy("length-4gib", "INVALID", b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFF0))
    for length in (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        add_npy(f"length-{length:x}", "INVALID", npy(array(), b"\0" * 24, 2, length))
    # The length is read as signed and gives a negative slice bound. npy-rs#2.
    add_npy("length-signed", "INVALID", b"\x93NUMPY\x01\x00\xf8\xff")
    add_npy("length-0", "INVALID", npy(array(), b"\0" * 24, 1, 0))
    # The header ends beyond the buffer, and the size of the data to copy underflows. cnpy#106.
    whole = npy(array(), b"\0" * 24)
    for size in list(range(0, 13)) + list(range(16, len(whole), 8)) + [len(whole) - 1]:
        add_npy(f"cut-{size:03d}", "INVALID", whole[:size])
    # The dims claim more than the file holds, and the rest comes from the heap. CVE-2026-7482.
    add_npy("shape-beyond-file", "INVALID", npy(array(shape="(1024, 1024)"), b"\0" * 64))
    add_npy("trailing-bytes", "INVALID", npy(array(), b"\0" * 25))


def npy_shapes():
    # Products wrap to 0 or to the size of the data. LiteRT#9255, stable-diffusion.cpp#1876.
    add_npy("product-wraps-to-0", "INVALID", npy(array(shape="(4294967296, 4294967296)")))
    add_npy("product-wraps-to-24", "INVALID",
            npy(array("|u1", shape="(16, 1152921504606846976, 3)"), b"\0" * 24))
    # Twice INT64_MAX elements is a negative count, which passes. llama.cpp#27203, #15711.
    add_npy("int64-max-times-2", "INVALID", npy(array(shape="(9223372036854775807, 2)")))
    # Dims at every power of two at which a size could wrap, and an alignment below and above:
    # llama.cpp CVE-2024-21802, CVE-2025-53630 and its bypass CVE-2026-27940 (padding overflowed first).
    for bits in (31, 32, 48, 61, 62, 63, 64):
        for delta in (-64, -32, -1, 0, 1, 32, 64):
            add_npy(f"dim-2^{bits}{delta:+d}", "INVALID",
                    npy(array(shape=f"({2 ** bits + delta},)"), b"\0" * 8))
    # Counts are negative. CVE-2025-49847, CVE-2026-21869.
    for number in ("-1", "-0", "-9223372036854775808"):
        add_npy(f"dim{number}", "INVALID", npy(array(shape=f"({number},)"), b"\0" * 8))
    # There are more dims than a reader has space for. openvino#6159 (heap overflow), CVE-2021-33430
    # of numpy.
    for rank in (9, 32, 33, 65, 1000):
        add_npy(f"rank-{rank}", "UNSUPPORTED", npy(array(shape="(" + "1, " * rank + ")"), b"\0" * 4))
    for number, text in enumerate(["(2)", "(2,,3)", "[2]", "(2.0,)", "(0x2,)", "(02,)", "(1e3,)",
                                   "(True,)", "((2,),)", "2", "(2 3)", "(1_0,)"]):
        add_npy(f"shape-text-{number}", "INVALID", npy(array(shape=text), b"\0" * 8))


def npy_types():
    # Unpickling runs the file's code. numpy CVE-2019-6446.
    add_npy("objects", "PYTHON_OBJECTS", npy(array("|O"), b"\x80\x04cos\nsystem\n."))
    add_npy("big-endian", "BIG_ENDIAN", npy(array(">f4"), b"\0" * 24))
    add_npy("fortran", "FORTRAN_ORDER", npy(array(order="True"), b"\0" * 24))
    add_npy("unicode", "STRINGS", npy(array("<U5"), b"\0" * 120))
    add_npy("bytes", "STRINGS", npy(array("|S5"), b"\0" * 30))
    add_npy("raw", "STRUCTURED", npy(array("|V2"), b"\0" * 12))
    add_npy("structured", "STRUCTURED", npy(array().replace("'<f4'", "[('a', '<f4')]"), b"\0" * 24))
    add_npy("complex", "UNSUPPORTED", npy(array("<c8"), b"\0" * 48))
    add_npy("f16-bytes", "UNSUPPORTED", npy(array("<f16"), b"\0" * 96))


def npy_text():
    # A repeated key decides which reader sees what. openasr#73.
    add_npy("key-twice", "INVALID", npy(array()[:-1] + "'shape': (6,)}", b"\0" * 24))
    add_npy("key-extra", "INVALID", npy(array()[:-1] + "'x': 1}", b"\0" * 24))
    add_npy("key-missing", "INVALID", npy("{'descr': '<f4', 'shape': (6,)}", b"\0" * 24))
    add_npy("code", "INVALID", npy("__import__('os').system('id')", b"\0" * 24))
    add_npy("deep", "INVALID", npy("{'shape': " + "(" * 60000))
    add_npy("nul", "INVALID", npy(array() + "\0", b"\0" * 24))
    add_npy("version-4", "UNSUPPORTED", npy(array(), b"\0" * 24, 4))
    add_npy("signature", "INVALID", b"\x93NUMPX" + npy(array(), b"\0" * 24)[6:])


# --- .safetensors -------------------------------------------------------------------------------


def st(header, data=b"", length=None):
    if isinstance(header, dict):
        header = json.dumps(header, separators=(",", ":"))
    if isinstance(header, str):
        header = header.encode("utf-8", "surrogatepass")
    length = len(header) if length is None else length
    return struct.pack("<Q", length % 2**64) + header + data


def entry(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def text_entry(shape="[2]", offsets="[0,8]", dtype='"F32"'):
    return f'{{"q":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'


def add_st(name, verdict, data):
    seed("safetensors", name, verdict, data)


def st_valid():
    for dtype, size in [("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("F8_E4M3", 1),
                        ("F8_E5M2", 1), ("I64", 8), ("I32", 4), ("I16", 2), ("I8", 1), ("U64", 8),
                        ("U32", 4), ("U16", 2), ("U8", 1), ("BOOL", 1)]:
        add_st(f"ok-{dtype}", "OK", st({"q": entry([3], [0, 3 * size], dtype)}, b"\1" * 3 * size))
    add_st("ok-nothing", "OK", st("{}"))
    add_st("ok-scalar-and-empty", "OK",
           st({"a": entry([], [0, 4]), "b": entry([0, 7], [4, 4]), "c": entry([2], [4, 12])}, b"\0" * 12))
    layer = {"__metadata__": {"layout": "bhsd", "scale": "0.125", "tokens": '[["[CLS]","é"]]'},
             "k": entry([1, 2, 2, 4], [0, 64]), "q": entry([1, 2, 2, 4], [64, 128]),
             "v": entry([1, 2, 2, 4], [128, 192]), "lse": entry([1, 2, 2], [192, 208]),
             "attention_mask": entry([1, 2], [208, 216], "I32")}
    add_st("ok-layer", "OK", st(json.dumps(layer) + " " * 5, bytes(range(216))))
    add_st("ok-escapes", "OK", st('{"__metadata__":{"\\u0061\\n":"\\ud83d\\ude00\\\\\\""}}'))
    add_st("ok-unknown-dtype", "OK", st({"q": entry([2], [0, 5], "F99")}, b"\0" * 5))


def st_lengths():
    # The header length + 5 or + 8 wraps to a small number. fastllm#712, #713.
    for delta in range(1, 10):
        add_st(f"length-2^64-{delta}", "INVALID", st(text_entry(), b"\0" * 8, 2**64 - delta))
    for bits in (31, 32, 63):
        for delta in (-8, -1, 0, 1, 8):
            add_st(f"length-2^{bits}{delta:+d}", "INVALID", st(text_entry(), b"\0" * 8, 2**bits + delta))
    # One seed for each error of the safetensors package: HeaderTooSmall, HeaderTooLarge,
    # InvalidHeaderLength, InvalidHeaderStart, InvalidHeader (UTF-8), InvalidHeaderDeserialization,
    # MetadataIncompleteBuffer, InvalidOffset, TensorInvalidInfo, ValidationOverflow.
    add_st("header-too-small", "INVALID", b"\2\0\0\0\0\0\0")
    add_st("header-too-large", "INVALID", st(text_entry(), b"\0" * 8, 100_000_001))
    add_st("header-length", "INVALID", st(text_entry(), b"", len(text_entry()) + 1))
    add_st("header-start", "INVALID", st(" " + text_entry(), b"\0" * 8))
    add_st("header-utf8", "INVALID", st(b'{"\xff":1}'))
    add_st("header-json", "INVALID", st("{"))
    add_st("incomplete-buffer", "INVALID", st(text_entry(), b"\0" * 7))
    add_st("invalid-offset", "INVALID", st(text_entry(offsets="[1,9]"), b"\0" * 9))
    add_st("invalid-info", "INVALID", st(text_entry(shape="[3]"), b"\0" * 8))
    add_st("overflow", "INVALID", st(text_entry(shape="[18446744073709551615,2]"), b"\0" * 8))
    whole = st(text_entry(), b"\0" * 8)
    for size in list(range(0, 12)) + list(range(12, len(whole), 6)):
        add_st(f"cut-{size:03d}", "INVALID", whole[:size])


def st_shapes():
    # The product of the dims wraps to 0, so a reader finds nothing to check. LiteRT#9255, #9254.
    add_st("product-0-far-out", "INVALID",
           st(text_entry("[4294967296,4294967296]", "[1099511627776,1099511627776]"), b"\0" * 8))
    # The same happens in signed arithmetic, and with negative dims. stable-diffusion.cpp#1876.
    add_st("product-0", "INVALID", st(text_entry("[4294967296,4294967296]", "[0,0]")))
    add_st("product-8", "INVALID", st(text_entry("[2,9223372036854775809]", "[0,8]"), b"\0" * 8))
    # The shape sizes the buffer, but the offsets size the copy; begin after end. fastllm#712, #713.
    add_st("shape-1k-span-64k", "INVALID", st(text_entry("[256]", "[0,65536]"), b"\0" * 65536))
    add_st("begin-after-end", "INVALID", st(text_entry("[2]", "[8,0]"), b"\0" * 8))
    add_st("span-wraps", "INVALID", st(text_entry("[2]", "[18446744073709551608,0]"), b"\0" * 8))
    # The bounds of the element count overflow. llama.cpp#27203, #15711, #24759, #26318.
    add_st("int64-max-times-2", "INVALID", st(text_entry("[9223372036854775807,2]"), b"\0" * 8))
    # Sizes at powers of two, and an alignment below and above: CVE-2024-21802, CVE-2025-53630,
    # CVE-2026-27940, GHSA-vgg9-87g3-85w8, GHSA-96jg-mvhq-q7q7.
    for bits in (31, 32, 48, 61, 62, 63, 64):
        for delta in (-64, -32, -1, 0, 1, 32, 64):
            number = 2**bits + delta
            add_st(f"dim-2^{bits}{delta:+d}", "INVALID", st(text_entry(f"[{number}]"), b"\0" * 8))
            add_st(f"end-2^{bits}{delta:+d}", "INVALID",
                   st(text_entry("[2]", f"[{number - 8},{number}]"), b"\0" * 8))
    # Negative numbers in every field: CVE-2025-49847, CVE-2026-21869.
    add_st("negative-dim", "INVALID", st(text_entry("[-1]"), b"\0" * 8))
    add_st("negative-begin", "INVALID", st(text_entry(offsets="[-8,0]"), b"\0" * 8))
    add_st("negative-end", "INVALID", st(text_entry(offsets="[0,-8]"), b"\0" * 8))
    # The dims are larger than the data, and the heap behind it leaks. CVE-2026-7482.
    add_st("shape-beyond-file", "INVALID", st(text_entry("[1048576]", "[0,4194304]"), b"\0" * 64))
    add_st("rank-9", "UNSUPPORTED", st(text_entry("[1,1,1,1,1,1,1,1,2]"), b"\0" * 8))


def st_numbers():
    # An unknown dtype skips the check of the offsets; integers go through double. imp#1603.
    add_st("unknown-dtype-far-out", "INVALID", st(text_entry("[2]", "[0,4096]", '"F99"'), b"\0" * 8))
    add_st("unknown-dtype-gap", "INVALID", st(text_entry("[2]", "[4,8]", '"F99"'), b"\0" * 8))
    for number in ("9007199254740993", "1e400", "-0", "1.0", "1e2", "01", "+1", "0x1", "NaN",
                   "Infinity", "18446744073709551616", "true", "null", '"2"', "[2]", "{}"):
        slug = "".join(c if c.isalnum() or c in "+-." else "_" for c in number)
        add_st(f"dim-text-{slug}", "INVALID", st(text_entry(f"[{number}]"), b"\0" * 8))
        add_st(f"begin-text-{slug}", "INVALID", st(text_entry("[2]", f"[{number},8]"), b"\0" * 8))


def st_structure():
    # Two tensors or keys have one name, and two readers take different ones. openasr#73.
    first, second = '"q":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}', \
        '"q":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}'
    add_st("tensor-twice", "INVALID", st(f"{{{first},{second}}}", b"\0" * 8))
    add_st("tensor-twice-escaped", "INVALID",
           st(f"{{{first},{second}}}".replace('"q":{"dtype":"U8","shape":[4],"data_offsets":[4',
                                            '"\\u0071":{"dtype":"U8","shape":[4],"data_offsets":[4'), b"\0" * 8))
    add_st("field-twice", "INVALID", st('{"q":{"dtype":"U8","dtype":"U8","shape":[],"data_offsets":[0,1]}}', b"\0"))
    add_st("metadata-twice", "INVALID", st('{"__metadata__":{},"__metadata__":{}}'))
    add_st("metadata-key-twice", "INVALID", st('{"__metadata__":{"a":"1","a":"2"}}'))
    # Gaps, overlaps and trailing bytes hide a second file in the first. ztensor, and the audit of
    # safetensors by Trail of Bits (polyglots with ZIP and PDF).
    pair = '{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[{}]}},"b":{{"dtype":"U8","shape":[4],"data_offsets":[{}]}}}}'
    add_st("overlap", "INVALID", st(pair.format("0,4", "3,7"), b"\0" * 7))
    add_st("same-range", "INVALID", st(pair.format("0,4", "0,4"), b"\0" * 4))
    add_st("hole", "INVALID", st(pair.format("0,4", "5,9"), b"\0" * 9))
    add_st("late-start", "INVALID", st(pair.format("1,5", "5,9"), b"\0" * 9))
    add_st("trailing-zip", "INVALID", st(text_entry(), b"\0" * 8 + b"PK\5\6" + b"\0" * 18))
    add_st("trailing-pdf", "INVALID", st(text_entry(), b"\0" * 8 + b"%PDF-1.7\n%%EOF"))
    add_st("pdf-header", "INVALID", st(b"%PDF-1.7\n", b"\0" * 8))
    add_st("bom", "INVALID", st("\ufeff{}"))
    # Brackets nested without end exhaust a parser's stack. gguf-py F001.
    add_st("deep-arrays", "INVALID", st('{"q":{"shape":' + "[" * 100_000))
    add_st("deep-objects", "INVALID", st('{"a":' * 100_000))
    for number, text in enumerate(['{"a":1}', '{"a":null}', '{"a":{}}', '{"a":{"dtype":"U8"}}', "{,}",
                                   '{"a"}', '{"__metadata__":{"a":1}}', '{"__metadata__":[]}', "{}{}",
                                   "{} x", '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":0}}',
                                   '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0,0]}}',
                                   '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0]}}',
                                   '{"__metadata__":{"a":"b"},}', "{'a':'b'}", '{/**/}']):
        add_st(f"json-{number:02d}", "INVALID", st(text))
    for number, inside in enumerate([b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"\\x41", b"\\u12", b"\n",
                                     b"\x1b[2J", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
                                     b"\xe2\x82", b"\x80", b"\0"]):
        add_st(f"string-{number:02d}", "INVALID", st(b'{"__metadata__":{"a":"' + inside + b'"}}'))


def build():
    for group in (npy_valid, npy_lengths, npy_shapes, npy_types, npy_text, st_valid, st_lengths,
                  st_shapes, st_numbers, st_structure):
        group()


def write(directory):
    for kind, name, _, data in SEEDS:
        folder = pathlib.Path(directory) / kind
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def check(program):
    frames = b"".join(struct.pack("<BI", kind == "safetensors", len(data)) + data
                      for kind, _, _, data in SEEDS)
    done = subprocess.run([program], input=frames, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode("utf-8").splitlines()
    wrong = 0 if len(lines) == len(SEEDS) else 1
    for (kind, name, verdict, _), line in zip(SEEDS, lines):
        if line.split("\t")[0] != verdict:
            wrong += 1
            print(f"{kind}/{name}: expected {verdict}, got {line}")
    print(f"{len(SEEDS)} seeds, {wrong} with another verdict than expected")
    return 1 if wrong else 0


def main(arguments):
    build()
    if len(arguments) == 2 and arguments[0] == "--check":
        return check(arguments[1])
    if len(arguments) != 1:
        print(__doc__)
        return 2
    write(arguments[0])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
