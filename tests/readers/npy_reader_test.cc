/* npy_reader_test.cc - every rule of the .npy reader: what it accepts, and how it refuses. */
#include "tests/readers/faults.h"
#include "tests/readers/reader_support.h"

namespace {

const char kPlain[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";

std::string zeros(size_t bytes) {
  return std::string(bytes, '\0');
}

Outcome parse_npy(const std::string &bytes) {
  return parse(Format::kNpy, bytes);
}

// The dictionary starts at byte 10 of a version 1 file.
uint64_t at(const std::string &dict, const std::string &part) {
  return 10 + dict.find(part);
}

// Refused at the first byte of `part`.
testing::AssertionResult dict_refused(const std::string &dict, fv_file_status status,
                                      const std::string &part, const std::string &text,
                                      size_t data_bytes = 24) {
  return refused(parse_npy(npy(dict, zeros(data_bytes))), status, at(dict, part), text);
}

std::string with_descr(const std::string &descr) {
  return "{'descr': " + descr + ", 'fortran_order': False, 'shape': (2,), }";
}

std::string with_shape(const std::string &shape) {
  return "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
}

TEST(NpyReader, ReadsAnArrayAsNumpyWritesIt) {
  std::string data = bytes_of<float>({1, 2, 3, 4, 5, 6.5f});
  Outcome outcome = parse_npy(npy(kPlain, data));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  EXPECT_STREQ(outcome.error.text, "");
  ASSERT_EQ(fv_tensor_file_count(outcome.file.get()), 1u);
  const fv_file_tensor *tensor = fv_tensor_file_at(outcome.file.get(), 0);
  EXPECT_STREQ(tensor->name, "q");
  EXPECT_EQ(tensor->dtype, FV_FILE_DTYPE_F32);
  EXPECT_STREQ(tensor->dtype_name, "F32");
  EXPECT_EQ(shape_of(tensor), (std::vector<int64_t>{2, 3}));
  for (int i = 2; i < FV_FILE_MAX_RANK; i++) EXPECT_EQ(tensor->shape[i], 1) << i;
  EXPECT_EQ(tensor->bytes, 24u);
  EXPECT_EQ(tensor->file_offset, 128u);
  EXPECT_EQ(data_of(tensor), data);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor->data) % FV_FILE_DATA_ALIGNMENT, 0u);
  EXPECT_EQ(fv_tensor_file_metadata_count(outcome.file.get()), 0u);
}

TEST(NpyReader, ReadsADictionaryWithoutSpaces) {
  const std::string data = bytes_of<float>({1, 2});
  for (const char *dict : {"{'descr':'<f4','fortran_order':False,'shape':(2,)}",
                           "{'descr':'<f4','shape':(2,),'fortran_order':False}"}) {
    Outcome outcome = parse_npy(npy(dict, data));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
    EXPECT_EQ(data_of(fv_tensor_file_at(outcome.file.get(), 0)), data);
  }
}

TEST(NpyReader, ReadsEveryTypeOfItsListAndNoOther) {
  struct Row {
    const char *descr;
    fv_file_dtype dtype;
    size_t bytes;
  };
  for (const Row &row : {Row{"<f8", FV_FILE_DTYPE_F64, 8}, Row{"<f4", FV_FILE_DTYPE_F32, 4},
                         Row{"<f2", FV_FILE_DTYPE_F16, 2}, Row{"<i8", FV_FILE_DTYPE_I64, 8},
                         Row{"<i4", FV_FILE_DTYPE_I32, 4}, Row{"|i1", FV_FILE_DTYPE_I8, 1},
                         Row{"|u1", FV_FILE_DTYPE_U8, 1}, Row{"|b1", FV_FILE_DTYPE_BOOL, 1}}) {
    Outcome outcome = parse_npy(npy(with_descr("'"s + row.descr + "'"), zeros(2 * row.bytes)));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << row.descr << ": " << outcome.error.text;
    EXPECT_EQ(fv_tensor_file_at(outcome.file.get(), 0)->dtype, row.dtype) << row.descr;
  }
  for (const char *descr : {"<f1", "<f16", "<i2", "<u2", "<u4", "<u8", "<c8", "<M8[ns]", "<m8",
                            "f4", "=f4", "|f4", "<F4", "<f4 ", "<i1", "|b2", "<", ""}) {
    EXPECT_TRUE(
        dict_refused(with_descr("'"s + descr + "'"), FV_FILE_UNSUPPORTED, descr + "', 'f"s,
                     "the type '"s + descr + "' is not read; convert it with astype to float32"));
  }
}

TEST(NpyReader, ReadsTheKeysInAnyOrderAndEitherQuotes) {
  std::string data = bytes_of<int32_t>({7, 8});
  for (const char *dict : {"{'shape': (2,), 'fortran_order': False, 'descr': '<i4'}",
                           "{ 'fortran_order' : False , 'shape' : ( 2 , ) , 'descr' : '<i4' , }",
                           "{\"descr\":\"<i4\",\"shape\":(2,),\"fortran_order\":False}"}) {
    Outcome outcome = parse_npy(npy(dict, data));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
    EXPECT_EQ(data_of(fv_tensor_file_at(outcome.file.get(), 0)), data);
  }
}

TEST(NpyReader, ReadsScalarsEmptyArraysAndEightDimensions) {
  struct Row {
    const char *shape;
    std::vector<int64_t> expected;
    size_t bytes;
  };
  for (const Row &row :
       {Row{"()", {}, 4}, Row{"(0,)", {0}, 0}, Row{"(3, 0, 5)", {3, 0, 5}, 0},
        Row{"(1, 1, 1, 1, 1, 1, 2, 1)", {1, 1, 1, 1, 1, 1, 2, 1}, 8}, Row{"(2, 1,)", {2, 1}, 8},
        Row{"(281474976710656, 0)", {1LL << 48, 0}, 0}}) {
    Outcome outcome = parse_npy(npy(with_shape(row.shape), zeros(row.bytes)));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << row.shape << ": " << outcome.error.text;
    const fv_file_tensor *tensor = fv_tensor_file_at(outcome.file.get(), 0);
    EXPECT_EQ(shape_of(tensor), row.expected) << row.shape;
    EXPECT_EQ(tensor->bytes, row.bytes) << row.shape;
    EXPECT_NE(tensor->data, nullptr) << row.shape;
  }
}

TEST(NpyReader, ReadsVersionsOneTwoAndThree) {
  for (int version : {1, 2, 3}) {
    Outcome outcome = parse_npy(npy(kPlain, zeros(24), version));
    EXPECT_EQ(outcome.status, FV_FILE_OK) << version << ": " << outcome.error.text;
  }
}

TEST(NpyReader, RefusesOtherVersions) {
  for (int version : {0, 4, 255}) {
    EXPECT_TRUE(refused(parse_npy(npy(kPlain, zeros(24), version)), FV_FILE_UNSUPPORTED, 6,
                        "version " + std::to_string(version) + ".0"));
  }
  std::string minor = npy(kPlain, zeros(24));
  minor[7] = 1;
  EXPECT_TRUE(refused(parse_npy(minor), FV_FILE_UNSUPPORTED, 6, "version 1.1"));
}

TEST(NpyReader, RefusesAWrongSignature) {
  std::string bytes = npy(kPlain, zeros(24));
  for (int i = 0; i < 6; i++) {
    std::string wrong = bytes;
    wrong[i] ^= 1;
    EXPECT_TRUE(refused(parse_npy(wrong), FV_FILE_INVALID, 0, "does not begin as an .npy file"));
  }
}

TEST(NpyReader, RefusesTheFileCutAtEveryByte) {
  for (int version : {1, 2}) {
    std::string bytes = npy(kPlain, zeros(24), version);
    for (size_t size = 0; size < bytes.size(); size++) {
      Outcome outcome = parse_npy(bytes.substr(0, size));
      EXPECT_EQ(outcome.status, FV_FILE_INVALID) << size;
      EXPECT_EQ(outcome.file, nullptr) << size;
      EXPECT_LE(outcome.error.offset, size) << outcome.error.text;
    }
  }
}

TEST(NpyReader, NamesTheTensorAndBothSizesIfTheDataDoNotFitTheShape) {
  for (size_t bytes : {0, 23, 25, 1000}) {
    EXPECT_TRUE(refused(parse_npy(npy(kPlain, zeros(bytes))), FV_FILE_INVALID, 128,
                        "tensor 'q': its shape needs 24 bytes of F32 but " + std::to_string(bytes) +
                            " follow the header"));
  }
}

TEST(NpyReader, RefusesAHeaderThatEndsBeyondTheFile) {
  std::string short_file = "\x93NUMPY\x02\x00\xf0\xff\xff\xff"s;
  reset_faults();
  EXPECT_TRUE(refused(parse_npy(short_file), FV_FILE_INVALID, 8, "ends within its header"));
  EXPECT_EQ(faults().calls[static_cast<int>(Call::kMemory)], 0);  // nothing was allocated
  EXPECT_TRUE(refused(parse_npy("\x93NUMPY\x01\x00\xf8\xff"s), FV_FILE_INVALID, 8,
                      "ends within its header"));
}

TEST(NpyReader, AcceptsAHeaderOfTheLimitAndRefusesOneByteMore) {
  std::string dict = with_shape("(0,)");
  dict.resize(FV_NPY_HEADER_LIMIT, ' ');
  std::string prefix = "\x93NUMPY\x02\x00"s;
  Outcome outcome = parse_npy(prefix + little_endian(dict.size(), 4) + dict);
  EXPECT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  dict += ' ';
  EXPECT_TRUE(refused(parse_npy(prefix + little_endian(dict.size(), 4) + dict), FV_FILE_TOO_LARGE,
                      8, "65537 bytes, above the limit of 65536"));
}

TEST(NpyReader, RefusesFortranOrder) {
  std::string dict = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }";
  EXPECT_TRUE(dict_refused(dict, FV_FILE_FORTRAN_ORDER, "True", "Fortran (column-major) order"));
}

TEST(NpyReader, RefusesBigEndianData) {
  for (const char *descr : {">f4", ">i8", ">f2", ">x"}) {
    EXPECT_TRUE(dict_refused(with_descr("'"s + descr + "'"), FV_FILE_BIG_ENDIAN, descr,
                             "convert the big-endian data with astype(a.dtype.newbyteorder('<'))"));
  }
}

TEST(NpyReader, RefusesPythonObjects) {
  EXPECT_TRUE(dict_refused(with_descr("'|O'"), FV_FILE_PYTHON_OBJECTS, "|O",
                           "'|O' is not read; such files run code when loaded; save a plain"));
}

TEST(NpyReader, RefusesStrings) {
  for (const char *descr : {"<U5", "|S3", ">U1", "|a4"}) {
    EXPECT_TRUE(dict_refused(with_descr("'"s + descr + "'"), FV_FILE_STRINGS, descr,
                             descr + "' is not read; save a plain numeric array"s));
  }
}

TEST(NpyReader, RefusesStructuredAndRawTypes) {
  EXPECT_TRUE(dict_refused(with_descr("[('a', '<f4')]"), FV_FILE_STRUCTURED, "[(", "structured"));
  EXPECT_TRUE(dict_refused(with_descr("('<f4', (2,))"), FV_FILE_STRUCTURED, "('<", "structured"));
  EXPECT_TRUE(dict_refused(with_descr("{'a': 1}"), FV_FILE_STRUCTURED, "{'a", "structured"));
  EXPECT_TRUE(dict_refused(with_descr("'|V2'"), FV_FILE_STRUCTURED, "|V2", "bfloat16"));
}

TEST(NpyReader, RefusesMoreThanEightDimensions) {
  std::string nine = with_shape("(1, 1, 1, 1, 1, 1, 1, 1, 1)");
  EXPECT_TRUE(dict_refused(nine, FV_FILE_UNSUPPORTED, "(1", "more than 8 dimensions", 4));
  std::string many = "(";
  for (int i = 0; i < 33; i++) many += "1,";
  EXPECT_TRUE(dict_refused(with_shape(many + ")"), FV_FILE_UNSUPPORTED, "(1", "more than 8", 4));
}

TEST(NpyReader, RefusesDimensionsOutOfRange) {
  EXPECT_TRUE(dict_refused(with_shape("(0, 281474976710657)"), FV_FILE_INVALID, "2814",
                           "above the limit of 2^48", 0));
  EXPECT_TRUE(dict_refused(with_shape("(18446744073709551616,)"), FV_FILE_INVALID, "1844",
                           "above the limit of 2^48", 0));
  EXPECT_TRUE(dict_refused(with_shape("(-1,)"), FV_FILE_INVALID, "-1", "non-negative integer"));
}

TEST(NpyReader, RefusesAProductThatWrapsToTheSizeOfTheData) {
  // 2^32 * 2^32 elements wrap to 0 in 64 bits. If one dim is 0, the others must still fit.
  std::string wraps = with_shape("(4294967296, 4294967296)");
  EXPECT_TRUE(dict_refused(wraps, FV_FILE_INVALID, "(4294", "above 2^63-1 bytes", 0));
  std::string hidden = with_shape("(0, 4294967296, 4294967296)");
  EXPECT_TRUE(dict_refused(hidden, FV_FILE_INVALID, "(0", "above 2^63-1 bytes", 0));
  // 2^61 elements of 4 bytes: only the last factor, the element's size, overflows.
  std::string bytes = with_shape("(2147483648, 1073741824)");
  EXPECT_TRUE(dict_refused(bytes, FV_FILE_INVALID, "(2147", "above 2^63-1 bytes", 0));
  // A smaller dim: the size is in range, but the file does not hold it.
  std::string large = with_shape("(2147483648, 1073741823)");
  EXPECT_TRUE(
      refused(parse_npy(npy(large, "")), FV_FILE_INVALID, 128, "9223372028264841216 bytes"));
}

TEST(NpyReader, RefusesWhatPythonWouldNotCallAShape) {
  struct Row {
    const char *shape, *text;  // ^ is where the refusal points
  };
  for (const Row &row :
       {Row{"(2^)", "expected ',' after the only dimension"},
        Row{"(2 ^3)", "expected ',' or ')' in the shape"},
        Row{"(2,^, 3)", "expected a non-negative integer"},
        Row{"(^,)", "expected a non-negative integer"},
        Row{"^[2, 3]", "expected '(' before the shape"}, Row{"^2", "expected '(' before the shape"},
        Row{"(2^.0,)", "expected ',' or ')'"}, Row{"(2^L,)", "expected ',' or ')'"},
        Row{"(0^x2,)", "expected ',' or ')'"}, Row{"(1^_0,)", "expected ',' or ')'"},
        Row{"(1^:,)", "expected ',' or ')'"}, Row{"(^02,)", "an integer with a leading zero"},
        Row{"(^00,)", "an integer with a leading zero"},
        Row{"(^True,)", "expected a non-negative integer"},
        Row{"(^'2',)", "expected a non-negative integer"},
        Row{"(^(2,),)", "expected a non-negative integer"},
        Row{"(2,^}", "expected a non-negative integer"}}) {
    Marked dict(with_shape(row.shape));
    EXPECT_TRUE(
        refused(parse_npy(npy(dict.text, zeros(8))), FV_FILE_INVALID, 10 + dict.at, row.text))
        << row.shape;
  }
}

TEST(NpyReader, RefusesAKeyGivenTwice) {
  std::string dict = "{'descr': '<f4', 'shape': (2,), 'fortran_order': False, 'shape': (6,), }";
  Outcome outcome = parse_npy(npy(dict, zeros(24)));
  EXPECT_TRUE(refused(outcome, FV_FILE_INVALID, 10 + dict.rfind("shape"), "a key given twice"));
}

TEST(NpyReader, RefusesAKeyThatTheFormatDoesNotHave) {
  std::string dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'extra': 1}";
  EXPECT_TRUE(dict_refused(dict, FV_FILE_INVALID, "extra", "a key other than"));
  std::string longer = "{'descr': '<f4', 'fortran_order': False, 'shapes': (2,)}";
  EXPECT_TRUE(dict_refused(longer, FV_FILE_INVALID, "shapes", "a key other than"));
}

TEST(NpyReader, NamesTheKeyThatIsMissing) {
  EXPECT_TRUE(dict_refused("{}", FV_FILE_INVALID, "{", "lacks 'descr'"));
  EXPECT_TRUE(dict_refused("{'descr': '<f4', 'shape': (2,)}", FV_FILE_INVALID, "{",
                           "lacks 'fortran_order'"));
  EXPECT_TRUE(dict_refused("{'descr': '<f4', 'fortran_order': False}", FV_FILE_INVALID, "{",
                           "lacks 'shape'"));
}

TEST(NpyReader, RefusesWhatIsNotThisDictionary) {
  struct Row {
    const char *dict, *text;  // ^ is where the refusal points
  };
  for (const Row &row :
       {Row{"^x", "expected '{'"}, Row{"{^,}", "expected a quoted key"},
        Row{"{^descr: 1}", "expected a quoted key"}, Row{"{'descr' ^'<f4'}", "expected ':'"},
        Row{"{'descr': '<f4' ^'shape': ()}", "expected ',' or '}'"},
        Row{"{'descr': '<f4',^, 'shape': ()}", "expected a quoted key"},
        Row{"{'descr': ^4}", "expected the type as a quoted string"},
        Row{"{'descr': '<f^\\x34'}", "expected the type as a quoted string"},
        Row{"{'descr': '<f^\x7f'}", "expected the type as a quoted string"},
        Row{"{'descr': '<f^\x1f'}", "expected the type as a quoted string"},
        Row{"{'fortran_order': ^0}", "expected True or False"},
        Row{"{'fortran_order': ^Falsehood}", "expected True or False"},
        Row{"{'fortran_order': ^Fals}", "expected True or False"},
        Row{"{'fortran_order': ^'False'}", "expected True or False"}}) {
    Marked dict(row.dict);
    EXPECT_TRUE(
        refused(parse_npy(npy(dict.text, zeros(8))), FV_FILE_INVALID, 10 + dict.at, row.text))
        << row.dict;
  }
}

TEST(NpyReader, RefusesADictionaryCutAtEveryByte) {
  // The header's length matches the cut text, so the tokenizer itself must notice.
  std::string dict = kPlain;
  for (size_t size = 0; size < dict.size(); size++) {
    std::string cut = dict.substr(0, size);
    Outcome outcome = parse_npy("\x93NUMPY\x01\x00"s + little_endian(size, 2) + cut);
    EXPECT_EQ(outcome.status, FV_FILE_INVALID) << cut << ": " << outcome.error.text;
    EXPECT_LE(outcome.error.offset, 10 + size) << cut << ": " << outcome.error.text;
  }
}

TEST(NpyReader, RefusesTextAfterTheDictionary) {
  std::string dict = std::string(kPlain) + " {}";
  EXPECT_TRUE(refused(parse_npy(npy(dict, zeros(24))), FV_FILE_INVALID, 10 + dict.size() - 2,
                      "only spaces after"));
  std::string nul = std::string(kPlain) + "\0"s;
  EXPECT_TRUE(refused(parse_npy(npy(nul, zeros(24))), FV_FILE_INVALID, 10 + nul.size() - 1,
                      "only spaces after"));
}

TEST(NpyReader, ANewlineMayOnlyBeTheHeadersLastByte) {
  auto with_ending = [](const std::string &ending) {
    std::string dict = kPlain + ending;
    return parse_npy("\x93NUMPY\x01\x00"s + little_endian(dict.size(), 2) + dict + zeros(24));
  };
  for (const char *ending : {"", "  ", "\n", "  \n"}) {
    EXPECT_EQ(with_ending(ending).status, FV_FILE_OK) << testing::PrintToString(ending);
  }
  for (const char *ending : {"\n ", "\n\n", "\t", " \r\n"}) {
    uint64_t at = 10 + sizeof kPlain - 1 + std::string(ending).find_first_not_of(' ');
    EXPECT_TRUE(refused(with_ending(ending), FV_FILE_INVALID, at, "only spaces after the '}'"));
  }
  Marked dict("{'descr':^\n '<f4', 'fortran_order': False, 'shape': (2,), }");
  EXPECT_TRUE(refused(parse_npy(npy(dict.text, zeros(8))), FV_FILE_INVALID, 10 + dict.at,
                      "expected the type"));
}

TEST(NpyReader, NestingOfAnyDepthIsRefusedAtOnce) {
  std::string deep = "{'shape': " + std::string(60000, '(');
  Outcome outcome = parse_npy(npy(deep, ""));
  EXPECT_TRUE(refused(outcome, FV_FILE_INVALID, 10 + deep.find('(') + 1, "non-negative integer"));
}

TEST(NpyReader, NoByteOfTheFileReachesTheTerminalUnescaped) {
  std::string dict = with_descr("'<f4\x1b[2J'");
  Outcome outcome = parse_npy(npy(dict, zeros(8)));  // a control byte ends the string: refused
  EXPECT_TRUE(refused(outcome, FV_FILE_INVALID, 10 + dict.find('\x1b'), "expected the type"));
}

TEST(NpyReader, MemoryStaysWithinTheFilesSize) {
  // Each file claims terabytes and has some hundred bytes.
  for (const char *shape : {"(281474976710656,)", "(1048576, 1048576)", "(4294967296, 1, 0, 7)"}) {
    std::string bytes = npy(with_shape(shape), zeros(16));
    reset_faults();
    EXPECT_NE(parse_npy(bytes).status, FV_FILE_OK) << shape;
    EXPECT_LE(faults().peak_bytes, 5 * bytes.size() + 1024) << shape;
    EXPECT_EQ(faults().live_blocks, 0) << shape;
  }
}

}  // namespace
