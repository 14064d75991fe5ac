/* io_faults_test.cc - every system call and every allocation fails in turn, once or for ever. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "tests/readers/faults.h"
#include "tests/readers/reader_support.h"

namespace {

const std::string kTensors =
    "{\"__metadata__\":{\"layout\":\"bhsd\"},"
    "\"q\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
    "\"k\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}";
const char kDict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";

size_t open_descriptors() {
  size_t count = 0;
  for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    count += entry.is_symlink();
  }
  return count;
}

// Closes standard input while this object lives.
class ClosedInput {
 public:
  ClosedInput() : saved_(dup(0)) { close(0); }
  ~ClosedInput() {
    dup2(saved_, 0);
    close(saved_);
  }

 private:
  int saved_;
};

// One file of each format, and an open through the function that a program would call.
class ReadFaults : public testing::TestWithParam<Format> {
 protected:
  void SetUp() override {
    path_ = directory_.file("in");
    std::string data = bytes_of<float>({1, 2});
    write_bytes(path_,
                GetParam() == Format::kNpy ? npy(kDict, data) : safetensors(kTensors, data + data));
    reset_faults();
  }
  void TearDown() override { reset_faults(); }

  // Opens with the armed failures, then disarms them. Checks that nothing leaks.
  fv_file_status open() {
    size_t descriptors = open_descriptors();
    fv_tensor_file *file = nullptr;
    fv_file_status status = fv_tensor_file_open(path_.c_str(), "q", &file, &error_);
    failures_ = faults().failures;
    if (status == FV_FILE_OK) {
      EXPECT_EQ(data_of(fv_tensor_file_find(file, "q")), bytes_of<float>({1, 2}));
      fv_tensor_file_close(file);
    } else {
      EXPECT_EQ(file, nullptr);
      EXPECT_EQ(std::string(error_.text).rfind(path_ + ": ", 0), 0u) << error_.text;
      EXPECT_EQ(error_.status, status);
    }
    EXPECT_EQ(faults().live_blocks, 0);
    reset_faults();
    EXPECT_EQ(open_descriptors(), descriptors);
    return status;
  }

  // Fails the first, second, … call of this kind until an open gets through without meeting it.
  void fail_each(Call call, int error, fv_file_status expected, const std::string &text) {
    for (int times : {1, kForEver}) {
      long site = 0;
      for (;; site++) {
        ASSERT_LT(site, 100);
        arm(call, site, times, error);
        fv_file_status status = open();
        if (failures_ == 0) {
          EXPECT_EQ(status, FV_FILE_OK);
          break;
        }
        EXPECT_EQ(status, expected) << "site " << site << ": " << error_.text;
        EXPECT_NE(std::string(error_.text).find(text), std::string::npos) << error_.text;
      }
      EXPECT_GT(site, 0) << "this call was never made";
    }
  }

  TemporaryDirectory directory_;
  std::string path_;
  fv_file_error error_;
  long failures_ = 0;
};

TEST_P(ReadFaults, EveryAllocationThatFailsIsOutOfMemory) {
  fail_each(Call::kMemory, ENOMEM, FV_FILE_OUT_OF_MEMORY, "out of memory: ");
}

TEST_P(ReadFaults, EveryReadThatFailsIsUnreadable) {
  fail_each(Call::kPread, EIO, FV_FILE_UNREADABLE, "cannot be read (Input/output error)");
}

TEST_P(ReadFaults, EveryReadThatEndsEarlySaysTheFileShrank) {
  fail_each(Call::kPread, 0, FV_FILE_UNREADABLE, "became shorter while it was read");
}

TEST_P(ReadFaults, OpenAndFstatThatFailAreUnreadable) {
  fail_each(Call::kOpen, EACCES, FV_FILE_UNREADABLE, "cannot be opened (Permission denied)");
  fail_each(Call::kFstat, EIO, FV_FILE_UNREADABLE, "its size cannot be read (Input/output error)");
}

TEST_P(ReadFaults, AFailedCloseAfterReadingLosesNothing) {
  arm(Call::kClose, 0, kForEver, EIO);
  EXPECT_EQ(open(), FV_FILE_OK);
}

TEST_P(ReadFaults, ReadsOfOneByteGiveTheSameTensors) {
  faults().max_transfer = 1;
  EXPECT_EQ(open(), FV_FILE_OK) << error_.text;
}

// A signal waits for the end of a read. A read of gigabytes at once would take seconds.
TEST_P(ReadFaults, LargeTensorsAreReadInPieces) {
  std::string data(9 << 20, 'x'), bytes = std::to_string(data.size());
  std::string header =
      "{\"q\":{\"dtype\":\"I8\",\"shape\":[" + bytes + "],\"data_offsets\":[0," + bytes + "]}}";
  std::string dict = "{'descr': '|i1', 'fortran_order': False, 'shape': (" + bytes + ",), }";
  write_bytes(path_, GetParam() == Format::kNpy ? npy(dict, data) : safetensors(header, data));
  fv_tensor_file *file = nullptr;
  ASSERT_EQ(fv_tensor_file_open_header(path_.c_str(), "q", &file, &error_), FV_FILE_OK);
  long for_header = faults().calls[static_cast<int>(Call::kPread)];
  EXPECT_EQ(fv_tensor_file_find(file, "q")->data, nullptr);
  EXPECT_EQ(fv_tensor_file_find(file, "q")->bytes, data.size());
  EXPECT_LT(faults().peak_bytes, size_t{1} << 20) << "only the header is read";
  fv_tensor_file_close(file);
  reset_faults();
  ASSERT_EQ(fv_tensor_file_open(path_.c_str(), "q", &file, &error_), FV_FILE_OK);
  EXPECT_GE(faults().calls[static_cast<int>(Call::kPread)], for_header + 3);
  EXPECT_EQ(data_of(fv_tensor_file_find(file, "q")), data);
  fv_tensor_file_close(file);
}

TEST_P(ReadFaults, InterruptedCallsAreRepeated) {
  faults().interrupt = true;
  faults().max_transfer = 3;
  EXPECT_EQ(open(), FV_FILE_OK) << error_.text;
}

TEST_P(ReadFaults, AnEndThatFollowsAnInterruptionIsStillAnEnd) {
  faults().interrupt = true;  // leaves EINTR in errno
  arm(Call::kPread, 0, 1, 0);
  EXPECT_EQ(open(), FV_FILE_UNREADABLE);
}

TEST_P(ReadFaults, DescriptorZeroIsADescriptor) {
  ClosedInput closed;  // the next open returns 0
  faults().interrupt = true;
  EXPECT_EQ(open(), FV_FILE_OK) << error_.text;
}

TEST_P(ReadFaults, MemoryParsingFailsCleanlyToo) {
  std::string bytes = read_bytes(path_);
  for (long site = 0;; site++) {
    ASSERT_LT(site, 100);
    reset_faults();
    arm(Call::kMemory, site, 1, ENOMEM);
    Outcome outcome = parse(GetParam(), bytes);
    if (faults().failures == 0) {
      EXPECT_EQ(outcome.status, FV_FILE_OK);
      EXPECT_GE(site, 4);  // header, table or name, sorting or table, data
      break;
    }
    EXPECT_TRUE(refused(outcome, FV_FILE_OUT_OF_MEMORY, FV_FILE_NO_OFFSET, "out of memory: "));
    EXPECT_EQ(faults().live_blocks, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, ReadFaults, testing::Values(Format::kNpy, Format::kSafetensors),
                         [](const testing::TestParamInfo<Format> &row) {
                           return row.param == Format::kNpy ? "npy" : "safetensors";
                         });

class WriteFaults : public testing::Test {
 protected:
  void SetUp() override { reset_faults(); }
  void TearDown() override { reset_faults(); }

  fv_file_status write(const std::string &name) {
    fv_file_tensor tensors[2] = {};
    const char *names[2] = {"out", "lse"};
    for (int i = 0; i < 2; i++) {
      tensors[i].name = names[i];
      tensors[i].dtype = FV_FILE_DTYPE_F32;
      tensors[i].rank = 1;
      tensors[i].shape[0] = 2;
      tensors[i].data = values_;
      tensors[i].bytes = sizeof values_;
    }
    fv_file_metadata metadata[] = {{"layout", "bhsd"}};
    path_ = directory_.file(name);
    size_t descriptors = open_descriptors();
    fv_file_status status = fv_safetensors_write(path_.c_str(), tensors, 2, metadata, 1, &error_);
    failures_ = faults().failures;
    EXPECT_EQ(faults().live_blocks, 0);
    reset_faults();
    EXPECT_EQ(open_descriptors(), descriptors);
    return status;
  }

  void fail_each(Call call, int error, fv_file_status expected, const std::string &text) {
    for (int times : {1, kForEver}) {
      long site = 0;
      for (;; site++) {
        ASSERT_LT(site, 100);
        arm(call, site, times, error);
        fv_file_status status = write("x");
        if (failures_ == 0) {
          EXPECT_EQ(status, FV_FILE_OK);
          break;
        }
        EXPECT_EQ(status, expected) << "site " << site << ": " << error_.text;
        EXPECT_EQ(std::string(error_.text).rfind(path_ + ": ", 0), 0u) << error_.text;
        EXPECT_NE(std::string(error_.text).find(text), std::string::npos) << error_.text;
        EXPECT_TRUE(directory_.names().empty()) << "site " << site << " left a file";
      }
      EXPECT_GT(site, 0) << "this call was never made";
      std::filesystem::remove(path_);
    }
  }

  // The file is the one that an undisturbed write makes.
  void expect_complete() {
    std::string disturbed = read_bytes(path_);
    ASSERT_EQ(write("y"), FV_FILE_OK) << error_.text;
    EXPECT_EQ(disturbed, read_bytes(path_));
  }

  TemporaryDirectory directory_;
  std::string path_;
  fv_file_error error_;
  long failures_ = 0;
  const float values_[2] = {1, 2};
};

TEST_F(WriteFaults, EveryAllocationThatFailsIsOutOfMemoryAndLeavesNothing) {
  fail_each(Call::kMemory, ENOMEM, FV_FILE_OUT_OF_MEMORY, "out of memory: ");
}

TEST_F(WriteFaults, AFullDiskAtAnyWriteLeavesNothing) {
  fail_each(Call::kWrite, ENOSPC, FV_FILE_NOT_WRITTEN, "writing failed (No space left on device)");
}

TEST_F(WriteFaults, AWriteThatWritesNothingIsAnError) {
  fail_each(Call::kWrite, 0, FV_FILE_NOT_WRITTEN, "writing failed (No space left on device)");
}

TEST_F(WriteFaults, EveryOtherCallThatFailsLeavesNothing) {
  fail_each(Call::kOpen, EACCES, FV_FILE_NOT_WRITTEN,
            "cannot be created beside it (Permission denied)");
  fail_each(Call::kFsync, EIO, FV_FILE_NOT_WRITTEN,
            "flushing to the disk failed (Input/output error)");
  fail_each(Call::kClose, EDQUOT, FV_FILE_NOT_WRITTEN, "closing failed (Disk quota exceeded)");
  fail_each(Call::kRename, EROFS, FV_FILE_NOT_WRITTEN,
            "cannot take its name (Read-only file system)");
}

TEST_F(WriteFaults, TheFirstFailureIsTheOneTold) {
  arm(Call::kWrite, 0, 1, ENOSPC);
  arm(Call::kClose, 0, 1, EIO);
  EXPECT_EQ(write("x"), FV_FILE_NOT_WRITTEN);
  EXPECT_NE(std::string(error_.text).find("No space left"), std::string::npos) << error_.text;
}

TEST_F(WriteFaults, AFailureLeavesTheOldFileAsItWas) {
  write_bytes(directory_.file("x"), "old");
  arm(Call::kFsync, 0, 1, EIO);
  EXPECT_EQ(write("x"), FV_FILE_NOT_WRITTEN);
  EXPECT_EQ(read_bytes(directory_.file("x")), "old");
  EXPECT_EQ(directory_.names(), (std::vector<std::string>{"x"}));
}

TEST_F(WriteFaults, ShortWritesAreContinued) {
  faults().max_transfer = 1;
  ASSERT_EQ(write("x"), FV_FILE_OK) << error_.text;
  expect_complete();
}

TEST_F(WriteFaults, InterruptedCallsAreRepeated) {
  faults().interrupt = true;
  faults().max_transfer = 5;
  ASSERT_EQ(write("x"), FV_FILE_OK) << error_.text;
  expect_complete();
}

TEST_F(WriteFaults, AWriteOfNothingThatFollowsAnInterruptionIsStillAnError) {
  faults().interrupt = true;  // leaves EINTR in errno
  arm(Call::kWrite, 0, 1, 0);
  EXPECT_EQ(write("x"), FV_FILE_NOT_WRITTEN);
}

TEST_F(WriteFaults, DescriptorZeroIsADescriptor) {
  ClosedInput closed;
  ASSERT_EQ(write("x"), FV_FILE_OK) << error_.text;
  expect_complete();
}

TEST_F(WriteFaults, AnInterruptedCloseHasClosed) {
  arm(Call::kClose, 0, 1, EINTR);
  ASSERT_EQ(write("x"), FV_FILE_OK) << error_.text;
  expect_complete();
}

TEST_F(WriteFaults, ASizeSignalOfTheCallersOwnStaysPending) {
  sigset_t size_exceeded, before, pending;
  sigemptyset(&size_exceeded);
  sigaddset(&size_exceeded, SIGXFSZ);
  sigprocmask(SIG_BLOCK, &size_exceeded, &before);
  raise(SIGXFSZ);
  arm(Call::kWrite, 0, 1, ENOSPC);
  EXPECT_EQ(write("x"), FV_FILE_NOT_WRITTEN);
  sigpending(&pending);
  EXPECT_EQ(sigismember(&pending, SIGXFSZ), 1);
  timespec at_once{};
  EXPECT_EQ(sigtimedwait(&size_exceeded, nullptr, &at_once), SIGXFSZ);
  sigprocmask(SIG_SETMASK, &before, nullptr);
}

TEST_F(WriteFaults, AnErrorNumberWithoutWordsIsStillAnError) {
  arm(Call::kWrite, 0, 1, 9999);
  EXPECT_EQ(write("x"), FV_FILE_NOT_WRITTEN);
  EXPECT_NE(std::string(error_.text).find("writing failed (unknown error)"), std::string::npos);
}

TEST_F(WriteFaults, TheCallersSignalMaskComesBackAfterAFailure) {
  sigset_t before, after;
  sigprocmask(SIG_SETMASK, nullptr, &before);
  arm(Call::kWrite, 0, 1, ENOSPC);
  EXPECT_EQ(write("x"), FV_FILE_NOT_WRITTEN);
  sigprocmask(SIG_SETMASK, nullptr, &after);
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGXFSZ}) {
    EXPECT_EQ(sigismember(&after, signal), sigismember(&before, signal)) << signal;
  }
}

}  // namespace
