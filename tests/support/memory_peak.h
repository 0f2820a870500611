// How much the resident memory of this process rose at most since a moment.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace cardionode::test {

class MemoryPeak {
public:
    MemoryPeak() {
        std::ofstream("/proc/self/clear_refs") << "5";  // resets the high-water mark
        start_ = kilobytes("VmRSS:");
    }
    double risen_megabytes() const { return static_cast<double>(kilobytes("VmHWM:") - start_) / 1024.0; }

private:
    static std::int64_t kilobytes(const std::string& key) {
        std::ifstream status("/proc/self/status");
        std::string word;
        while (status >> word) {
            std::int64_t value = 0;
            if (word == key && status >> value) return value;
        }
        return 0;
    }
    std::int64_t start_ = 0;
};

}  // namespace cardionode::test
