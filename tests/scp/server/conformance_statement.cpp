#include "tests/scp/server/conformance_statement.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace cardionode::test {
namespace {

std::string trimmed(std::string text) {
    std::erase(text, '`');
    text.erase(0, std::min(text.find_first_not_of(' '), text.size()));
    while (!text.empty() && text.back() == ' ') text.pop_back();
    return text;
}

Row cells_of(const std::string& line, char separator) {
    Row cells;
    std::istringstream parts(line);
    for (std::string cell; std::getline(parts, cell, separator);) cells.push_back(trimmed(cell));
    return cells;
}

/// Type and value of each item from `begin` on. Throws std::out_of_range: one is cut off.
std::vector<std::pair<int, std::string>> items_in(const std::string& bytes, std::size_t begin) {
    std::vector<std::pair<int, std::string>> items;
    while (begin < bytes.size()) {
        const std::size_t size = number_at(bytes, begin + 2, 2);
        if (begin + 4 + size > bytes.size()) throw std::out_of_range("an item goes past its end");
        items.emplace_back(static_cast<int>(number_at(bytes, begin, 1)), bytes.substr(begin + 4, size));
        begin += 4 + size;
    }
    return items;
}

void add(std::map<std::string, std::string>& pairs, const std::string& key, const std::string& value) {
    if (!pairs.emplace(key, value).second) throw std::runtime_error(key + " stands twice in scp/CONFORMANCE.md");
}

}  // namespace

std::string text_of_file(const std::string& path) {
    std::ifstream in(std::string(CARDIONODE_SOURCE_DIR) + "/" + path);
    if (!in) throw std::runtime_error("cannot read " + path);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

Table table(const std::string& name) {
    std::istringstream lines(text_of_file("scp/CONFORMANCE.md"));
    Table rows;
    bool here = false;
    for (std::string line; std::getline(lines, line);) {
        if (!here) here = line == "**Table " + name + "**";
        else if (line.starts_with("|")) rows.push_back(cells_of(line.substr(1), '|'));
        else if (!rows.empty()) break;
    }
    if (rows.size() < 3) throw std::runtime_error("scp/CONFORMANCE.md has no table \"" + name + "\"");
    const Row head = rows[0];
    rows.erase(rows.begin(), rows.begin() + 2);
    for (const Row& row : rows)
        if (row.size() != head.size()) throw std::runtime_error("a row of \"" + name + "\" is cut off: " + row.at(0));
    const auto half = static_cast<std::ptrdiff_t>(head.size() / 2);
    if (head.size() % 2 != 0 || !std::equal(head.begin(), head.begin() + half, head.begin() + half)) return rows;
    Table narrow;
    for (const Row& row : rows) narrow.emplace_back(row.begin(), row.begin() + half);
    for (const Row& row : rows)
        if (!row[static_cast<std::size_t>(half)].empty()) narrow.emplace_back(row.begin() + half, row.end());
    return narrow;
}

std::map<std::string, std::string> pairs_of(const std::string& name) {
    std::map<std::string, std::string> pairs;
    for (const Row& row : table(name)) add(pairs, row.at(0), row.at(1));
    return pairs;
}

std::map<std::string, std::string> pairs_of_codes(const std::string& name) {
    std::map<std::string, std::string> pairs;
    for (const Row& row : table(name))
        for (const std::string& code : cells_of(row.at(0), ',')) add(pairs, code, row.at(1));
    return pairs;
}

std::vector<std::string> column(const Table& rows, std::size_t at) {
    std::vector<std::string> values;
    for (const Row& row : rows) values.push_back(row.at(at));
    return values;
}

std::size_t number_at(const std::string& bytes, std::size_t at, std::size_t width) {
    std::size_t value = 0;
    for (std::size_t i = 0; i < width; ++i) value = value << 8 | static_cast<unsigned char>(bytes.at(at + i));
    return value;
}

std::string AssociatePdu::user_item(int type) const {
    for (const auto& [found, value] : user_items)
        if (found == type) return value;
    return {};
}

AssociatePdu read_associate(const std::string& pdu) {
    constexpr std::size_t kHeader = 6, kFixed = 68;  // PS3.8 9.3.2
    AssociatePdu read;
    if (pdu.size() < 10) return read;
    read.type = pdu[0];
    if (read.type == 3) read.rejection = {pdu[7], pdu[8], pdu[9]};
    if (read.type != 1 && read.type != 2) return read;
    for (const auto& [type, value] : items_in(pdu, kHeader + kFixed)) {
        if (type == 0x50) read.user_items = items_in(value, 0);
        if (type != 0x20 && type != 0x21) continue;
        ContextOfPdu& context = read.contexts[static_cast<int>(number_at(value, 0, 1))];
        context.result = value.at(2);
        for (const auto& [inner, uid] : items_in(value, 4)) {
            if (inner == 0x30) context.abstract_syntax = uid;
            if (inner == 0x40) context.transfer_syntaxes.push_back(uid);
        }
    }
    return read;
}

}  // namespace cardionode::test
