/* safetensors_reader_test.cc - every rule of the .safetensors reader. */
#include "tests/readers/faults.h"
#include "tests/readers/reader_support.h"

namespace {

std::string zeros(size_t bytes) {
  return std::string(bytes, '\0');
}

Outcome parse_st(const std::string &bytes) {
  return parse(Format::kSafetensors, bytes);
}

// The header starts at byte 8.
testing::AssertionResult header_refused(const std::string &header, size_t data_bytes,
                                        fv_file_status status, const std::string &part,
                                        const std::string &text) {
  return refused(parse_st(safetensors(header, zeros(data_bytes))), status, 8 + header.find(part),
                 text);
}

std::string entry(const std::string &dtype, const std::string &shape, const std::string &offsets) {
  return "{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

std::string one(const std::string &dtype, const std::string &shape, const std::string &offsets) {
  return "{\"q\":" + entry(dtype, shape, offsets) + "}";
}

const std::string kTwo =
    "{\"__metadata__\":{\"scale\":\"0.125\"},\"q\":" + entry("F32", "[2,1]", "[0,8]") +
    ",\"mask\":" + entry("BOOL", "[3]", "[8,11]") + "}";

TEST(SafetensorsReader, ReadsTensorsAndMetadata) {
  std::string data = bytes_of<float>({1.5f, -2}) + "\1\0\1"s;
  Outcome outcome = parse_st(safetensors(kTwo, data));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  const fv_tensor_file *file = outcome.file.get();
  EXPECT_STREQ(outcome.error.text, "");
  ASSERT_EQ(fv_tensor_file_count(file), 2u);
  EXPECT_STREQ(fv_tensor_file_at(file, 0)->name, "q");
  EXPECT_EQ(fv_tensor_file_at(file, 2), nullptr);
  const fv_file_tensor *q = fv_tensor_file_find(file, "q");
  const fv_file_tensor *mask = fv_tensor_file_find(file, "mask");
  EXPECT_EQ(fv_tensor_file_find(file, "Q"), nullptr);
  ASSERT_NE(q, nullptr);
  ASSERT_NE(mask, nullptr);
  EXPECT_EQ(q->dtype, FV_FILE_DTYPE_F32);
  EXPECT_EQ(shape_of(q), (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(q->shape[7], 1);
  EXPECT_EQ(data_of(q), data.substr(0, 8));
  EXPECT_EQ(q->file_offset, 8 + kTwo.size());
  EXPECT_EQ(mask->dtype, FV_FILE_DTYPE_BOOL);
  EXPECT_EQ(data_of(mask), data.substr(8));
  EXPECT_EQ(fv_tensor_file_metadata_count(file), 1u);
  EXPECT_STREQ(fv_tensor_file_metadata_at(file, 0)->key, "scale");
  EXPECT_EQ(fv_tensor_file_metadata_at(file, 1), nullptr);
  EXPECT_STREQ(fv_tensor_file_metadata(file, "scale"), "0.125");
  EXPECT_EQ(fv_tensor_file_metadata(file, "layout"), nullptr);
}

TEST(SafetensorsReader, ReadsAFileBuiltLikeACapturedAttentionLayer) {
  // Metadata comes first, then the f32 tensors in alphabetical order with an expected out and LSE,
  // then the integer mask and one space of padding. Tokens are a JSON array of arrays in a string.
  std::string header =
      "{\"__metadata__\":{\"layout\":\"bhsd\",\"model\":\"tiny\",\"scale\":\"0.1767766952966369\","
      "\"tokens\":\"[[\\\"[CLS]\\\", \\\"didn\\\", \\\"'\\\", \\\"t\\\"]]\"},"
      "\"k\":" +
      entry("F32", "[1,2,4,3]", "[0,96]") + ",\"lse\":" + entry("F32", "[1,2,4]", "[96,128]") +
      ",\"out\":" + entry("F32", "[1,2,4,3]", "[128,224]") +
      ",\"q\":" + entry("F32", "[1,2,4,3]", "[224,320]") +
      ",\"v\":" + entry("F32", "[1,2,4,3]", "[320,416]") +
      ",\"attention_mask\":" + entry("I32", "[1,4]", "[416,432]") + "} ";
  std::vector<int32_t> words(108);
  for (size_t i = 0; i < words.size(); i++) words[i] = static_cast<int32_t>(i);
  Outcome outcome = parse_st(safetensors(header, bytes_of(words)));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  const fv_tensor_file *file = outcome.file.get();
  EXPECT_EQ(fv_tensor_file_count(file), 6u);
  EXPECT_STREQ(fv_tensor_file_metadata(file, "tokens"), "[[\"[CLS]\", \"didn\", \"'\", \"t\"]]");
  EXPECT_STREQ(fv_tensor_file_metadata(file, "scale"), "0.1767766952966369");
  const fv_file_tensor *q = fv_tensor_file_find(file, "q");
  EXPECT_EQ(shape_of(q), (std::vector<int64_t>{1, 2, 4, 3}));
  EXPECT_EQ(static_cast<const int32_t *>(q->data)[0], 56);
  const fv_file_tensor *mask = fv_tensor_file_find(file, "attention_mask");
  EXPECT_EQ(mask->dtype, FV_FILE_DTYPE_I32);
  EXPECT_EQ(static_cast<const int32_t *>(mask->data)[3], 107);
}

TEST(SafetensorsReader, ReadsEveryTypeOfItsList) {
  struct Row {
    const char *name;
    fv_file_dtype dtype;
    int bytes;
  };
  for (const Row &row : {Row{"F64", FV_FILE_DTYPE_F64, 8}, Row{"F32", FV_FILE_DTYPE_F32, 4},
                         Row{"F16", FV_FILE_DTYPE_F16, 2}, Row{"BF16", FV_FILE_DTYPE_BF16, 2},
                         Row{"F8_E4M3", FV_FILE_DTYPE_F8_E4M3, 1},
                         Row{"F8_E5M2", FV_FILE_DTYPE_F8_E5M2, 1}, Row{"I64", FV_FILE_DTYPE_I64, 8},
                         Row{"I32", FV_FILE_DTYPE_I32, 4}, Row{"I16", FV_FILE_DTYPE_I16, 2},
                         Row{"I8", FV_FILE_DTYPE_I8, 1}, Row{"U64", FV_FILE_DTYPE_U64, 8},
                         Row{"U32", FV_FILE_DTYPE_U32, 4}, Row{"U16", FV_FILE_DTYPE_U16, 2},
                         Row{"U8", FV_FILE_DTYPE_U8, 1}, Row{"BOOL", FV_FILE_DTYPE_BOOL, 1}}) {
    std::string header = one(row.name, "[3]", "[0," + std::to_string(3 * row.bytes) + "]");
    Outcome outcome = parse_st(safetensors(header, zeros(3 * row.bytes)));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << row.name << ": " << outcome.error.text;
    EXPECT_EQ(fv_tensor_file_at(outcome.file.get(), 0)->dtype, row.dtype) << row.name;
  }
}

TEST(SafetensorsReader, ReadsScalarsEmptyTensorsAndEmptyFiles) {
  EXPECT_EQ(parse_st(safetensors("{}")).status, FV_FILE_OK);
  EXPECT_EQ(parse_st(safetensors("{\"__metadata__\":{}}")).status, FV_FILE_OK);
  Outcome outcome = parse_st(safetensors("{\"b\":" + entry("F32", "[]", "[0,4]") +
                                             ",\"a\":" + entry("F64", "[5,0]", "[4,4]") +
                                             ",\"c\":" + entry("I8", "[0]", "[0,0]") + "}",
                                         zeros(4)));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  const fv_file_tensor *empty = fv_tensor_file_find(outcome.file.get(), "a");
  EXPECT_EQ(empty->bytes, 0u);
  EXPECT_NE(empty->data, nullptr);
  EXPECT_EQ(fv_tensor_file_find(outcome.file.get(), "b")->rank, 0u);
}

TEST(SafetensorsReader, AlignsDataThatTheFileDoesNot) {
  std::string header =
      "{\"flag\":" + entry("BOOL", "[1]", "[0,1]") + ",\"x\":" + entry("F64", "[1]", "[1,9]") + "}";
  Outcome outcome = parse_st(safetensors(header, "\1" + bytes_of<double>({-0.75})));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  const fv_file_tensor *x = fv_tensor_file_find(outcome.file.get(), "x");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x->data) % FV_FILE_DATA_ALIGNMENT, 0u);
  EXPECT_EQ(*static_cast<const double *>(x->data), -0.75);
}

TEST(SafetensorsReader, AcceptsWhiteSpaceAnywhereJsonDoes) {
  std::string header =
      "{ \"q\" :\t{ \"shape\" : [ 1 , 2 ]\r,\"data_offsets\":[ 0 , 8 ] ,\n"
      "\"dtype\" : \"F32\" } }\n\t\r    ";
  EXPECT_EQ(parse_st(safetensors(header, zeros(8))).status, FV_FILE_OK);
}

TEST(SafetensorsReader, UndoesEveryEscape) {
  std::string header =
      "{\"__metadata__\":{\"\\u0061\\n\\t\\r\\b\\f\\\\\\/\\\"\":\"\\u00e9\\u20AC\\ud83d\\uDE00 "
      "\xc3\xa9\"},\"\\u0071\":" +
      entry("F\\u00332", "[]", "[0,4]") + "}";
  Outcome outcome = parse_st(safetensors(header, zeros(4)));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  const fv_file_metadata *pair = fv_tensor_file_metadata_at(outcome.file.get(), 0);
  EXPECT_STREQ(pair->key, "a\n\t\r\b\f\\/\"");
  EXPECT_STREQ(pair->value, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 \xc3\xa9");
  ASSERT_NE(fv_tensor_file_find(outcome.file.get(), "q"), nullptr);
  EXPECT_EQ(fv_tensor_file_find(outcome.file.get(), "q")->dtype, FV_FILE_DTYPE_F32);
}

TEST(SafetensorsReader, RefusesTheFileCutAtEveryByte) {
  std::string bytes = safetensors(kTwo, zeros(11));
  for (size_t size = 0; size < bytes.size(); size++) {
    Outcome outcome = parse_st(bytes.substr(0, size));
    EXPECT_EQ(outcome.status, FV_FILE_INVALID) << size;
    EXPECT_EQ(outcome.file, nullptr) << size;
  }
}

TEST(SafetensorsReader, RefusesTheHeaderCutAtEveryByte) {
  // The length matches the cut text, so the tokenizer itself must notice.
  for (size_t size = 2; size < kTwo.size(); size++) {
    Outcome outcome = parse_st(safetensors(kTwo.substr(0, size)));
    EXPECT_EQ(outcome.status, FV_FILE_INVALID) << size;
    EXPECT_LE(outcome.error.offset, 8 + size) << outcome.error.text;
  }
}

TEST(SafetensorsReader, RefusesLengthsThatWrapOrPassTheEnd) {
  std::string rest = one("U8", "[4]", "[0,4]") + zeros(4);
  reset_faults();
  for (uint64_t length : {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX - 7, UINT64_MAX - 8,
                          UINT64_C(1) << 63, rest.size() + 1, UINT64_C(0), UINT64_C(1)}) {
    EXPECT_TRUE(refused(parse_st(little_endian(length, 8) + rest), FV_FILE_INVALID, 0,
                        "its header would have " + std::to_string(length) + " bytes"));
  }
  EXPECT_EQ(faults().calls[static_cast<int>(Call::kMemory)], 0);
}

TEST(SafetensorsReader, RefusesFilesTooShortForAHeader) {
  EXPECT_TRUE(refused(parse_st(""), FV_FILE_INVALID, 0, "ends before a .safetensors header"));
  EXPECT_TRUE(refused(parse_st(zeros(9)), FV_FILE_INVALID, 9, "ends before a .safetensors header"));
}

TEST(SafetensorsReader, AcceptsAHeaderOfTheLimitAndRefusesOneByteMore) {
  std::string header = "{}";
  header.resize(FV_SAFETENSORS_HEADER_LIMIT, ' ');
  EXPECT_EQ(parse_st(safetensors(header)).status, FV_FILE_OK);
  EXPECT_TRUE(refused(parse_st(safetensors(header + " ")), FV_FILE_TOO_LARGE, 0,
                      "16777217 bytes, above the limit of 16777216"));
}

TEST(SafetensorsReader, RefusesAHeaderThatDoesNotBeginWithABrace) {
  for (const char *header : {" {}", "[]", "\xef\xbb\xbf{}", "%PDF", "\"{}\""}) {
    EXPECT_TRUE(refused(parse_st(safetensors(header)), FV_FILE_INVALID, 8, "begins with '{'"));
  }
}

TEST(SafetensorsReader, RefusesWhatIsNotTheStructureOfAHeader) {
  struct Row {
    const char *header, *text;  // ^ is where the refusal points
  };
  for (const Row &row :
       {Row{"{^,}", "expected a string"},
        Row{"{\"a\"^}", "expected ':'"},
        Row{"{\"a\":^1}", "expected '{' before a tensor's fields"},
        Row{"{\"a\":^null}", "expected '{'"},
        Row{"{\"a\":^[]}", "expected '{'"},
        Row{"{} ^{}", "more text after"},
        Row{"{}^x", "more text after"},
        Row{"{\"__metadata__\":{}^", "expected ',' or '}'"},
        Row{"{\"__metadata__\":{},^}", "expected a string"},
        Row{"{\"__metadata__\":{} ^\"a\"}", "expected ',' or '}'"},
        Row{"{\"__metadata__\":^[]}", "expected '{' before the metadata"},
        Row{"{\"__metadata__\":{\"a\"^}}", "expected ':'"},
        Row{"{\"__metadata__\":{\"a\":^1}}", "expected a string"},
        Row{"{\"__metadata__\":{\"a\":\"b\",^}}", "expected a string"},
        Row{"{\"__metadata__\":{\"a\":\"b\" ^\"c\"}}", "expected ',' or '}'"},
        Row{"{\"__metadata__\":{^'a':'b'}}", "expected a string"},
        Row{"{\"q\":{^,}}", "expected a string"},
        Row{"{\"q\":{\"dtype\" ^\"U8\"}}", "expected ':'"},
        Row{"{\"q\":{\"dtype\":^4}}", "expected a string"},
        Row{"{\"q\":{\"dtype\":\"U8\"^]}", "expected ',' or '}'"},
        Row{"{\"q\":{\"dtype\":\"U8\",^}}", "expected a string"},
        Row{"{\"q\":{\"shape\":^4}}", "expected '['"},
        Row{"{\"q\":{\"shape\":[1 ^2]}}", "expected ',' or ']'"},
        Row{"{\"q\":{\"shape\":[1,^]}}", "expected a non-negative integer"},
        Row{"{\"q\":{\"shape\":[^,]}}", "expected a non-negative integer"},
        Row{"{\"q\":{\"data_offsets\":^4}}", "expected '['"},
        Row{"{\"q\":{\"data_offsets\":[^]}}", "expected a non-negative integer"},
        Row{"{\"q\":{\"data_offsets\":[0^]}}", "expected ',' between"},
        Row{"{\"q\":{\"data_offsets\":[0,^]}}", "expected a non-negative integer"},
        Row{"{\"q\":{\"data_offsets\":[0,0^,0]}}", "expected ']' after the two"}}) {
    Marked header(row.header);
    EXPECT_TRUE(
        refused(parse_st(safetensors(header.text)), FV_FILE_INVALID, 8 + header.at, row.text))
        << row.header;
  }
}

TEST(SafetensorsReader, RefusesNumbersThatAreNotPlainNonNegativeIntegers) {
  struct Row {
    const char *number, *text;  // ^ is where the refusal points
  };
  for (const Row &row :
       {Row{"^-1", "expected a non-negative integer"},
        Row{"^-0", "expected a non-negative integer"},
        Row{"^+1", "expected a non-negative integer"}, Row{"^01", "leading zero"},
        Row{"^00", "leading zero"}, Row{"1^.0", "a fraction or an exponent"},
        Row{"1^e400", "a fraction or an exponent"}, Row{"1^E2", "a fraction or an exponent"},
        Row{"1844674407370955161^6", "above 2^64-1"},
        Row{"^NaN", "expected a non-negative integer"},
        Row{"9999999999999999999^9999", "above 2^64-1"}, Row{"^true", "expected a non-negative"},
        Row{"^\"1\"", "expected a non-negative integer"}, Row{"0^x1", "expected ',' or ']'"},
        Row{"1^_0", "expected ',' or ']'"}, Row{"1^:", "expected ',' or ']'"}}) {
    Marked header(one("U8", "["s + row.number + "]", "[0,1]"));
    EXPECT_TRUE(refused(parse_st(safetensors(header.text, zeros(1))), FV_FILE_INVALID,
                        8 + header.at, row.text))
        << row.number;
  }
}

TEST(SafetensorsReader, KeepsIntegersThatNoDoubleHolds) {
  // 2^53 + 1 would become 2^53 on its way through floating point.
  std::string header = one("U8", "[9007199254740993,0]", "[0,0]");
  Outcome outcome = parse_st(safetensors(header));
  EXPECT_TRUE(refused(outcome, FV_FILE_INVALID, 8 + header.find("[9007"), "9007199254740993"));
  std::string offsets = one("U8", "[1]", "[9007199254740993,9007199254740994]");
  EXPECT_TRUE(header_refused(offsets, 1, FV_FILE_INVALID, "[9007199254740993,",
                             "[9007199254740993, 9007199254740994]"));
}

TEST(SafetensorsReader, RefusesIllFormedStrings) {
  struct Row {
    std::string inside, text;
    size_t at;  // bytes into the string
  };
  for (const Row &row : {Row{"a\nb", "control character", 1},
                         Row{"\x1f", "control character", 0},
                         Row{"a\0b"s, "control character", 1},
                         Row{"\\u0000", "U+0000", 0},
                         Row{"\\x41", "an escape that JSON does not have", 0},
                         Row{"\\'", "an escape that JSON does not have", 0},
                         Row{"\\u12g4", "four hexadecimal digits", 0},
                         Row{"\\u123", "four hexadecimal digits", 0},
                         Row{"\\u 123", "four hexadecimal digits", 0},
                         Row{"\\u@000", "four hexadecimal digits", 0},
                         Row{"\\ud800", "half of a surrogate pair", 0},
                         Row{"\\udc00", "half of a surrogate pair", 0},
                         Row{"\\udbff\\udbff", "half of a surrogate pair", 0},
                         Row{"\\ud800\\ue000", "half of a surrogate pair", 0},
                         Row{"\\ud800\\n123456", "half of a surrogate pair", 0},
                         Row{"\\ud800udc00xxxx", "half of a surrogate pair", 0},
                         Row{"\xff", "ill-formed UTF-8", 0},
                         Row{"a\x80", "ill-formed UTF-8", 1},
                         Row{"\xc0\xaf", "ill-formed UTF-8", 0},
                         Row{"\xc1\xbf", "ill-formed UTF-8", 0},
                         Row{"\xe0\x9f\xbf", "ill-formed UTF-8", 0},
                         Row{"\xf0\x8f\xbf\xbf", "ill-formed UTF-8", 0},
                         Row{"\xed\xa0\x80", "ill-formed UTF-8", 0},
                         Row{"\xed\xbf\xbf", "ill-formed UTF-8", 0},
                         Row{"\xf4\x90\x80\x80", "ill-formed UTF-8", 0},
                         Row{"\xf8\x88\x80\x80\x80", "ill-formed UTF-8", 0},
                         Row{"\xe2\x82", "ill-formed UTF-8", 0},
                         Row{"\xc3(", "ill-formed UTF-8", 0},
                         Row{"\xe2(\xac", "ill-formed UTF-8", 0}}) {
    const std::string before = "{\"__metadata__\":{\"a\":\"";
    std::string header = before + row.inside + "\"}}";
    EXPECT_TRUE(refused(parse_st(safetensors(header)), FV_FILE_INVALID, 8 + before.size() + row.at,
                        row.text))
        << testing::PrintToString(row.inside);
  }
}

TEST(SafetensorsReader, RefusesStringsThatDoNotEnd) {
  for (std::string header : {"{\"abc"s, "{\"abc\\"s, "{\"abc\\\""s}) {
    Outcome outcome = parse_st(safetensors(header));
    uint64_t end = header == "{\"abc\\" ? header.size() - 1 : header.size();
    EXPECT_TRUE(refused(outcome, FV_FILE_INVALID, 8 + end, "the string does not end")) << header;
  }
}

TEST(SafetensorsReader, RefusesEscapesCutByTheHeadersEnd) {
  for (const char *text : {"{\"^\\u", "{\"^\\u004", "{\"a^\\ud800", "{\"^\\ud800\\",
                           "{\"^\\ud800\\u", "{\"^\\ud800\\udc0", "{\"^\\ud800\\uzzzz\""}) {
    Marked header(text);
    EXPECT_TRUE(refused(parse_st(safetensors(header.text)), FV_FILE_INVALID, 8 + header.at, ""))
        << text;
  }
}

TEST(SafetensorsReader, AcceptsEveryUtf8LengthAtItsEdges) {
  for (const char *text :
       {"\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
        "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    Outcome outcome = parse_st(safetensors("{\"__metadata__\":{\"a\":\""s + text + "\"}}"));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
    EXPECT_STREQ(fv_tensor_file_metadata(outcome.file.get(), "a"), text);
  }
  struct Row {
    const char *escape, *text;
  };
  for (const Row &row :
       {Row{"\\u007f", "\x7f"}, Row{"\\u0080", "\xc2\x80"}, Row{"\\u07ff", "\xdf\xbf"},
        Row{"\\u0800", "\xe0\xa0\x80"}, Row{"\\uffff", "\xef\xbf\xbf"},
        Row{"\\ud800\\udc00", "\xf0\x90\x80\x80"}, Row{"\\ud7ff", "\xed\x9f\xbf"},
        Row{"\\udbff\\udfff", "\xf4\x8f\xbf\xbf"}, Row{"\\ue000", "\xee\x80\x80"}}) {
    Outcome outcome = parse_st(safetensors("{\"__metadata__\":{\"a\":\""s + row.escape + "\"}}"));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << row.escape << outcome.error.text;
    EXPECT_STREQ(fv_tensor_file_metadata(outcome.file.get(), "a"), row.text) << row.escape;
  }
}

TEST(SafetensorsReader, RefusesRepeatedKeysAtEveryLevelAndInEverySpelling) {
  std::string same =
      "{\"q\":" + entry("U8", "[1]", "[0,1]") + ",\"q\":" + entry("U8", "[1]", "[1,2]") + "}";
  EXPECT_TRUE(refused(parse_st(safetensors(same, zeros(2))), FV_FILE_INVALID,
                      9 + same.rfind("\"q\""), "tensor 'q' is given twice"));
  std::string escaped =
      "{\"q\":" + entry("U8", "[1]", "[0,1]") + ",\"\\u0071\":" + entry("U8", "[1]", "[1,2]") + "}";
  EXPECT_TRUE(refused(parse_st(safetensors(escaped, zeros(2))), FV_FILE_INVALID,
                      8 + escaped.find("\\u0071"), "tensor 'q' is given twice"));
  EXPECT_TRUE(header_refused("{\"__metadata__\":{\"a\":\"1\",\"\\u0061\":\"2\"}}", 0,
                             FV_FILE_INVALID, "\\u0061", "metadata key 'a' is given twice"));
  EXPECT_TRUE(header_refused("{\"__metadata__\":{},\"__metadata_\\u005f\":{}}", 0, FV_FILE_INVALID,
                             "__metadata_\\", "'__metadata__' is given twice"));
  EXPECT_TRUE(header_refused("{\"q\":{\"dtype\":\"U8\",\"dtyp\\u0065\":\"U8\"}}", 0,
                             FV_FILE_INVALID, "dtyp\\u", "tensor 'q': its 'dtype' is given twice"));
  EXPECT_TRUE(header_refused("{\"q\":{\"shape\":[],\"s\\u0068ape\":[]}}", 0, FV_FILE_INVALID,
                             "s\\u0068", "its 'shape' is given twice"));
  EXPECT_TRUE(header_refused("{\"q\":{\"data_offsets\":[0,0],\"data_offset\\u0073\":[0,0]}}", 0,
                             FV_FILE_INVALID, "data_offset\\u",
                             "its 'data_offsets' is given twice"));
}

TEST(SafetensorsReader, NamesMissingAndUnknownFields) {
  EXPECT_TRUE(header_refused("{\"q\":{}}", 0, FV_FILE_INVALID, "q\"",
                             "tensor 'q': its entry lacks 'dtype'"));
  EXPECT_TRUE(header_refused("{\"q\":{\"dtype\":\"U8\",\"data_offsets\":[0,0]}}", 0,
                             FV_FILE_INVALID, "q\"", "its entry lacks 'shape'"));
  EXPECT_TRUE(header_refused("{\"q\":{\"dtype\":\"U8\",\"shape\":[0]}}", 0, FV_FILE_INVALID, "q\"",
                             "its entry lacks 'data_offsets'"));
  EXPECT_TRUE(header_refused("{\"q\":{\"dtype\":\"U8\",\"stride\":[0]}}", 0, FV_FILE_INVALID,
                             "stride", "tensor 'q': its entry has the field 'stride'"));
}

TEST(SafetensorsReader, RefusesSizesThatContradictTheOffsets) {
  for (const char *offsets : {"[0,7]", "[0,9]", "[8,8]"}) {
    EXPECT_TRUE(header_refused(one("F32", "[2]", offsets), 9, FV_FILE_INVALID, offsets,
                               "tensor 'q': its shape needs 8 bytes of F32 but"));
  }
}

TEST(SafetensorsReader, RefusesOffsetsThatAreNoRangeOfTheData) {
  for (const char *offsets :
       {"[0,9]", "[8,0]", "[9,9]", "[1,18446744073709551615]", "[18446744073709551615,0]",
        "[18446744073709551608,18446744073709551615]"}) {
    EXPECT_TRUE(header_refused(one("U8", "[8]", offsets), 8, FV_FILE_INVALID, offsets,
                               "are not a range within the 8 bytes of data"));
  }
}

TEST(SafetensorsReader, RefusesAProductThatWrapsToTheSizeOfTheData) {
  for (const char *shape :
       {"[4294967296,4294967296]", "[0,4294967296,4294967296]", "[4294967296,4294967296,0]",
        "[281474976710656,281474976710656]", "[2147483648,1073741824]"}) {
    EXPECT_TRUE(header_refused(one("F32", shape, "[0,0]"), 0, FV_FILE_INVALID, shape,
                               "the product of its shape is above 2^63-1 bytes"));
  }
  EXPECT_TRUE(header_refused(one("F99", "[4294967296,4294967296]", "[0,0]"), 0, FV_FILE_INVALID,
                             "[4294", "the product of its shape"));
  EXPECT_TRUE(header_refused(one("U8", "[281474976710657,0]", "[0,0]"), 0, FV_FILE_INVALID, "[2814",
                             "a dimension of 281474976710657, above the limit of 2^48"));
}

TEST(SafetensorsReader, RefusesMoreThanEightDimensions) {
  std::string eight = one("U8", "[1,1,1,1,1,1,1,2]", "[0,2]");
  EXPECT_EQ(parse_st(safetensors(eight, zeros(2))).status, FV_FILE_OK);
  EXPECT_TRUE(header_refused(one("U8", "[1,1,1,1,1,1,1,1,2]", "[0,2]"), 2, FV_FILE_UNSUPPORTED,
                             "[1,1", "tensor 'q': its shape has more than 8 dimensions"));
}

TEST(SafetensorsReader, RefusesGapsOverlapsAndTrailingBytes) {
  auto pair = [](const char *first, const char *second) {
    return "{\"a\":" + entry("U8", "[4]", first) + ",\"b\":" + entry("U8", "[4]", second) + "}";
  };
  std::string gap = pair("[0,4]", "[5,9]");
  uint64_t data = 8 + gap.size();
  EXPECT_TRUE(refused(parse_st(safetensors(gap, zeros(9))), FV_FILE_INVALID, data + 5,
                      "tensor 'b' begins after the tensor before it ends"));
  std::string overlap = pair("[3,7]", "[0,4]");
  EXPECT_TRUE(refused(parse_st(safetensors(overlap, zeros(7))), FV_FILE_INVALID, data + 3,
                      "tensor 'a' begins before the tensor before it ends"));
  std::string equal = pair("[0,4]", "[0,4]");
  EXPECT_TRUE(refused(parse_st(safetensors(equal, zeros(4))), FV_FILE_INVALID, data,
                      "begins before the tensor before it ends"));
  std::string late = pair("[1,5]", "[5,9]");
  EXPECT_TRUE(refused(parse_st(safetensors(late, zeros(9))), FV_FILE_INVALID, data + 1,
                      "tensor 'a' begins after"));
  std::string trailing = pair("[4,8]", "[0,4]");
  EXPECT_EQ(parse_st(safetensors(trailing, zeros(8))).status, FV_FILE_OK);
  EXPECT_TRUE(refused(parse_st(safetensors(trailing, zeros(11))), FV_FILE_INVALID, data + 8,
                      "3 bytes follow that belong to no tensor"));
  EXPECT_TRUE(refused(parse_st(safetensors("{}", "PK\3\4")), FV_FILE_INVALID, 10,
                      "4 bytes follow that belong to no tensor"));
}

TEST(SafetensorsReader, KeepsATensorOfUnknownTypeWithoutItsData) {
  std::string header =
      "{\"new\":" + entry("F99", "[7]", "[4,9]") + ",\"q\":" + entry("F32", "[1]", "[0,4]") + "}";
  Outcome outcome = parse_st(safetensors(header, bytes_of<float>({3}) + zeros(5)));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  const fv_file_tensor *tensor = fv_tensor_file_find(outcome.file.get(), "new");
  EXPECT_EQ(tensor->dtype, FV_FILE_DTYPE_UNKNOWN);
  EXPECT_STREQ(tensor->dtype_name, "F99");
  EXPECT_EQ(tensor->data, nullptr);
  EXPECT_EQ(tensor->bytes, 5u);
  EXPECT_EQ(data_of(fv_tensor_file_find(outcome.file.get(), "q")), bytes_of<float>({3}));
}

TEST(SafetensorsReader, ChecksTheOffsetsOfATensorOfUnknownType) {
  // An element of unknown type has no known size, so only the number of elements, 2^62, must fit.
  std::string vast = one("F99", "[2147483648,2147483648]", "[0,0]");
  EXPECT_EQ(parse_st(safetensors(vast)).status, FV_FILE_OK);
  EXPECT_TRUE(header_refused(one("F99", "[7]", "[0,99]"), 9, FV_FILE_INVALID, "[0,99",
                             "are not a range within"));
  std::string gap = one("F99", "[7]", "[1,9]");
  EXPECT_TRUE(refused(parse_st(safetensors(gap, zeros(9))), FV_FILE_INVALID, 8 + gap.size() + 1,
                      "tensor 'q' begins after"));
}

TEST(SafetensorsReader, NestingOfAnyDepthIsRefusedAtOnce) {
  std::string arrays = "{\"q\":{\"shape\":" + std::string(100000, '[');
  EXPECT_TRUE(refused(parse_st(safetensors(arrays)), FV_FILE_INVALID, 8 + arrays.find('[') + 1,
                      "expected a non-negative integer"));
  std::string objects;
  for (int i = 0; i < 100000; i++) objects += "{\"\":";
  EXPECT_TRUE(refused(parse_st(safetensors(objects)), FV_FILE_INVALID, 8 + 6,
                      "tensor '': its entry has the field ''"));
}

TEST(SafetensorsReader, NamesInMessagesAreEscapedAndCut) {
  std::string header = "{\"\\u001b[2J\\u202e\":{}}";
  EXPECT_TRUE(
      header_refused(header, 0, FV_FILE_INVALID, "\\u001b", "tensor '\\u{1b}[2J\\u{202e}':"));
  std::string name(5000, 'n');
  std::string shown = "tensor '" + std::string(124, 'n') + "...': its entry lacks";
  EXPECT_TRUE(header_refused("{\"" + name + "\":{}}", 0, FV_FILE_INVALID, name, shown));
}

TEST(SafetensorsReader, MemoryIsAtMostFiveTimesTheFile) {
  // Headers with the most entries per byte, and claims far beyond the file.
  std::string metadata = "{\"__metadata__\":{", tensors = "{";
  for (int i = 0; i < 4000; i++) {
    std::string key = "\"" + std::to_string(i) + "\":";
    metadata += (i > 0 ? "," : "") + key + "\"\"";
    tensors += (i > 0 ? "," : "") + key + "{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[" +
               std::to_string(i) + "," + std::to_string(i + 1) + "]}";
  }
  for (const std::string &bytes :
       {safetensors(metadata + "}}"), safetensors(tensors + "}", zeros(4000)),
        safetensors(one("U8", "[281474976710656]", "[0,281474976710656]"), zeros(8))}) {
    reset_faults();
    { Outcome outcome = parse_st(bytes); }
    EXPECT_LE(faults().peak_bytes, 5 * bytes.size() + 1024);
    EXPECT_EQ(faults().live_blocks, 0);
  }
}

}  // namespace
