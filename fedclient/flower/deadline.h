// Until when a round's work must be done so that its reply still arrives. Thread safety: pure functions. Header only.
#pragma once

#include <algorithm>
#include <optional>

#include "conf/base/time.h"
#include "fedclient/flower/record.h"
#include "fedclient/flower/transport.h"

namespace cardionode::fed {

struct RoundDeadline {
    Moment end;       ///< the reply must be at the server: min(config "deadline", created_at + ttl), own clock
    Moment work_end;  ///< training stops here: the end less the reserve for the upload
};

/// @param config       the round's ConfigRecord; "deadline": seconds since 1970 by the server's clock
/// @param reply_bytes  what will be uploaded
/// @param totals       of the transport: the measured rate of the download and the clock's skew
/// The reserve is the upload at the download's rate, twice, and at least `least`: an uplink is slower than a downlink.
inline RoundDeadline round_deadline(const Incoming& message, const Record& config, std::uint64_t reply_bytes,
                                    const TransferTotals& totals, Milliseconds least = Milliseconds(60'000)) {
    double end = message.created_at + message.ttl;
    if (const auto wished = number_of(config, "deadline"); wished && *wished > 0) end = std::min(end, *wished);
    end += totals.clock_skew_seconds;
    RoundDeadline deadline;
    deadline.end = Moment(Milliseconds(static_cast<std::int64_t>(end * 1000)));
    Milliseconds reserve = least;
    if (totals.download_bytes_per_second > 0) {
        const double seconds = 2 * static_cast<double>(reply_bytes) / totals.download_bytes_per_second;
        reserve = std::max(reserve, Milliseconds(static_cast<std::int64_t>(seconds * 1000)));
    }
    deadline.work_end = deadline.end - reserve;
    return deadline;
}

}  // namespace cardionode::fed
