#include "fedclient/coordinator/poison.h"

#include <limits>
#include <span>

#include "models/weights/tensor_file.h"

namespace cardionode::fed {

Result<void> poison_weights(const std::filesystem::path& weights, Poison poison, const std::filesystem::path& out) {
    const auto file = TensorFile::open(weights);
    if (!file) return file.error();
    std::vector<TensorEntry> entries;
    for (const auto& entry : file->entries())
        if (entry.dtype == "F32") entries.push_back(entry);  // nothing else travels
    auto writer = TensorFileWriter::create(out, entries);
    if (!writer) return std::move(writer).error();
    bool first = true;
    for (const auto& entry : entries) {
        auto values = file->floats(entry);
        if (!values) return std::move(values).error();
        if (poison == Poison::Outlier)
            for (auto& value : *values) value *= 1e6F;
        else if (first && !values->empty()) values->front() = std::numeric_limits<float>::quiet_NaN(), first = false;
        if (auto written = writer->append(std::span<const float>(*values)); !written) return written;
    }
    return writer->commit();
}

}  // namespace cardionode::fed
