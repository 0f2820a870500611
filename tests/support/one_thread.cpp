// Linked into test programs that compute with torch: several of them run beside each other, and threads that spin for
// a core which another test holds made a test of 2 s one of 20 s.
#include <gtest/gtest.h>

#include "models/device.h"

namespace {

class OneThread final : public ::testing::Environment {
    void SetUp() override { cardionode::set_cpu_threads(1); }
};

const ::testing::Environment* const kRegistered = ::testing::AddGlobalTestEnvironment(new OneThread);

}  // namespace
