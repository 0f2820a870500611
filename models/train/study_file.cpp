#include "models/train/study_file.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <sstream>

#include "conf/base/hash.h"
#include "models/weights/safetensors.h"
#include "models/weights/zip_archive.h"

namespace cardionode::train {
namespace {

constexpr const char* kImage = "image";
constexpr std::uint64_t kHeaderLimit = 1 << 20;

std::string words(const std::array<double, 3>& values) {
    std::ostringstream out;
    out.precision(17);
    out << values[0] << " " << values[1] << " " << values[2];
    return out.str();
}

bool numbers(const std::string& text, std::array<double, 3>& values) {
    std::istringstream in(text);
    return static_cast<bool>(in >> values[0] >> values[1] >> values[2]);
}

/// Where a tensor lies in the file.
struct Place {
    std::uint64_t begin = 0;
    std::size_t element = 1;
};

}  // namespace

std::string input_words(const InputManifest& i) {
    std::ostringstream out;
    out.precision(9);
    out << "spacing " << i.spacing_mm[0] << " " << i.spacing_mm[1] << " " << i.spacing_mm[2] << " " << i.orientation
        << ", HU " << i.hu_low << " " << i.hu_high << ", mean " << i.mean << ", sd " << i.sd;
    return out.str();
}

std::string hash_of_voxels(const std::vector<float>& image) {
    return Sha256().update(std::as_bytes(std::span(image))).hex_digest();
}

Result<void> write_study(const std::filesystem::path& file, Study study, bool half) {
    const Sides& s = study.facts.size;
    const auto voxels = static_cast<std::size_t>(s[0] * s[1] * s[2]);
    bool fits = voxels > 0 && study.image.size() == voxels;
    for (const auto& [head, labels] : study.labels) fits = fits && labels.size() == voxels && head != kImage;
    if (!fits) return bug_error("a study's tensors do not fit its size");
    try {
        NamedTensors tensors;
        tensors[kImage] = torch::from_blob(study.image.data(), {s[0], s[1], s[2]}, torch::kFloat);
        if (half) tensors[kImage] = tensors[kImage].to(torch::kHalf);
        for (auto& [head, labels] : study.labels)
            tensors[head] = torch::from_blob(labels.data(), {s[0], s[1], s[2]}, torch::kByte);
        return write_safetensors(file, tensors,
                                 {{"study_hash", hash_of_voxels(study.image)},
                                  {"patient_hash", study.facts.patient_hash},
                                  {"source", study.facts.source},
                                  {"spacing_mm", words(study.facts.spacing_mm)},
                                  {"origin_lps_mm", words(study.facts.origin_lps_mm)},
                                  {"input", study.facts.input}});
    } catch (const std::exception& e) {
        return retry_error("writing a study: " + std::string(e.what()));
    }
}

struct StudyFile::State {
    std::filesystem::path path;
    WeightsFile file;
    StudyFacts facts;
    std::map<std::string, Place> places;

    /// Bytes of the window row by row; what lies beyond the study is left as it is.
    Result<void> read(const Place& place, const Sides& begin, const Sides& size, std::string& bytes) const {
        Sides low{}, high{};  // of the part inside, in the study's voxels
        for (std::size_t a = 0; a < 3; ++a) {
            low[a] = std::clamp<std::int64_t>(begin[a], 0, facts.size[a]);
            high[a] = std::clamp<std::int64_t>(begin[a] + size[a], low[a], facts.size[a]);
            if (low[a] == high[a]) return {};
        }
        const auto row = static_cast<std::uint64_t>(facts.size[2]) * place.element;
        const auto rows = static_cast<std::uint64_t>(high[1] - low[1]);
        const auto columns = static_cast<std::size_t>(high[2] - low[2]) * place.element;
        for (std::int64_t z = low[0]; z < high[0]; ++z) {
            const auto first = static_cast<std::uint64_t>(z * facts.size[1] + low[1]);
            Result<std::string> slab = file.text(rows * row, place.begin + first * row);
            if (!slab) return std::move(slab).error().in(path.string());
            for (std::uint64_t y = 0; y < rows; ++y) {
                const auto to =
                    ((z - begin[0]) * size[1] + low[1] - begin[1] + static_cast<std::int64_t>(y)) * size[2] + low[2] -
                    begin[2];
                std::memcpy(bytes.data() + static_cast<std::size_t>(to) * place.element,
                            slab->data() + y * row + static_cast<std::size_t>(low[2]) * place.element, columns);
            }
        }
        return {};
    }
};

StudyFile::StudyFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
StudyFile::StudyFile(StudyFile&&) noexcept = default;
StudyFile& StudyFile::operator=(StudyFile&&) noexcept = default;
StudyFile::~StudyFile() = default;
const StudyFacts& StudyFile::facts() const { return state_->facts; }
const std::filesystem::path& StudyFile::file() const { return state_->path; }

Result<StudyFile> StudyFile::open(const std::filesystem::path& path) {
    const auto wrong = [&](const std::string& what) { return config_error(path.string() + ": no study: " + what); };
    Result<WeightsFile> opened = WeightsFile::open(path);
    if (!opened) return std::move(opened).error().in(path.string());
    auto state = std::make_unique<State>(State{path, *std::move(opened), {}, {}});
    const WeightsFile& file = state->file;
    std::uint64_t header_bytes = 0;
    if (file.size() < 8) return wrong("too short");
    if (Result<void> r = file.read(&header_bytes, 8, 0); !r) return std::move(r).error().in(path.string());
    if (header_bytes > kHeaderLimit || header_bytes > file.size() - 8) return wrong("its header is too long");
    Result<std::string> json = file.text(header_bytes, 8);
    if (!json) return std::move(json).error().in(path.string());
    Result<SafetensorsHeader> header = parse_safetensors_header(*json, file.size() - 8 - header_bytes);
    if (!header) return std::move(header).error().in(path.string());
    StudyFacts& facts = state->facts;
    const auto text = [&](const char* key) {
        const auto found = header->metadata.find(key);
        return found == header->metadata.end() ? std::string() : found->second;
    };
    facts.study_hash = text("study_hash"), facts.patient_hash = text("patient_hash");
    facts.source = text("source"), facts.input = text("input");
    if (facts.study_hash.empty() || facts.patient_hash.empty() || facts.input.empty() ||
        !numbers(text("spacing_mm"), facts.spacing_mm) || !numbers(text("origin_lps_mm"), facts.origin_lps_mm)) {
        return wrong("study_hash, patient_hash, input, spacing_mm or origin_lps_mm is missing");
    }
    std::optional<Sides> size;
    for (const SafetensorsEntry& e : header->entries) {
        if (e.shape.size() != 3) return wrong("'" + e.name + "' is no volume");
        const Sides own = {e.shape[0], e.shape[1], e.shape[2]};
        if (size && *size != own) return wrong("'" + e.name + "' has another size than the rest");
        size = own;
        const bool image = e.name == kImage;
        if (image ? e.dtype != torch::kFloat && e.dtype != torch::kHalf : e.dtype != torch::kByte)
            return wrong("'" + e.name + "' has the wrong type");
        state->places[e.name] = {8 + header_bytes + e.begin, c10::elementSize(e.dtype)};
        if (!image) facts.heads.push_back(e.name);
    }
    if (state->places.count(kImage) == 0) return wrong("'image' is missing");
    facts.size = *size;
    if (facts.size[0] * facts.size[1] * facts.size[2] == 0) return wrong("it is empty");
    std::sort(facts.heads.begin(), facts.heads.end());
    return StudyFile(std::move(state));
}

Result<std::vector<float>> StudyFile::image(const Sides& begin, const Sides& size, float outside) const {
    const Place& place = state_->places.at(kImage);
    std::vector<float> values(static_cast<std::size_t>(size[0] * size[1] * size[2]), outside);
    std::string bytes(values.size() * place.element, '\0');
    if (place.element == sizeof(float)) {
        std::memcpy(bytes.data(), values.data(), bytes.size());
        if (Result<void> r = state_->read(place, begin, size, bytes); !r) return std::move(r).error();
        std::memcpy(values.data(), bytes.data(), bytes.size());
        return values;
    }
    // Infinity marks what was not read; no study holds it.
    const c10::Half unread = std::numeric_limits<c10::Half>::infinity();
    for (std::size_t i = 0; i < values.size(); ++i) std::memcpy(bytes.data() + 2 * i, &unread.x, 2);
    if (Result<void> r = state_->read(place, begin, size, bytes); !r) return std::move(r).error();
    for (std::size_t i = 0; i < values.size(); ++i) {
        c10::Half value;
        std::memcpy(&value.x, bytes.data() + 2 * i, 2);
        if (value.x != unread.x) values[i] = static_cast<float>(value);
    }
    return values;
}

Result<std::vector<std::uint8_t>> StudyFile::labels(const std::string& head, const Sides& begin,
                                                    const Sides& size) const {
    const auto place = state_->places.find(head);
    if (head == kImage || place == state_->places.end())
        return bug_error(file().string() + " has no label of head " + head);
    std::string bytes(static_cast<std::size_t>(size[0] * size[1] * size[2]), '\0');
    if (Result<void> r = state_->read(place->second, begin, size, bytes); !r) return std::move(r).error();
    return std::vector<std::uint8_t>(bytes.begin(), bytes.end());
}

}  // namespace cardionode::train
