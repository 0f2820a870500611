#include "scp/queue/study_key.h"

namespace cardionode {
namespace {

constexpr std::string_view kDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
constexpr std::size_t kLeastDigits = 3;
constexpr std::size_t kMostDigits = 12;  // 60 bits

/// Weights that differ at each place find any two swapped neighbours; 31 is prime, so a single wrong character is found
/// too, except 0 for Z.
char check_character(std::string_view digits) {
    std::size_t sum = 0;
    for (std::size_t i = 0; i < digits.size(); ++i) sum += (digits.size() - i + 1) * kDigits.find(digits[i]);
    return kDigits[sum % 31];
}

}  // namespace

std::string make_study_key(std::int64_t row) {
    std::string digits;
    for (auto rest = static_cast<std::uint64_t>(row); rest > 0; rest /= 32) digits.insert(0, 1, kDigits[rest % 32]);
    if (digits.size() < kLeastDigits) digits.insert(0, kLeastDigits - digits.size(), '0');
    return "S" + digits + check_character(digits);
}

std::optional<std::string> read_study_key(std::string_view typed) {
    std::string key;
    for (char c : typed) {
        if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        if (c == 'O') c = '0';
        if (c == 'I' || c == 'L') c = '1';
        key += c;
    }
    if (key.size() < 1 + kLeastDigits + 1 || key.size() > 1 + kMostDigits + 1 || key[0] != 'S') return std::nullopt;
    if (key.find_first_not_of(kDigits, 1) != std::string::npos) return std::nullopt;
    const std::string_view digits = std::string_view(key).substr(1, key.size() - 2);
    if (check_character(digits) != key.back()) return std::nullopt;
    return key;
}

}  // namespace cardionode
