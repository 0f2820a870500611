// The tables of scp/CONFORMANCE.md, and what stands in association PDUs, read without the code under test.
//
// Thread safety: functions on files and values. Errors: throws, which fails the test.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace cardionode::test {

using Row = std::vector<std::string>;
using Table = std::vector<Row>;

/// A file of the project, whole.
std::string text_of_file(const std::string& path);

/// The rows of the table that stands below "**Table NAME**", without head and back quotes. Where the head repeats
/// itself, the right half goes on below the left one.
Table table(const std::string& name);
/// Its first column to its second. Throws: a key stands twice.
std::map<std::string, std::string> pairs_of(const std::string& name);
/// Likewise; a first cell "0001, 0107" stands for two rows.
std::map<std::string, std::string> pairs_of_codes(const std::string& name);
std::vector<std::string> column(const Table& rows, std::size_t at);

/// `width` bytes at `at`, the most significant first.
std::size_t number_at(const std::string& bytes, std::size_t at, std::size_t width);

struct ContextOfPdu {
    std::string abstract_syntax;  ///< of a request
    int result = -1;              ///< of an answer
    std::vector<std::string> transfer_syntaxes;
};
/// An A-ASSOCIATE-RQ, -AC or -RJ.
struct AssociatePdu {
    int type = 0;                ///< 0: nothing came
    std::vector<int> rejection;  ///< result, source, reason of an A-ASSOCIATE-RJ
    std::map<int, ContextOfPdu> contexts;
    std::vector<std::pair<int, std::string>> user_items;  ///< type and value, in order
    /// The value of a user item; empty: there is none.
    std::string user_item(int type) const;
};
AssociatePdu read_associate(const std::string& pdu);

}  // namespace cardionode::test
