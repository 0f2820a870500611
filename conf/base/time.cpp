#include "conf/base/time.h"

#include <ctime>

#include <fmt/format.h>

namespace cardionode {
namespace {

class SystemClock final : public Clock {
public:
    Moment now() const override { return std::chrono::time_point_cast<Milliseconds>(std::chrono::system_clock::now()); }
};

struct Parts {
    std::tm utc;
    int milliseconds;
};

Parts split(Moment moment) {
    const auto since_epoch = moment.time_since_epoch().count();
    std::int64_t seconds = since_epoch / 1000;
    int milliseconds = static_cast<int>(since_epoch % 1000);
    if (milliseconds < 0) {
        milliseconds += 1000;
        --seconds;
    }
    const std::time_t time = seconds;
    std::tm utc{};
    gmtime_r(&time, &utc);
    return {utc, milliseconds};
}

}  // namespace

const Clock& system_clock() {
    static const SystemClock clock;
    return clock;
}

std::string to_iso8601(Moment moment) {
    const auto [t, ms] = split(moment);
    return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
                       t.tm_hour, t.tm_min, t.tm_sec, ms);
}

std::string to_dicom_date(Moment moment) {
    const auto [t, ms] = split(moment);
    return fmt::format("{:04}{:02}{:02}", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday);
}

std::string to_dicom_time(Moment moment) {
    const auto [t, ms] = split(moment);
    return fmt::format("{:02}{:02}{:02}.{:03}000", t.tm_hour, t.tm_min, t.tm_sec, ms);
}

}  // namespace cardionode
