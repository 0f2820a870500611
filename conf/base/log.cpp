#include "conf/base/log.h"

#include <atomic>

#include <unistd.h>

#include "conf/base/time.h"

namespace cardionode {
namespace {

std::atomic<LogLevel> threshold{LogLevel::Info};

std::string_view word(LogLevel level) {
    switch (level) {
        case LogLevel::Debug: return "debug";
        case LogLevel::Info: return "info ";
        case LogLevel::Warning: return "warn ";
        case LogLevel::Error: return "error";
    }
    return "error";
}

void append_value(std::string& line, std::string_view value) {
    bool plain = !value.empty();
    for (const char c : value)
        plain = plain && static_cast<unsigned char>(c) > 0x20 && c != '"' && c != '\\' && c != '\x7f';
    if (plain) {
        line += value;
        return;
    }
    line += '"';
    for (const char c : value) {
        const auto code = static_cast<unsigned char>(c);
        if (c == '"' || c == '\\') {
            line += '\\';
            line += c;
        } else if (c == '\n') {
            line += "\\n";
        } else if (code < 0x20 || code == 0x7f) {
            line += fmt::format("\\x{:02x}", code);
        } else {
            line += c;
        }
    }
    line += '"';
}

}  // namespace

Result<LogLevel> log_level_from(std::string_view text) {
    if (text == "debug") return LogLevel::Debug;
    if (text == "info") return LogLevel::Info;
    if (text == "warning") return LogLevel::Warning;
    if (text == "error") return LogLevel::Error;
    return config_error("expected debug, info, warning or error");
}

void set_log_level(LogLevel level) { threshold = level; }

std::string format_log_line(std::string_view moment, LogLevel level, std::string_view event,
                            std::initializer_list<LogField> fields) {
    std::string line = fmt::format("{} {} {}", moment, word(level), event);
    for (const LogField& field : fields) {
        line += ' ';
        line += field.name;
        line += '=';
        append_value(line, field.value);
    }
    return line;
}

void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
    if (level < threshold.load()) return;
    std::string line = format_log_line(to_iso8601(system_clock().now()), level, event, fields);
    line += '\n';
    // One write per line keeps lines of several processes whole. A log that cannot be written must not stop the
    // service, and there is no better place to report it.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace cardionode
