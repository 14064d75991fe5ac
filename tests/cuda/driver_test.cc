// driver_test.cc - opening the driver: the table against cuda.h, and why there is no CUDA.
#include "csrc/cuda/driver.h"

#include "tests/cuda/fake_gpu.h"

namespace fovea_test {
namespace {

#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)

TEST(DriverTable, ListsTheSymbolsThatTheToolkitsHeaderMeans) {
#define FV_DRIVER_CALL(name, exported, need) EXPECT_STREQ(EXPANDED(name), #exported);
#include "csrc/cuda/driver.def"
#undef FV_DRIVER_CALL
}

// Why no CUDA handle can be opened; "" if one can. The info of other handles has the same words.
std::string refusal() {
  fovea_handle *handle = nullptr;
  const fovea_status status = create(&handle);
  if (status == FOVEA_OK) {
    fovea_destroy(handle);
    return "";
  }
  EXPECT_EQ(status, FOVEA_NO_DEVICE) << fovea_error_detail();
  EXPECT_EQ(handle, nullptr);
  return fovea_error_detail();
}

std::string cuda_sentence() {
  fovea_handle *handle = nullptr;
  EXPECT_EQ(fovea_create(nullptr, &handle), FOVEA_OK);
  fovea_info info{};
  info.struct_size = sizeof info;
  EXPECT_EQ(fovea_get_info(handle, &info), FOVEA_OK);
  EXPECT_EQ(info.device, static_cast<uint32_t>(FOVEA_DEVICE_CPU));
  fovea_destroy(handle);
  return info.cuda;
}

void expect_refusal(const std::string &words) {
  const std::string text = refusal();
  EXPECT_NE(text.find(words), std::string::npos) << text;
}

TEST(Driver, SaysSoWhenThereIsNone) {
  in_fresh_process([] {
    setenv("FOVEA_CUDA_DRIVER", "/nowhere/libcuda.so.1", 1);
    expect_refusal("there is no CUDA driver: /nowhere/libcuda.so.1");
    EXPECT_NE(cuda_sentence().find("there is no CUDA driver"), std::string::npos);
  });
}

TEST(Driver, SaysSoWhenTheFileIsNoDriver) {
  in_fresh_process([] {
    setenv("FOVEA_CUDA_DRIVER", "libm.so.6", 1);
    expect_refusal("lacks cuDriverGetVersion");
  });
}

TEST(Driver, SaysSoWhenItIsTooOldAlsoWhereSymbolsAreMissing) {
  for (const char *path : {FOVEA_FAKE_DRIVER, FOVEA_FAKE_DRIVER_WITHOUT_LIBRARIES}) {
    in_fresh_process([path] {
      use_fake_driver(path)->version = 12040;
      expect_refusal("too old: it knows CUDA 12.4, and the kernels need 13.0");
      EXPECT_NE(cuda_sentence().find("too old"), std::string::npos);
    });
  }
}

TEST(Driver, NamesTheSymbolThatIsMissing) {
  in_fresh_process([] {
    use_fake_driver(FOVEA_FAKE_DRIVER_WITHOUT_LIBRARIES);
    expect_refusal("lacks cuLibraryLoadData");
  });
}

TEST(Driver, SaysSoWhenThereIsNoDevice) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fake->fail = "cuInit";
    fake->with = CUDA_ERROR_NO_DEVICE;
    expect_refusal("no CUDA device (cuInit returned 100");
  });
  in_fresh_process([] {
    use_fake_driver()->devices = 0;
    expect_refusal("there is a CUDA driver, but no CUDA device");
    EXPECT_NE(cuda_sentence().find("no CUDA device"), std::string::npos);
  });
}

TEST(Driver, NamesTheErrorWithWhichItDoesNotStart) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fake->fail = "cuInit";
    fake->with = CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    expect_refusal("cuInit returned 803");
  });
}

TEST(Driver, RefusesDevicesThatAreNotThereOrTooOld) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = nullptr;
    EXPECT_EQ(create(&handle, 2), FOVEA_NO_DEVICE);
    EXPECT_NE(std::string(fovea_error_detail()).find("no CUDA device 2"), std::string::npos);
    fake->capability = 75;
    EXPECT_EQ(create(&handle), FOVEA_NO_DEVICE);
    EXPECT_NE(std::string(fovea_error_detail()).find("Fake GPU has compute capability 7.5"),
              std::string::npos);
    EXPECT_EQ(fake->retained[0], 0);
  });
}

TEST(Driver, DescribesTheDeviceItOpened) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = nullptr;
    ASSERT_EQ(create(&handle, 1), FOVEA_OK) << fovea_error_detail();
    fovea_info info{};
    info.struct_size = sizeof info;
    ASSERT_EQ(fovea_get_info(handle, &info), FOVEA_OK);
    EXPECT_EQ(info.device, static_cast<uint32_t>(FOVEA_DEVICE_CUDA));
    EXPECT_EQ(info.ordinal, 1);
    EXPECT_EQ(info.threads, 132);
    EXPECT_STREQ(info.isa, "sm_90");
    EXPECT_STREQ(info.name, "Fake GPU");
    EXPECT_NE(std::string(info.cuda).find("available"), std::string::npos);
    EXPECT_EQ(fake->retained[1], 1);
    fovea_destroy(handle);
    EXPECT_EQ(fake->retained[1], 0);
  });
}

TEST(Driver, IsNotOpenedByHandlesOfTheCpu) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = nullptr;
    ASSERT_EQ(fovea_create(nullptr, &handle), FOVEA_OK);
    fovea_destroy(handle);
    EXPECT_TRUE(fake->calls.empty());
  });
}

}  // namespace
}  // namespace fovea_test
