// info_test.cc - `fovea info`, `fovea explain`, and the report of `fovea validate`.
#include <algorithm>
#include <set>

#include "cli/validate/digest.h"
#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

TEST(Info, JsonListsDevicesAndKernels) {
  Ran ran = fovea({"info", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
  Json report = parse_json(ran.out);
  EXPECT_EQ(json_integer_value(json_object_get(report.get(), "schema")), 1);
  EXPECT_STREQ(json_string_value(json_object_get(report.get(), "command")), "info");
  std::vector<std::string> names;
  size_t at;
  json_t *device;
  json_array_foreach(json_object_get(report.get(), "devices"), at, device) {
    names.push_back(json_string_value(json_object_get(device, "device")));
    bool present = json_is_true(json_object_get(device, "present"));
    EXPECT_TRUE(json_is_string(json_object_get(device, present ? "name" : "reason")));
    EXPECT_TRUE(present || names.back() == "cuda") << names.back();
  }
  EXPECT_EQ(names, (std::vector<std::string>{"cpu", "reference", "cuda"}));
  EXPECT_GE(json_array_size(json_object_get(report.get(), "kernels")), 2u);
}

TEST(Info, TextNamesDevicesFeaturesKernelsAndWhyThereIsNoGpu) {
  Ran ran = fovea({"info"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  for (const char *word : {"cpu", "reference", "cuda",
                           "processor features:", "kernels:", "fovea_attention_cpu_portable"}) {
    EXPECT_NE(ran.out.find(word), std::string::npos) << word;
  }
}

TEST(Info, ShowsTheInstructionSetThatIsForced) {
  Launch how{{"info", "--json"}};
  how.environment = {{"FOVEA_CPU_ISA", "portable"}};
  Json report = parse_json(run(how).out);
  json_t *cpu = json_array_get(json_object_get(report.get(), "devices"), 0);
  EXPECT_STREQ(json_string_value(json_object_get(cpu, "isa")), "portable");
}

TEST(Explain, PrintsThePlanThatRunFollows) {
  std::string file = example("alice-layer2.safetensors");
  Ran plan = fovea({"explain", file, "--device", "reference", "--causal", "bottom-right"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_EQ(plan.err, "");
  for (const char *word : {"kernel ", "fovea_attention_reference", "reason ", "causal"}) {
    EXPECT_NE(plan.out.find(word), std::string::npos) << word << " in:\n" << plan.out;
  }
  Json report = parse_json(fovea({"run", file, "--json"}).out);
  std::string kernel = json_string_value(json_object_get(report.get(), "kernel"));
  EXPECT_NE(fovea({"explain", file}).out.find(kernel), std::string::npos);
}

// tests/cuda has the schedule of a GPU, on the software GPU.
TEST(Explain, SaysThatACpuHasNoSchedule) {
  Ran plan =
      fovea({"explain", example("alice-layer2.safetensors"), "--device", "cpu", "--schedule"});
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_NE(plan.out.find("no schedule"), std::string::npos) << plan.out;
}

TEST(Explain, ComputesNothing) {
  Directory directory;
  MadeFile wrong = plain_file();
  wrong.tensor("lse", FV_FILE_DTYPE_F32, {1, 2, 3}, [](int64_t) { return 9.0; });
  EXPECT_EQ(fovea({"explain", wrong.write(directory)}).code, 0);
}

// validate adds cases, failed, seed and coverage to the fields of run.
TEST(ValidateJson, HasTheFieldsAndTypesOfItsSchema) {
  Ran ran = fovea({"validate", "--device", "cpu", "--cases", "40", "--seed", "3", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.out << ran.err;
  EXPECT_EQ(ran.err, "");
  Json report = parse_json(ran.out);
  auto at = [&report](const char *key) { return json_object_get(report.get(), key); };
  EXPECT_EQ(json_integer_value(at("schema")), 1);
  EXPECT_STREQ(json_string_value(at("command")), "validate");
  EXPECT_STREQ(json_string_value(at("device")), "cpu");
  EXPECT_TRUE(json_is_string(at("kernel")));
  EXPECT_TRUE(json_is_string(at("dtype")));
  EXPECT_TRUE(json_is_real(at("seconds")));
  EXPECT_GT(json_integer_value(at("compared")), 0);
  EXPECT_TRUE(json_is_true(at("pass")));
  EXPECT_TRUE(json_is_object(at("worst")));
  EXPECT_TRUE(json_is_null(at("first_bad")));
  EXPECT_EQ(json_integer_value(at("cases")), 40);
  EXPECT_TRUE(json_is_integer(at("failed")));
  EXPECT_EQ(json_integer_value(at("failed")), 0);
  EXPECT_EQ(json_integer_value(at("seed")), 3);
  EXPECT_TRUE(json_is_string(at("digest")));
  ASSERT_TRUE(json_is_object(at("coverage")));
  EXPECT_GT(json_object_size(at("coverage")), 0u);
  const char *feature;
  json_t *count;
  json_object_foreach(at("coverage"), feature, count) {
    EXPECT_TRUE(json_is_integer(count)) << feature;
  }
}

// The digest that a run of validate prints.
std::string digest_of(std::vector<std::string> words) {
  words.insert(words.begin(), {"validate", "--device", "cpu", "--json"});
  Ran ran = fovea(words);
  Json report = parse_json(ran.out);
  json_t *digest = json_object_get(report.get(), "digest");
  return json_is_string(digest) ? json_string_value(digest) : "no digest";
}

TEST(ValidateDigest, IsThatOfTheCasesWhateverTheirOrder) {
  std::string digest = digest_of({"--cases", "60", "--threads", "1"});
  EXPECT_EQ(digest.size(), 16u) << digest;
  EXPECT_EQ(digest.find_first_not_of("0123456789abcdef"), std::string::npos) << digest;
  EXPECT_EQ(digest_of({"--cases", "60", "--threads", "4"}), digest);
  EXPECT_NE(digest_of({"--cases", "60", "--seed", "2"}), digest);
  EXPECT_NE(digest_of({"--cases", "61"}), digest) << "a case more";
}

TEST(ValidateDigest, SeesEveryByteAndTheLength) {
  std::set<uint64_t> seen;
  size_t digests = 0;
  for (size_t length = 0; length <= 33; ++length) {
    std::vector<unsigned char> zeros(length + 1);
    for (size_t bit = 0; bit <= 8 * length; ++bit, ++digests) {  // the last: none flipped
      std::vector<unsigned char> bytes = zeros;
      if (bit < 8 * length) bytes[bit / 8] = (unsigned char)(1u << bit % 8);
      seen.insert(fv_digest_add(FV_DIGEST_START, bytes.data(), length));
    }
  }
  EXPECT_EQ(seen.size(), digests);
}

// A CPU has one kernel, so it was judged on everything that was judged.
TEST(ValidateJson, SaysWhichKernelWasJudgedOnWhat) {
  Ran ran = fovea({"validate", "--device", "cpu", "--cases", "40", "--seed", "3", "--json"});
  Json report = parse_json(ran.out);
  json_t *kernels = json_object_get(report.get(), "kernels");
  ASSERT_EQ(json_object_size(kernels), 1u) << ran.out;
  json_t *kernel =
      json_object_get(kernels, json_string_value(json_object_get(report.get(), "kernel")));
  EXPECT_GT(json_integer_value(json_object_get(kernel, "cases")), 30);
  EXPECT_LT(json_integer_value(json_object_get(kernel, "cases")), 40)
      << "every tenth is another call";
  json_t *gqa = json_object_get(json_object_get(kernel, "coverage"), "gqa");
  EXPECT_GT(json_integer_value(gqa), 0);
  EXPECT_LE(json_integer_value(gqa), json_integer_value(json_object_get(kernel, "cases")));
}

}  // namespace
}  // namespace fovea_test
