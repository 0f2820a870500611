// The pixels of CT frames in Hounsfield units.
//
// HU = stored value * slope + intercept, each frame by its own. Stored values in the padding range (0028,0120-0121)
// become -1024 HU (air), and so does everything under -1500 HU, which no tissue and no noise reaches: writers leave
// padding undeclared, or declare it in units of before a conversion. Other values under -1024 stay.
// Uncompressed frames are read here; compressed ones go through cardionode-decode (decoder_process.h).
// Fragments to frames (PS3.5 A.4): one fragment a frame, else the basic offset table, else a new frame wherever a
// fragment starts as a codestream does; anything else is refused.
// Thread safety: one object belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "conf/base/result.h"
#include "pipeline/read/instance.h"
#include "pipeline/read/read_study.h"

namespace cardionode {

inline constexpr float kAirHu = -1024.0F;
inline constexpr float kLowestHu = -1500.0F;

class PixelReader {
public:
    explicit PixelReader(ReadLimits limits);
    PixelReader(PixelReader&&) noexcept;
    PixelReader& operator=(PixelReader&&) noexcept;
    ~PixelReader();

    /// Stored values, sign extended, rows * columns, columns fastest. Keeps the file of the last call open, so frames
    /// of one instance are best read together. @param frame  0-based Reject: damaged, cut off, or of an encoding that
    /// is not read. Retry, Config: as read_study.
    Result<std::vector<std::int32_t>> read_stored(const InstanceFacts& instance, int frame);

    /// @param hu  rows * columns. Reject besides: no slope and intercept.
    Result<void> read_hu(const InstanceFacts& instance, const FrameFacts& frame, std::span<float> hu);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cardionode
