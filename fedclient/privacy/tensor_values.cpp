#include "fedclient/privacy/tensor_values.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "models/weights/head_of_tensor.h"

namespace cardionode::fed {
namespace {

/// IEEE 754 binary16.
double half_value(std::uint16_t bits) {
    const int exponent = bits >> 10 & 0x1f;
    const int fraction = bits & 0x3ff;
    double value = 0;
    if (exponent == 0x1f) value = fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
    else if (exponent == 0) value = std::ldexp(fraction, -24);
    else value = std::ldexp(fraction + 0x400, exponent - 25);
    return (bits & 0x8000) != 0 ? -value : value;
}

template <class T, class Convert>
void convert(const std::vector<std::byte>& bytes, std::vector<double>& values, Convert to_double) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        T raw;
        std::memcpy(&raw, bytes.data() + i * sizeof(T), sizeof(T));
        values[i] = to_double(raw);
    }
}

Result<void> read_piece(const TensorFile& file, const TensorEntry& entry, std::uint64_t first,
                        std::vector<std::byte>& bytes, std::vector<double>& values) {
    const std::uint64_t width = entry.bytes / entry.elements();
    bytes.resize(values.size() * width);
    if (auto read = file.read(entry, first * width, bytes); !read) return read;
    if (entry.dtype == "F32") convert<float>(bytes, values, [](float v) { return static_cast<double>(v); });
    else if (entry.dtype == "F64") convert<double>(bytes, values, [](double v) { return v; });
    else if (entry.dtype == "F16") convert<std::uint16_t>(bytes, values, half_value);
    else
        convert<std::uint16_t>(bytes, values, [](std::uint16_t bits) {
            return static_cast<double>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
        });
    return {};
}

}  // namespace

Result<void> walk_values(const std::vector<const TensorFile*>& files, const std::vector<const TensorEntry*>& entries,
                         const std::function<Result<void>(const std::vector<std::vector<double>>&)>& use) {
    const std::uint64_t elements = entries.front()->elements();
    std::vector<std::byte> bytes;
    std::vector<std::vector<double>> values(files.size());
    for (std::uint64_t first = 0; first < elements; first += kValuesAtOnce) {
        for (std::size_t i = 0; i < files.size(); ++i) {
            if (!entries[i]->floating() || entries[i]->elements() != elements) {
                return bug_error("tensor '" + entries[i]->name + "' cannot be compared value by value");
            }
            values[i].resize(std::min<std::uint64_t>(kValuesAtOnce, elements - first));
            if (auto read = read_piece(*files[i], *entries[i], first, bytes, values[i]); !read) return read;
        }
        if (auto used = use(values); !used) return used;
    }
    return {};
}

std::string group_of(const std::string& tensor) {
    std::string head = head_of_tensor(tensor);
    return head.empty() ? "body" : head;
}

}  // namespace cardionode::fed
