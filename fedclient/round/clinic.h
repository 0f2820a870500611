// Whether the clinical pipeline has work, so that the night's work can stand back. Asks the queue, never changes it.
//
// The answer holds for a moment (clinic_poll_seconds), because training asks after each step. A queue that cannot be
// asked counts as idle: without the receiver no study comes. Thread safety: one object, one thread.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>

#include "conf/base/result.h"
#include "conf/base/time.h"

namespace cardionode::fed {

class ClinicWatch {
public:
    ClinicWatch(std::filesystem::path database, Milliseconds answer_holds);
    ~ClinicWatch();
    /// A study is ready or being worked on.
    bool busy();

private:
    Result<bool> ask();
    std::filesystem::path database_;
    std::chrono::steady_clock::duration holds_;
    std::chrono::steady_clock::time_point asked_{};
    bool busy_ = false, told_ = false;
    struct Connection;
    std::unique_ptr<Connection> queue_;
};

}  // namespace cardionode::fed
