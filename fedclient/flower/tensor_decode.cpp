#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "fedclient/flower/npy.h"
#include "fedclient/flower/tensor_objects.h"
#include "models/weights/tensor_file.h"

namespace cardionode::fed {
namespace {

constexpr std::size_t kPiece = 256 * 1024;

struct ArrayObject {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::vector<std::string> chunks;  ///< ids in order, repeated ones too
};

Error wrong_array(std::string_view what) { return reject_error(fmt::format("Array object: {}", what)); }

Result<ArrayObject> parse_array(const Object& object) {
    if (object.head.type != ObjectType::Array) return wrong_array("has another type");
    const nlohmann::json body = nlohmann::json::parse(object.body, nullptr, false);
    if (!body.is_object() || !body.contains("dtype") || !body["dtype"].is_string() || !body.contains("shape") ||
        !body["shape"].is_array() || !body.contains("arraychunk_ids") || !body["arraychunk_ids"].is_array())
        return wrong_array("dtype, shape or arraychunk_ids is missing");
    if (!body.contains("stype") || body["stype"] != "numpy.ndarray") return wrong_array("stype is not numpy.ndarray");
    ArrayObject array;
    array.dtype = body["dtype"].get<std::string>();
    for (const auto& size : body["shape"]) {
        if (!size.is_number_integer()) return wrong_array("the shape has an axis that is no length");
        array.shape.push_back(size.get<std::int64_t>());
    }
    std::vector<bool> used(object.head.children.size());
    for (const auto& index : body["arraychunk_ids"]) {
        if (!index.is_number_unsigned() || index.get<std::uint64_t>() >= used.size())
            return wrong_array("a chunk that is no child");
        used[index.get<std::size_t>()] = true;
        array.chunks.push_back(object.head.children[index.get<std::size_t>()]);
    }
    if (std::find(used.begin(), used.end(), false) != used.end()) return wrong_array("a child that is no chunk of it");
    return array;
}

std::size_t value_bytes_of(const std::string& dtype) {
    if (dtype == "float32") return 4;
    if (dtype == "float64") return 8;
    if (dtype == "float16") return 2;
    return 0;
}

/// The .npy stream of an array out of its chunks.
class NpyStream {
public:
    NpyStream(const ObjectStore& store, std::vector<std::string> chunks) : store_(&store), chunks_(std::move(chunks)) {}

    /// Fills the target as far as there are bytes; returns how many.
    Result<std::size_t> read(std::span<std::byte> target) {
        std::size_t got = 0;
        while (got < target.size()) {
            if (left_ == 0) {
                if (next_ == chunks_.size()) break;
                auto head = store_->head_of(chunks_[next_++]);
                if (!head) return std::move(head).error();
                if (head->type != ObjectType::ArrayChunk || !head->children.empty())
                    return reject_error("a chunk of an array that is no ArrayChunk");
                offset_ = head->head_bytes;
                left_ = head->body_bytes;
                continue;
            }
            const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(left_, target.size() - got));
            if (auto read = store_->read(chunks_[next_ - 1], offset_, target.subspan(got, n)); !read)
                return std::move(read).error();
            got += n;
            offset_ += n;
            left_ -= n;
        }
        return got;
    }

private:
    const ObjectStore* store_;
    std::vector<std::string> chunks_;
    std::size_t next_ = 0;
    std::uint64_t offset_ = 0, left_ = 0;
};

/// IEEE 754 binary16.
float float_of_half(std::uint16_t half) {
    const bool negative = (half & 0x8000U) != 0;
    const int exponent = half >> 10 & 0x1F;
    const int fraction = half & 0x3FF;
    float value = 0;
    if (exponent == 31)
        value = fraction == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
    else if (exponent == 0) value = std::ldexp(static_cast<float>(fraction), -24);
    else value = std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
    return negative ? -value : value;
}

template <class Wide, class Convert>
void convert(std::span<const std::byte> from, std::vector<float>& to, Convert to_float) {
    to.resize(from.size() / sizeof(Wide));
    for (std::size_t i = 0; i < to.size(); ++i) {
        Wide value;
        std::memcpy(&value, from.data() + i * sizeof(Wide), sizeof(Wide));
        to[i] = to_float(value);
    }
}

/// A tensor on its way from chunks into the file.
struct Tensor {
    std::string name;
    ArrayObject array;
    NpyHead head;
};

Result<Tensor> open_tensor(const ObjectStore& store, const std::string& name, const std::string& id) {
    const auto object = store.load(id);
    if (!object) return object.error();
    auto array = parse_array(*object);
    if (!array) return std::move(array).error();
    std::string bytes(kLongestNpyHead, '\0');
    auto got = NpyStream(store, array->chunks).read(std::as_writable_bytes(std::span(bytes)));
    if (!got) return std::move(got).error();
    auto head = parse_npy_head(std::string_view(bytes).substr(0, *got));
    if (!head) return std::move(head).error();
    if (head->value_bytes != value_bytes_of(array->dtype) || head->shape != array->shape)
        return wrong_array(fmt::format("it says {} ({}), its values another type or shape", array->dtype,
                                       fmt::join(array->shape, ", ")));
    return Tensor{name, std::move(array).value(), std::move(head).value()};
}

Result<void> copy_values(const ObjectStore& store, const Tensor& tensor, TensorFileWriter& writer) {
    NpyStream stream(store, tensor.array.chunks);
    std::vector<std::byte> piece(std::max<std::size_t>(kPiece, tensor.head.bytes));
    if (auto head = stream.read(std::span(piece).first(tensor.head.bytes)); !head) return std::move(head).error();
    std::uint64_t left = tensor.head.values() * tensor.head.value_bytes;
    std::vector<float> floats;
    while (left > 0) {
        const auto part = std::span(piece).first(static_cast<std::size_t>(std::min<std::uint64_t>(kPiece, left)));
        auto got = stream.read(part);
        if (!got) return std::move(got).error();
        if (*got < part.size()) return wrong_array("fewer values than its shape has");
        left -= part.size();
        Result<void> written;
        if (tensor.head.value_bytes == 4) {
            written = writer.append(std::span<const std::byte>(part));
        } else {
            if (tensor.head.value_bytes == 8)
                convert<double>(part, floats, [](double v) { return static_cast<float>(v); });
            else convert<std::uint16_t>(part, floats, float_of_half);
            written = writer.append(std::span<const float>(floats));
        }
        if (!written) return written;
    }
    std::byte one{};
    auto more = stream.read(std::span(&one, 1));
    if (!more) return std::move(more).error();
    if (*more != 0) return wrong_array("more values than its shape has");
    return {};
}

}  // namespace

static_assert(std::endian::native == std::endian::little, ".npy streams here are little-endian");

Result<void> decode_tensors(const ObjectStore& store, const std::string& record_id, const std::filesystem::path& out) {
    const auto record = store.load(record_id);
    if (!record) return record.error();
    if (record->head.type != ObjectType::ArrayRecord) return reject_error("weights that are no ArrayRecord");
    const auto arrays = parse_name_object(*record);
    if (!arrays) return arrays.error();
    std::vector<Tensor> tensors;
    std::vector<TensorEntry> entries;
    for (const auto& [name, id] : *arrays) {
        auto tensor = open_tensor(store, name, id);
        if (!tensor) return std::move(tensor).error().in(fmt::format("tensor {}", name));
        TensorEntry entry;
        entry.name = name;
        entry.shape = tensor->head.shape;
        entries.push_back(std::move(entry));
        tensors.push_back(std::move(tensor).value());
    }
    auto writer = TensorFileWriter::create(out, std::move(entries), {{"array-record-id", record_id}});
    if (!writer) return std::move(writer).error();
    for (const Tensor& tensor : tensors) {
        if (auto copied = copy_values(store, tensor, *writer); !copied)
            return std::move(copied).error().in(fmt::format("tensor {}", tensor.name));
    }
    return writer->commit();
}

}  // namespace cardionode::fed
