// A wall clock that a test moves forward in real programs: hours pass in them without anybody waiting.
//
// Start the program with environment(). Its wall clock (CLOCK_REALTIME) and that of its children is then the machine's
// plus what advance() was given; steady clocks, and so every time-out, go on as usual.
// Thread safety: one object belongs to one thread. Errors: throws std::runtime_error, which fails the test.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>

#include "conf/base/time.h"
#include "tests/support/temporary_folder.h"

namespace cardionode::test {

class ShiftedClock final : public Clock {
public:
    ShiftedClock() { write(); }

    std::map<std::string, std::string> environment() const {
        return {{"LD_PRELOAD", CARDIONODE_BINARY_DIR "/libcardionode_shifted_clock.so"},
                {"CARDIONODE_TEST_CLOCK", file().string()},
                {"ASAN_OPTIONS", "verify_asan_link_order=0"}};
    }
    void advance(Milliseconds by) {
        offset_ += by;
        write();
    }
    /// What the programs see.
    Moment now() const override { return system_clock().now() + offset_; }

private:
    std::filesystem::path file() const { return folder_ / "clock"; }
    void write() {
        const std::int64_t ms = offset_.count();
        std::fstream out(file(), std::ios::in | std::ios::out | std::ios::binary);
        if (!out) out.open(file(), std::ios::out | std::ios::binary);
        out.write(reinterpret_cast<const char*>(&ms), sizeof ms);  // in place: the programs have it mapped
        if (!out.flush()) throw std::runtime_error("cannot write the clock of a test");
    }

    TemporaryFolder folder_;
    Milliseconds offset_{0};
};

}  // namespace cardionode::test
