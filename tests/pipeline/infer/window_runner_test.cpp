// The fallback from a full GPU to the CPU, with failures made by the test.
#include "pipeline/infer/window_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cardionode {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

WindowManifest small_windows() {
    WindowManifest window;
    window.size = {8, 8, 8};
    window.overlap = 0.5;
    return window;
}

struct Fixture : ::testing::Test {
    torch::Tensor image = [] {
        torch::manual_seed(3);
        return torch::rand({1, 20, 8, 12});
    }();
    SlidingWindow windows{image, small_windows(), {1}};
    std::vector<std::string> notes;
    std::vector<Attempt> tried;

    std::vector<torch::Tensor> square(const torch::Tensor& batch) { return {batch * batch + 1}; }
    torch::Tensor expected() {
        return slide(image, small_windows(), {1}, 1, [this](const torch::Tensor& b) { return square(b); })->at(0);
    }
};

[[noreturn]] void throw_memory_full() {
    throw c10::OutOfMemoryError({__func__, __FILE__, __LINE__}, "CUDA out of memory. Tried to allocate 2.00 GiB");
}

TEST(NextAttempt, HalvesTheBatchThenTakesTheCpuThenGivesUp) {
    const auto full = ComputeFailure::MemoryFull;
    EXPECT_EQ(next_attempt({true, 4}, full), (Attempt{true, 2}));
    EXPECT_EQ(next_attempt({true, 2}, full), (Attempt{true, 1}));
    EXPECT_EQ(next_attempt({true, 1}, full), (Attempt{false, 1}));
    EXPECT_EQ(next_attempt({false, 2}, full), (Attempt{false, 1}));
    EXPECT_EQ(next_attempt({false, 1}, full), std::nullopt);
}

TEST(NextAttempt, OtherGpuTroubleGoesStraightToTheCpu) {
    EXPECT_EQ(next_attempt({true, 4}, ComputeFailure::Other), (Attempt{false, 1}));
    EXPECT_EQ(next_attempt({false, 4}, ComputeFailure::Other), std::nullopt);
}

TEST(Classify, KnowsFullMemoryInEachOfItsForms) {
    try {
        throw_memory_full();
    } catch (const std::exception& e) {
        EXPECT_EQ(classify(e), ComputeFailure::MemoryFull);
    }
    EXPECT_EQ(classify(std::bad_alloc()), ComputeFailure::MemoryFull);
    EXPECT_EQ(classify(c10::Error("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", "")), ComputeFailure::MemoryFull);
    EXPECT_EQ(classify(std::runtime_error("DefaultCPUAllocator: can't allocate memory")), ComputeFailure::MemoryFull);
    EXPECT_EQ(classify(c10::Error("CUDA error: an illegal memory access was encountered", "")), ComputeFailure::Other);
}

TEST_F(Fixture, FallsBackStepByStepAndKeepsWhatIsDone) {
    auto ended = run_windows(
        windows, {true, 4},
        [&](const torch::Tensor& batch, bool on_gpu) {
            tried.push_back({on_gpu, batch.size(0)});
            if (on_gpu && (tried.size() > 3 || batch.size(0) == 4)) throw_memory_full();
            return square(batch);
        },
        {}, notes);
    ASSERT_TRUE(ended.ok()) << ended.error().message;
    EXPECT_EQ(*ended, (Attempt{false, 1}));
    EXPECT_THAT(notes, ElementsAre("GPU memory full: batch 4 -> 2", "GPU memory full: batch 2 -> 1",
                                   "GPU memory full: GPU -> CPU"));
    EXPECT_EQ(tried[1], (Attempt{true, 2}));
    EXPECT_EQ(tried.size(), 5u + 4u) << "four windows were done on the GPU and are not computed again";
    EXPECT_LE((windows.take(0) - expected()).abs().max().item<double>(), 1e-6);
}

TEST_F(Fixture, BrokenGpuEndsOnTheCpuWithANote) {
    auto ended = run_windows(
        windows, {true, 4},
        [&](const torch::Tensor& batch, bool on_gpu) {
            if (on_gpu) throw c10::Error("CUDA error: unspecified launch failure", "stack");
            return square(batch);
        },
        {}, notes);
    ASSERT_TRUE(ended.ok()) << ended.error().message;
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_THAT(notes[0], HasSubstr("unspecified launch failure"));
    EXPECT_LE((windows.take(0) - expected()).abs().max().item<double>(), 1e-6);
}

TEST_F(Fixture, FullMemoryOnTheCpuIsWorthALaterTry) {
    auto ended = run_windows(
        windows, {false, 2}, [&](const torch::Tensor&, bool) -> std::vector<torch::Tensor> { throw std::bad_alloc(); },
        {}, notes);
    ASSERT_FALSE(ended.ok());
    EXPECT_EQ(ended.error().kind, ErrorKind::Retry);
    EXPECT_THAT(notes, ElementsAre("memory full: batch 2 -> 1"));
}

TEST_F(Fixture, OtherFailureOnTheCpuIsABug) {
    auto ended = run_windows(
        windows, {false, 1},
        [&](const torch::Tensor&, bool) -> std::vector<torch::Tensor> { throw c10::Error("shape mismatch", ""); }, {},
        notes);
    ASSERT_FALSE(ended.ok());
    EXPECT_EQ(ended.error().kind, ErrorKind::Bug);
    EXPECT_THAT(ended.error().message, HasSubstr("shape mismatch"));
}

TEST_F(Fixture, CancelStopsAfterTheRunningBatch) {
    std::vector<std::int64_t> seen;
    auto ended = run_windows(
        windows, {false, 2}, [&](const torch::Tensor& batch, bool) { return square(batch); },
        [&](std::int64_t done, std::int64_t total) {
            EXPECT_EQ(total, 8);
            seen.push_back(done);
            return done < 4;
        },
        notes);
    ASSERT_FALSE(ended.ok());
    EXPECT_EQ(ended.error().kind, ErrorKind::Retry);
    EXPECT_THAT(seen, ElementsAre(2, 4));
}

}  // namespace
}  // namespace cardionode
