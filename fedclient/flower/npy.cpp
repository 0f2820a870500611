#include "fedclient/flower/npy.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include <fmt/format.h>

namespace cardionode::fed {
namespace {

constexpr std::string_view kMagic("\x93NUMPY\x01\x00", 8);
constexpr std::size_t kPrefix = 10;  // magic, version, length
constexpr std::uint64_t kMostValues = 1ULL << 40;
constexpr std::size_t kMostAxes = 32;

Error wrong(std::string_view what) { return reject_error(fmt::format("npy: {}", what)); }

/// The dictionary of a head: a literal of Python with three keys.
class Literal {
public:
    explicit Literal(std::string_view text) : rest_(text) {}

    Result<NpyHead> parse() {
        if (!eat('{')) return wrong("the head is no dictionary");
        while (!eat('}')) {
            const auto key = quoted();
            if (!key || !eat(':')) return wrong("the head has no key where one is expected");
            if (auto got = value_of(*key); !got) return std::move(got).error();
            if (eat(',')) continue;
            if (!eat('}')) return wrong("the head's dictionary does not end");
            break;
        }
        skip_spaces();
        if (!rest_.empty()) return wrong("something stands after the head's dictionary");
        if (!has_descr_ || !has_order_ || !has_shape_) return wrong("descr, fortran_order or shape is missing");
        return head_;
    }

private:
    void skip_spaces() {
        while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) rest_.remove_prefix(1);
    }
    bool eat(char c) {
        skip_spaces();
        if (!rest_.starts_with(c)) return false;
        rest_.remove_prefix(1);
        return true;
    }
    bool eat(std::string_view word) {
        skip_spaces();
        if (!rest_.starts_with(word)) return false;
        rest_.remove_prefix(word.size());
        return true;
    }
    std::optional<std::string_view> quoted() {
        skip_spaces();
        if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) return std::nullopt;
        const std::size_t end = rest_.find(rest_.front(), 1);
        if (end == std::string_view::npos) return std::nullopt;
        const std::string_view text = rest_.substr(1, end - 1);
        rest_.remove_prefix(end + 1);
        return text;
    }

    Result<void> value_of(std::string_view key) {
        if (key == "descr" && !has_descr_) return descr();
        if (key == "fortran_order" && !has_order_) return order();
        if (key == "shape" && !has_shape_) return shape();
        return wrong(fmt::format("key '{}' is not known or stands twice", key.substr(0, 40)));
    }

    Result<void> descr() {
        has_descr_ = true;
        const auto type = quoted();
        if (!type) return wrong("structured types are not taken");
        if (*type == "<f4") head_.value_bytes = 4;
        else if (*type == "<f8") head_.value_bytes = 8;
        else if (*type == "<f2") head_.value_bytes = 2;
        else if (type->find('O') != std::string_view::npos) return wrong("pickled objects are never taken");
        else return wrong(fmt::format("type {}: only little-endian floats travel", type->substr(0, 20)));
        return {};
    }

    Result<void> order() {
        has_order_ = true;
        if (eat(std::string_view("False"))) return {};
        if (eat(std::string_view("True"))) return wrong("Fortran order is not taken");
        return wrong("fortran_order is neither True nor False");
    }

    Result<void> shape() {
        has_shape_ = true;
        if (!eat('(')) return wrong("the shape is no tuple");
        bool comma = true;
        while (!eat(')')) {
            skip_spaces();
            std::int64_t size = 0;
            const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), size);
            if (!comma || error != std::errc{} || size < 0 || head_.shape.size() == kMostAxes)
                return wrong("the shape has an axis that is no length");
            rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
            head_.shape.push_back(size);
            comma = eat(',');
        }
        if (head_.shape.size() == 1 && !comma) return wrong("the shape is no tuple");
        return {};
    }

    std::string_view rest_;
    NpyHead head_;
    bool has_descr_ = false, has_order_ = false, has_shape_ = false;
};

}  // namespace

Result<std::uint64_t> count_of(const std::vector<std::int64_t>& shape) {
    std::uint64_t count = 1;
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return std::uint64_t{0};
    for (const std::int64_t size : shape) {
        if (size < 0 || static_cast<std::uint64_t>(size) > kMostValues / count)
            return wrong(fmt::format("shape ({}): more values than any tensor has", fmt::join(shape, ", ")));
        count *= static_cast<std::uint64_t>(size);
    }
    return count;
}

std::uint64_t NpyHead::values() const {
    const auto count = count_of(shape);
    return count ? *count : 0;
}

std::string make_npy_head(const std::vector<std::int64_t>& shape) {
    const std::string axes =
        shape.size() == 1 ? fmt::format("({},)", shape.front()) : fmt::format("({})", fmt::join(shape, ", "));
    std::string text = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}", axes);
    const std::size_t unpadded = kPrefix + text.size() + 1;
    text.append((64 - unpadded % 64) % 64, ' ');
    text += '\n';
    std::string head(kMagic);
    head += static_cast<char>(text.size() & 0xFF);
    head += static_cast<char>(text.size() >> 8);
    return head + text;
}

Result<NpyHead> parse_npy_head(std::string_view bytes) {
    if (bytes.size() < kPrefix || !bytes.starts_with(kMagic)) return wrong("not a .npy stream of version 1.0");
    const std::size_t length =
        static_cast<unsigned char>(bytes[8]) | static_cast<std::size_t>(static_cast<unsigned char>(bytes[9])) << 8;
    if (bytes.size() < kPrefix + length) return wrong("the stream ends in its head");
    if (length == 0 || bytes[kPrefix + length - 1] != '\n') return wrong("the head does not end with a line end");
    auto head = Literal(bytes.substr(kPrefix, length)).parse();
    if (!head) return std::move(head).error();
    if (auto count = count_of(head->shape); !count) return std::move(count).error();
    head->bytes = kPrefix + length;
    return head;
}

}  // namespace cardionode::fed
