// The log: one line an event, machine readable and readable at night.
//
//   2026-11-21T20:43:11.042Z info  instance_stored study=S7Q2 peer=CT1 bytes=528384
//
// Never log a patient's name, ID, birth date or a DICOM UID: use the study key of the queue.
// Values with spaces, quotes or control characters are quoted and escaped, so that a peer cannot forge a line.
// Thread safe, and safe in a forked child. Lines go to standard error, where systemd's journal takes them.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "conf/base/result.h"

namespace cardionode {

enum class LogLevel { Debug, Info, Warning, Error };

Result<LogLevel> log_level_from(std::string_view word);  ///< debug | info | warning | error. Config: another word.
void set_log_level(LogLevel level);

/// One `name=value` of a log line; any value that fmt can format.
struct LogField {
    std::string_view name;
    std::string value;
    template <class T>
    LogField(std::string_view n, const T& v) : name(n), value(fmt::format("{}", v)) {}
};

/// @param event  a fixed snake_case word that monitoring can search for
void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

inline void log_debug(std::string_view event, std::initializer_list<LogField> fields = {}) {
    log_event(LogLevel::Debug, event, fields);
}
inline void log_info(std::string_view event, std::initializer_list<LogField> fields = {}) {
    log_event(LogLevel::Info, event, fields);
}
inline void log_warning(std::string_view event, std::initializer_list<LogField> fields = {}) {
    log_event(LogLevel::Warning, event, fields);
}
inline void log_error(std::string_view event, std::initializer_list<LogField> fields = {}) {
    log_event(LogLevel::Error, event, fields);
}

/// The text of one line, without the line end. For tests.
std::string format_log_line(std::string_view moment, LogLevel level, std::string_view event,
                            std::initializer_list<LogField> fields);

}  // namespace cardionode
