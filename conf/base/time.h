// Clocks that tests can replace, and the one text form of a moment used in logs, queue and outputs.
#pragma once

#include <chrono>
#include <string>

namespace cardionode {

/// Moments are UTC, milliseconds since 1970-01-01T00:00:00Z.
using Moment = std::chrono::sys_time<std::chrono::milliseconds>;
using Milliseconds = std::chrono::milliseconds;

/// Where a component gets its time from. Implementations are safe to call from any thread.
class Clock {
public:
    virtual ~Clock() = default;
    virtual Moment now() const = 0;
};

/// The system's UTC clock. One object for the whole process, never destroyed.
const Clock& system_clock();

/// "2026-11-21T20:43:11.042Z"
std::string to_iso8601(Moment moment);

/// DICOM DA "20261121" and TM "204311.042000" of a moment, UTC (PS3.5 6.2).
std::string to_dicom_date(Moment moment);
std::string to_dicom_time(Moment moment);

}  // namespace cardionode
