// Statuses as text. The detail of a failure, which each thread has, and which a buffer cuts.
#include <gmock/gmock.h>

#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

extern "C" {
#include "csrc/status.h"
}

namespace {

using testing::Each;
using testing::StartsWith;
using testing::StrEq;

const std::vector<int> kStatuses = {0, 1, 2, 3, 4, 5, 6, 7};

TEST(Status, IsNumberedByTheHeader) {
  EXPECT_EQ(FOVEA_OK, 0);
  EXPECT_EQ(FOVEA_BAD_ARGUMENT, 1);
  EXPECT_EQ(FOVEA_UNSUPPORTED, 2);
  EXPECT_EQ(FOVEA_NO_DEVICE, 3);
  EXPECT_EQ(FOVEA_OUT_OF_MEMORY, 4);
  EXPECT_EQ(FOVEA_NOT_PREPARED, 5);
  EXPECT_EQ(FOVEA_DRIVER_ERROR, 6);
  EXPECT_EQ(FOVEA_PARTIAL, 7);
}

TEST(Status, HasANameAndATextOfItsOwn) {
  std::set<std::string> names, texts;
  for (int value : kStatuses) {
    names.insert(fovea_status_name(static_cast<fovea_status>(value)));
    texts.insert(fovea_status_text(static_cast<fovea_status>(value)));
  }
  EXPECT_THAT(names, Each(StartsWith("FOVEA_")));
  EXPECT_EQ(names.size(), kStatuses.size());
  EXPECT_EQ(texts.size(), kStatuses.size());
  EXPECT_EQ(names.count("FOVEA_?"), 0u);
  EXPECT_STREQ(fovea_status_name(FOVEA_BAD_ARGUMENT), "FOVEA_BAD_ARGUMENT");
  EXPECT_STREQ(fovea_status_text(FOVEA_OK), "success");
}

TEST(Status, AnyOtherNumberIsNamedAsSuch) {
  for (int value : {8, 9, 1 << 20, -1}) {
    EXPECT_STREQ(fovea_status_name(static_cast<fovea_status>(value)), "FOVEA_?");
    EXPECT_STREQ(fovea_status_text(static_cast<fovea_status>(value)),
                 "not a status of this library");
  }
}

TEST(Version, IsTheHeaders) {
  EXPECT_EQ(fovea_version(),
            FOVEA_VERSION_MAJOR * 10000 + FOVEA_VERSION_MINOR * 100 + FOVEA_VERSION_PATCH);
}

TEST(ErrorDetail, IsEmptyBeforeTheFirstFailureOfAThread) {
  fv_fail(FOVEA_BAD_ARGUMENT, "of the main thread");
  std::string text = "unset";
  std::thread([&] { text = fovea_error_detail(); }).join();
  EXPECT_THAT(text, StrEq(""));
}

TEST(ErrorDetail, BelongsToItsThread) {
  fv_fail(FOVEA_BAD_ARGUMENT, "of the main thread");
  std::string text;
  std::thread([&] {
    fv_fail(FOVEA_UNSUPPORTED, "of the other");
    text = fovea_error_detail();
  }).join();
  EXPECT_EQ(text, "of the other");
  EXPECT_STREQ(fovea_error_detail(), "of the main thread");
}

TEST(ErrorDetail, MayQuoteTheOneBefore) {
  fv_fail(FOVEA_BAD_ARGUMENT, "inner %d", 7);
  EXPECT_EQ(fv_fail(FOVEA_NO_DEVICE, "outer: %s", fovea_error_detail()), FOVEA_NO_DEVICE);
  EXPECT_STREQ(fovea_error_detail(), "outer: inner 7");
}

TEST(ErrorDetail, IsCutWhenTooLong) {
  const std::string whole(5000, 'x');
  fv_fail(FOVEA_BAD_ARGUMENT, "%s", whole.c_str());
  EXPECT_EQ(fovea_error_detail(), whole.substr(0, 511));
}

TEST(PublishedDetail, FillsAnyBufferAndEndsInNul) {
  const std::string text = "twelve chars";
  fv_fail(FOVEA_BAD_ARGUMENT, "%s", text.c_str());
  for (size_t bytes = 1; bytes <= text.size() + 3; ++bytes) {
    std::vector<char> buffer(bytes + 1, '#');
    EXPECT_EQ(fv_publish_detail(FOVEA_DRIVER_ERROR, buffer.data(), bytes), FOVEA_DRIVER_ERROR);
    EXPECT_EQ(std::string(buffer.data()), text.substr(0, bytes - 1)) << bytes;
    EXPECT_EQ(buffer[bytes], '#') << "wrote past a buffer of " << bytes;
  }
}

TEST(PublishedDetail, LeavesTheBufferAloneOnSuccessAndWithoutRoom) {
  fv_fail(FOVEA_BAD_ARGUMENT, "something");
  char buffer[8] = "before";
  EXPECT_EQ(fv_publish_detail(FOVEA_OK, buffer, sizeof buffer), FOVEA_OK);
  EXPECT_STREQ(buffer, "before");
  EXPECT_EQ(fv_publish_detail(FOVEA_UNSUPPORTED, buffer, 0), FOVEA_UNSUPPORTED);
  EXPECT_STREQ(buffer, "before");
  EXPECT_EQ(fv_publish_detail(FOVEA_UNSUPPORTED, nullptr, 8), FOVEA_UNSUPPORTED);
}

}  // namespace
