// Plain aligned text for people: tables, ages, sizes. No colours, so that it reads the same in a mail.
//
// Thread safety: values. Nothing fails.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/time.h"

namespace cardionode {

/// Rows of cells under a heading; the columns are as wide as their widest cell, the last one is not padded.
/// Cells are made harmless by printable().
class Table {
public:
    /// @param headings  one that begins with '>' is aligned to the right
    explicit Table(const std::vector<std::string>& headings);
    /// Missing cells are empty.
    void add(std::vector<std::string> cells);
    bool empty() const { return rows_.size() == 1; }
    std::string text() const;

private:
    std::vector<bool> right_;
    std::vector<std::vector<std::string>> rows_;  ///< the headings first
};

/// Without control characters: what a peer or a damaged file sent must not drive the terminal.
std::string printable(std::string_view text);

/// "45 s", "12 min", "5 h", "3 d"; what is negative (a clock that was set back) counts as none.
std::string in_words(Milliseconds duration);
/// "12 min ago"
std::string ago(Moment then, Moment now);
/// "in 12 min", or "now" when it is due
std::string due(Moment then, Moment now);
/// "2026-11-21 20:43:11 UTC"
std::string date_and_time(Moment moment);
/// "640 MiB"
std::string in_bytes(std::int64_t bytes);
/// "1 image", "2 images"
std::string counted(std::int64_t count, std::string_view singular, std::string_view plural);

}  // namespace cardionode
