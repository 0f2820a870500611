#include "scp/dicom/uid.h"

#include <algorithm>
#include <array>

#include "conf/base/hash.h"

namespace cardionode {
namespace {

/// 128 bits, most significant first, as a decimal number.
std::string to_decimal(std::array<unsigned, 16> bytes) {
    std::string digits;
    bool rest = true;
    while (rest) {
        rest = false;
        unsigned remainder = 0;
        for (unsigned& byte : bytes) {
            const unsigned value = remainder * 256 + byte;
            byte = value / 10;
            remainder = value % 10;
            rest = rest || byte != 0;
        }
        digits.push_back(static_cast<char>('0' + remainder));
    }
    std::reverse(digits.begin(), digits.end());
    return digits;
}

}  // namespace

bool is_valid_uid(std::string_view uid) {
    if (uid.empty() || uid.size() > 64) return false;
    std::size_t begin = 0;
    while (true) {
        const std::size_t end = std::min(uid.find('.', begin), uid.size());
        const std::string_view component = uid.substr(begin, end - begin);
        if (component.empty() || (component.size() > 1 && component[0] == '0')) return false;
        if (!std::all_of(component.begin(), component.end(), [](char c) { return c >= '0' && c <= '9'; })) return false;
        if (end == uid.size()) return true;
        begin = end + 1;
    }
}

std::string derive_uid(std::initializer_list<std::string_view> parts) {
    Sha256 hash;
    for (const std::string_view part : parts) hash.update(std::to_string(part.size())).update(":").update(part);
    const auto digest = hash.digest();
    std::array<unsigned, 16> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = std::to_integer<unsigned>(digest[i]);
    bytes[6] = (bytes[6] & 0x0fU) | 0x80U;  // version 8
    bytes[8] = (bytes[8] & 0x3fU) | 0x80U;  // variant 10
    return "2.25." + to_decimal(bytes);
}

}  // namespace cardionode
