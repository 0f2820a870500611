#include "models/train/pseudo_labels_cache.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "conf/base/files.h"
#include "conf/base/hash.h"
#include "models/weights/safetensors.h"

namespace cardionode::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSuffix = ".safetensors";
const std::string kKey = "key";

/// The answers of a file; none if something is missing or does not fit.
std::optional<TeacherAnswers> answers_of(const Safetensors& file) {
    TeacherAnswers answers;
    for (const auto& [name, tensor] : file.tensors) {
        const std::size_t dot = name.rfind('.');
        if (dot == std::string::npos) return std::nullopt;
        TeacherAnswer& answer = answers[name.substr(0, dot)];
        const std::string part = name.substr(dot + 1);
        if (part == "labels") answer.labels = tensor;
        else if (part == "uncertainty") answer.uncertainty = tensor;
        else if (part == "probabilities") answer.probabilities = tensor;
        else return std::nullopt;
    }
    for (const auto& [head, answer] : answers) {
        const bool complete = answer.labels.defined() && answer.uncertainty.defined() && answer.labels.dim() == 3 &&
                              answer.labels.scalar_type() == torch::kByte &&
                              answer.uncertainty.scalar_type() == torch::kByte &&
                              answer.labels.sizes() == answer.uncertainty.sizes();
        if (!complete) return std::nullopt;
        if (!answer.probabilities.defined()) continue;
        if (answer.probabilities.dim() != 4 || answer.probabilities.scalar_type() != torch::kHalf ||
            answer.probabilities.sizes().slice(1) != answer.labels.sizes())
            return std::nullopt;
    }
    return answers;
}

}  // namespace

Result<PseudoLabelCache> PseudoLabelCache::open(const fs::path& folder, std::uint64_t bound_bytes) {
    if (Result<void> made = make_folder(folder); !made) return made.error();
    // What a killed process left half-written; nobody writes one file for an hour.
    std::error_code trouble;
    const auto long_ago = fs::file_time_type::clock::now() - std::chrono::hours(1);
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, trouble)) {
        std::error_code gone;
        if (entry.path().filename().string().find(".safetensors.part-") == std::string::npos) continue;
        if (entry.last_write_time(gone) < long_ago && !gone) fs::remove(entry.path(), gone);
    }
    return PseudoLabelCache(folder, bound_bytes);
}

fs::path PseudoLabelCache::file_of(const std::string& key) const { return folder_ / (sha256_hex(key) + kSuffix); }

std::optional<TeacherAnswers> PseudoLabelCache::find(const std::string& key) {
    const fs::path file = file_of(key);
    std::error_code no_matter;
    if (!fs::exists(file, no_matter)) return std::nullopt;
    const Result<Safetensors> read = read_safetensors(file);
    if (read.ok()) {
        const auto stored = read->metadata.find(kKey);
        std::optional<TeacherAnswers> answers = answers_of(*read);
        if (stored != read->metadata.end() && stored->second == key && answers) return answers;
    }
    ++damaged_;
    fs::remove(file, no_matter);  // what cannot be removed is replaced when the new answer is stored
    return std::nullopt;
}

Result<void> PseudoLabelCache::store(const std::string& key, const TeacherAnswers& answers) {
    NamedTensors tensors;
    for (const auto& [head, answer] : answers) {
        tensors[head + ".labels"] = answer.labels;
        tensors[head + ".uncertainty"] = answer.uncertainty;
        if (answer.probabilities.defined()) tensors[head + ".probabilities"] = answer.probabilities;
    }
    const fs::path file = file_of(key);
    if (Result<void> written = write_safetensors(file, tensors, {{kKey, key}}); !written) return written;
    make_room(file);
    return {};
}

void PseudoLabelCache::make_room(const fs::path& newest) const {
    struct Entry {
        fs::path file;
        fs::file_time_type written;
        std::uint64_t bytes = 0;
    };
    std::vector<Entry> entries;
    std::uint64_t total = 0;
    std::error_code trouble;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder_, trouble)) {
        if (entry.path().extension() != kSuffix) continue;
        std::error_code gone;  // another process may have removed it
        const std::uint64_t bytes = entry.file_size(gone);
        const fs::file_time_type written = entry.last_write_time(gone);
        if (gone) continue;
        total += bytes;
        entries.push_back({entry.path(), written, bytes});
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
        return a.written != b.written ? a.written < b.written : a.file < b.file;
    });
    for (const Entry& entry : entries) {
        if (total <= bound_) return;
        if (entry.file == newest) continue;
        if (fs::remove(entry.file, trouble)) total -= entry.bytes;
    }
}

}  // namespace cardionode::train
