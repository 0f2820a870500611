// Text for XML and HTML. Thread safety: pure function.
#pragma once

#include <string>
#include <string_view>

namespace cardionode {

/// The text with & < > " as entities and control characters as spaces, for element content and for attributes in double
/// quotes. UTF-8 stays as it is.
inline std::string escaped_markup(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            default: out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
        }
    }
    return out;
}

}  // namespace cardionode
