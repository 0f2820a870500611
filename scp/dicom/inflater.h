// Inflating a deflated data set (PS3.5 A.5) in pieces, in constant memory. Part of the scan, not for others: it brings
// zlib's header with it.
//
// Thread safety: one object belongs to one thread. Errors: Reject for damaged data, Retry for no memory.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>

#include <zlib.h>

#include "conf/base/result.h"

namespace cardionode {

class Inflater {
public:
    Inflater() { ready_ = inflateInit2(&stream_, -MAX_WBITS) == Z_OK; }
    ~Inflater() {
        if (ready_) inflateEnd(&stream_);
    }
    Inflater(const Inflater&) = delete;
    Inflater& operator=(const Inflater&) = delete;

    template <class Consume>
    Result<void> feed(std::span<const std::byte> bytes, Consume&& consume) {
        if (!ready_) return retry_error("no memory to inflate the data set");
        while (!bytes.empty()) {
            if (ended_) {  // PS3.5 A.5: one pad byte makes the length even
                trailing_ += bytes.size();
                if (trailing_ > 1) return reject_error("bytes follow the deflated data set");
                return {};
            }
            stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(bytes.data()));
            stream_.avail_in = static_cast<uInt>(std::min<std::size_t>(bytes.size(), 1U << 30));
            const std::size_t offered = stream_.avail_in;
            do {
                stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
                stream_.avail_out = static_cast<uInt>(buffer_.size());
                const int code = inflate(&stream_, Z_NO_FLUSH);
                if (code == Z_MEM_ERROR) return retry_error("no memory to inflate the data set");
                if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
                    return reject_error("the deflated data set is damaged");
                const std::size_t made = buffer_.size() - stream_.avail_out;
                if (auto taken = consume(std::span<const std::byte>(buffer_).first(made)); !taken) return taken;
                ended_ = code == Z_STREAM_END;
            } while (!ended_ && stream_.avail_out == 0);
            bytes = bytes.subspan(offered - stream_.avail_in);
            if (!ended_ && stream_.avail_in != 0) return reject_error("the deflated data set is damaged");
        }
        return {};
    }
    bool ended() const { return ended_; }

private:
    z_stream stream_{};
    bool ready_ = false;
    bool ended_ = false;
    std::size_t trailing_ = 0;
    std::array<std::byte, 65536> buffer_{};
};

}  // namespace cardionode
