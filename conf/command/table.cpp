#include "conf/command/table.h"

#include <algorithm>

#include <fmt/format.h>

namespace cardionode {
namespace {

/// Characters, not bytes, of UTF-8 text.
std::size_t width(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

Table::Table(const std::vector<std::string>& headings) {
    std::vector<std::string> names;
    for (const std::string& heading : headings) {
        right_.push_back(!heading.empty() && heading[0] == '>');
        names.push_back(right_.back() ? heading.substr(1) : heading);
    }
    rows_.push_back(std::move(names));
}

void Table::add(std::vector<std::string> cells) {
    cells.resize(right_.size());
    for (std::string& cell : cells) cell = printable(cell);
    rows_.push_back(std::move(cells));
}

std::string Table::text() const {
    std::vector<std::size_t> widths(right_.size(), 0);
    for (const auto& row : rows_) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
    }
    std::string out;
    for (const auto& row : rows_) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::string padding(widths[i] - width(row[i]), ' ');
            if (i > 0) line += "  ";
            line += right_[i] ? padding + row[i] : row[i] + padding;
        }
        line.erase(line.find_last_not_of(' ') + 1);
        out += line + '\n';
    }
    return out;
}

std::string printable(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        // U+0080 to U+009F are control characters too; in UTF-8 they are 0xC2 and one more byte.
        const bool c1 = byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
        if (byte == '\n' || byte == '\t') out += ' ';
        else if (byte < 0x20 || byte == 0x7F || c1) out += '?';
        else out += text[i];
        if (c1) ++i;
    }
    return out;
}

std::string in_words(Milliseconds duration) {
    using namespace std::chrono;
    const auto s = std::max<std::int64_t>(0, duration_cast<seconds>(duration).count());
    if (s < 60) return fmt::format("{} s", s);
    if (s < 3600) return fmt::format("{} min", s / 60);
    if (s < 48 * 3600) return fmt::format("{} h", s / 3600);
    return fmt::format("{} d", s / 86400);
}

std::string ago(Moment then, Moment now) { return in_words(now - then) + " ago"; }

std::string due(Moment then, Moment now) { return then <= now ? "now" : "in " + in_words(then - now); }

std::string date_and_time(Moment moment) {
    const std::string iso = to_iso8601(moment);
    return iso.substr(0, 10) + " " + iso.substr(11, 8) + " UTC";
}

std::string in_bytes(std::int64_t bytes) {
    constexpr std::string_view kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1024 && unit + 1 < std::size(kUnits)) {
        value /= 1024;
        ++unit;
    }
    return value < 10 && unit > 0 ? fmt::format("{:.1f} {}", value, kUnits[unit])
                                  : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

std::string counted(std::int64_t count, std::string_view singular, std::string_view plural) {
    return fmt::format("{} {}", count, count == 1 ? singular : plural);
}

}  // namespace cardionode
