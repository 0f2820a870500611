#include "models/train/study_source.h"

#include <algorithm>
#include <span>

#include "conf/base/hash.h"
#include "models/train/random.h"
#include "models/train/study_augment.h"

namespace cardionode::train {
namespace {

constexpr double kRareMl = 20;
constexpr std::size_t kPlaces = 256;  // remembered of a rare class
constexpr std::uint64_t kChoice = 21, kWindow = 22, kMix = 23, kSeeds = 0x73747564696573ULL;
constexpr const char* kPoints = "hps";

/// A rare class of one study and places inside it.
struct Rare {
    std::vector<Sides> places;
};

struct Entry {
    StudyFile file;
    std::vector<std::string> heads;  ///< of the recipe, labelled
    std::vector<Rare> rare;
    std::array<double, 3> root{};  ///< mean of the points' centres, voxels; with placement root only
    std::string label_hash;
};

Sides sides_of(const std::array<int, 3>& window) { return {window[0], window[1], window[2]}; }

/// What a label map says; the map itself is not kept.
struct Seen {
    std::array<std::vector<Sides>, 256> places;
    std::array<std::int64_t, 256> count{};
    std::array<std::array<double, 3>, 256> sum{};
};

Seen look_at(const std::vector<std::uint8_t>& labels, const Sides& size) {
    Seen seen;
    std::size_t at = 0;
    for (std::int64_t z = 0; z < size[0]; ++z) {
        for (std::int64_t y = 0; y < size[1]; ++y) {
            for (std::int64_t x = 0; x < size[2]; ++x, ++at) {
                const std::uint8_t value = labels[at];
                if (value == 0) continue;
                // A reservoir: every voxel at first, then ever fewer, so that the places stay spread over the
                // structure.
                auto& places = seen.places[value];
                const std::int64_t n = seen.count[value]++;
                const Sides here = {z, y, x};
                const std::uint64_t slot = mix_bits(static_cast<std::uint64_t>(n)) % static_cast<std::uint64_t>(n + 1);
                if (places.size() < kPlaces) places.push_back(here);
                else if (slot < kPlaces) places[slot] = here;
                for (std::size_t a = 0; a < 3; ++a) seen.sum[value][a] += static_cast<double>(here[a]);
            }
        }
    }
    return seen;
}

/// Reads a study's label maps and remembers what the choice of windows needs. False: of no use for these windows.
Result<bool> prepare(Entry& entry, const Recipe& recipe) {
    const StudyFacts& facts = entry.file.facts();
    const double voxel_ml = facts.spacing_mm[0] * facts.spacing_mm[1] * facts.spacing_mm[2] / 1000;
    Sha256 hash;
    bool has_root = false;
    for (const HeadRecipe& head : recipe.heads) {
        if (std::find(facts.heads.begin(), facts.heads.end(), head.name) == facts.heads.end()) continue;
        Result<std::vector<std::uint8_t>> labels = entry.file.labels(head.name, {}, facts.size);
        if (!labels) return std::move(labels).error();
        hash.update(head.name).update(std::as_bytes(std::span(*labels)));
        const Seen seen = look_at(*labels, facts.size);
        int points = 0;
        std::array<double, 3> middle{};
        for (std::size_t value = 1; value < 256; ++value) {
            const auto count = static_cast<double>(seen.count[value]);
            if (count == 0) continue;
            if (static_cast<int>(value) > head.classes) {
                return config_error(entry.file.file().string() + ": head " + head.name + " holds label " +
                                    std::to_string(value) + ", the recipe has " + std::to_string(head.classes) +
                                    " classes");
            }
            if (count * voxel_ml < kRareMl) entry.rare.push_back({seen.places[value]});
            ++points;
            for (std::size_t a = 0; a < 3; ++a) middle[a] += seen.sum[value][a] / count;
        }
        if (head.name == kPoints && points > 0) {
            has_root = true;
            for (std::size_t a = 0; a < 3; ++a) entry.root[a] = middle[a] / points;
        }
        entry.heads.push_back(head.name);
    }
    entry.label_hash = hash.hex_digest();
    return recipe.placement != "root" || has_root;
}

}  // namespace

bool is_held_out(const std::string& patient_hash, double share, std::int64_t split_seed) {
    const std::string hash = sha256_hex("split " + std::to_string(split_seed) + " " + patient_hash);
    return static_cast<double>(std::stoull(hash.substr(0, 13), nullptr, 16)) / 0x1p52 < share;
}

struct StudySource::State {
    Recipe recipe;
    std::vector<Entry> entries;
    std::vector<std::string> remarks;
    float low = 0, high = 0;  ///< clip limits, normalised

    /// First voxel of window `seed` in a study.
    Sides window_begin(const Entry& e, std::uint64_t seed) const {
        Random random(seed, kWindow);
        const Sides& size = e.file.facts().size;
        const Sides window = sides_of(recipe.window);
        Sides begin{};
        if (recipe.placement == "root") {
            for (std::size_t a = 0; a < 3; ++a) {
                const double jitter = recipe.root_jitter_mm / e.file.facts().spacing_mm[2 - a];
                const double centre = e.root[a] + jitter * random.uniform(-1, 1);
                begin[a] = std::llround(centre - 0.5 * static_cast<double>(window[a] - 1));
            }
            return begin;
        }
        const bool rare = random.chance(static_cast<float>(recipe.data.rare_share)) && !e.rare.empty();
        Sides place{};
        if (rare) {
            const auto& places =
                e.rare[static_cast<std::size_t>(random.integer(0, static_cast<int>(e.rare.size()) - 1))].places;
            place = places[static_cast<std::size_t>(random.integer(0, static_cast<int>(places.size()) - 1))];
        }
        for (std::size_t a = 0; a < 3; ++a) {
            const auto last = static_cast<int>(std::max<std::int64_t>(0, size[a] - window[a]));
            const auto margin = static_cast<int>(window[a] / 8);
            begin[a] = rare ? place[a] - random.integer(margin, static_cast<int>(window[a]) - 1 - margin)
                            : random.integer(0, last);
            begin[a] = std::clamp<std::int64_t>(begin[a], 0, last);
            if (size[a] < window[a]) begin[a] = -((window[a] - size[a]) / 2);  // as in inference: in the middle
        }
        return begin;
    }
};

StudySource::StudySource(std::unique_ptr<State> state) : state_(std::move(state)) {}
StudySource::StudySource(StudySource&&) noexcept = default;
StudySource::~StudySource() = default;
std::size_t StudySource::size() const { return state_->entries.size(); }
const StudyFile& StudySource::study(std::size_t index) const { return state_->entries.at(index).file; }
const std::vector<std::string>& StudySource::remarks() const { return state_->remarks; }

std::size_t StudySource::patients() const {
    std::set<std::string> patients;
    for (const Entry& e : state_->entries) patients.insert(e.file.facts().patient_hash);
    return patients.size();
}

std::set<std::string> StudySource::labelled_heads() const {
    std::set<std::string> heads;
    for (const Entry& e : state_->entries) heads.insert(e.heads.begin(), e.heads.end());
    return heads;
}

Sides StudySource::root_window(std::size_t index) const {
    Sides begin{};
    for (std::size_t a = 0; a < 3; ++a)
        begin[a] = std::llround(state_->entries.at(index).root[a] - 0.5 * (state_->recipe.window[a] - 1));
    return begin;
}

std::string StudySource::identity() const {
    Sha256 hash;
    for (const Entry& e : state_->entries) hash.update(e.file.facts().study_hash).update(e.label_hash);
    return " studies " + hash.hex_digest();
}

Result<StudySource> StudySource::open(const Recipe& recipe, Part part) {
    auto state = std::make_unique<State>();
    state->recipe = recipe;
    state->low = static_cast<float>((recipe.input.hu_low - recipe.input.mean) / recipe.input.sd);
    state->high = static_cast<float>((recipe.input.hu_high - recipe.input.mean) / recipe.input.sd);
    const std::filesystem::path& folder = recipe.data.studies;
    std::error_code code;
    std::vector<std::filesystem::path> files;
    for (auto it = std::filesystem::directory_iterator(folder, code);
         !code && it != std::filesystem::directory_iterator(); it.increment(code)) {
        if (it->path().extension() == ".safetensors") files.push_back(it->path());
    }
    if (code) return config_error("data.studies: " + folder.string() + ": " + code.message());
    std::sort(files.begin(), files.end());
    const std::string input = input_words(recipe.input);
    for (const std::filesystem::path& path : files) {
        Result<StudyFile> file = StudyFile::open(path);
        if (!file) return std::move(file).error().in("data.studies");
        const StudyFacts& facts = file->facts();
        if (facts.input != input) {
            return config_error(path.string() + " was prepared for another input (" + facts.input +
                                "); this recipe's: " + input + ". Run `cardionode train prepare` with this recipe");
        }
        if (is_held_out(facts.patient_hash, recipe.data.holdout, recipe.data.split_seed) != (part == Part::HeldOut))
            continue;
        Entry entry{*std::move(file), {}, {}, {}, {}};
        Result<bool> useful = prepare(entry, recipe);
        if (!useful) return std::move(useful).error();
        if (entry.heads.empty())
            state->remarks.push_back(path.string() + ": no label of this recipe's heads, left out");
        else if (!*useful) state->remarks.push_back(path.string() + ": no points to place a window by, left out");
        else state->entries.push_back(std::move(entry));
    }
    std::sort(state->entries.begin(), state->entries.end(), [](const Entry& a, const Entry& b) {
        return std::pair(a.file.facts().study_hash, a.label_hash) < std::pair(b.file.facts().study_hash, b.label_hash);
    });
    return StudySource(std::move(state));
}

Sample StudySource::sample(std::uint64_t number) const {
    const torch::NoGradGuard no_grad;
    const State& s = *state_;
    if (s.entries.empty()) throw BadSample("there is no study to take a window from");
    const std::uint64_t seed = mix_bits(mix_bits(s.recipe.seed ^ kSeeds) + number);
    const Entry& e = s.entries[Random(seed, kChoice).bits() % s.entries.size()];
    const Turn turn = draw_turn(s.recipe.augment, seed);
    const bool straight = is_identity(turn);
    const Sides window = sides_of(s.recipe.window),
                sides = straight ? window : sides_before_turn(turn, s.recipe.window);
    Sides begin = s.window_begin(e, seed);
    for (std::size_t a = 0; a < 3; ++a) begin[a] -= (sides[a] - window[a]) / 2;
    const auto tensor = [&](auto& values, torch::ScalarType type) {
        return torch::from_blob(values.data(), {sides[0], sides[1], sides[2]}, type);
    };
    Sample sample;
    sample.origin = e.file.file().string();
    Result<std::vector<float>> image = e.file.image(begin, sides, s.low);
    if (!image) throw BadSample(image.error().message);
    torch::Tensor x = tensor(*image, torch::kFloat).clone();
    if (!straight) x = turned(x, turn, s.recipe.window, false);
    x = changed(x, s.recipe.augment, seed, s.low, s.high);
    if (!torch::isfinite(x).all().item<bool>()) throw BadSample(sample.origin + ": a voxel is no number");
    sample.image = x.unsqueeze(0);
    for (const std::string& head : e.heads) {
        Result<std::vector<std::uint8_t>> labels = e.file.labels(head, begin, sides);
        if (!labels) throw BadSample(labels.error().message);
        torch::Tensor target = tensor(*labels, torch::kByte);
        if (!straight) target = turned(target.to(torch::kFloat), turn, s.recipe.window, true);
        sample.targets[head] = target.to(torch::kLong).clone();
    }
    return sample;
}

Sample MixedSource::sample(std::uint64_t number) const {
    Random random(mix_bits(seed_) + number, kMix);
    return random.chance(static_cast<float>(share_)) ? studies_.sample(number) : phantoms_.sample(number);
}

}  // namespace cardionode::train
