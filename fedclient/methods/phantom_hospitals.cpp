#include "fedclient/methods/phantom_hospitals.h"

#include <algorithm>
#include <ctime>
#include <limits>
#include <numeric>

#include "fedclient/methods/round_training.h"
#include "models/train/comparison_data.h"
#include "models/train/phantom.h"
#include "models/train/pseudo_labels.h"
#include "models/train/pseudo_labels_decode.h"
#include "models/train/random.h"
#include "models/train/teacher.h"

namespace cardionode::fed {
namespace {

constexpr std::uint64_t kStream = 0x686f73706974616cULL;  // no other run draws from it
constexpr std::uint64_t kCacheBytes = std::uint64_t{1} << 30;
enum class Use : std::uint64_t { learn = 1, test = 2 };

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Hospital {
    HospitalOptions options;
    std::vector<train::TestCase> studies, test;  ///< targets of studies: people's alone
    std::vector<train::Sample> completed;        ///< with the teachers' labels, in the order of studies; or empty
};

std::int64_t count_of(const std::vector<train::Sample>& samples, const std::string& head) {
    return std::count_if(samples.begin(), samples.end(), [&](const auto& s) { return s.targets.count(head) > 0; });
}

double mean_of(const std::vector<double>& values) {
    if (values.empty()) return 0;
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

struct PhantomHospitals::State {
    PhantomHospitalsOptions options;
    train::Recipe input;
    std::vector<Hospital> hospitals;

    std::array<double, 3> spacing() const {
        const auto& xyz = input.input.spacing_mm;
        return {xyz[2], xyz[1], xyz[0]};
    }
    train::TestCase draw(const train::PhantomAtlas& atlas, const train::PhantomSource& source, std::size_t hospital,
                         Use use, std::uint64_t seed, int number) const {
        using train::mix_bits;
        std::uint64_t own = mix_bits(kStream + static_cast<std::uint64_t>(use));
        for (const std::uint64_t part : {seed, std::uint64_t{hospital}, static_cast<std::uint64_t>(number)})
            own = mix_bits(own + part);
        const bool test = use == Use::test;
        const auto spacing_mm = static_cast<float>(input.input.spacing_mm[0]);
        const train::PhantomGrid grid =
            train::root_window(own, test ? input.window : options.study, spacing_mm,
                               static_cast<float>(test ? options.test_jitter_mm : options.root_jitter_mm));
        train::PhantomOptions look;
        look.edition = input.phantoms.edition;
        look.profile = options.hospitals[hospital].profile;
        look.ball_radius_mm = static_cast<float>(input.ball_radius_mm);
        look.septum_ball_radius_mm = static_cast<float>(input.septum_ball_radius_mm);
        look.non_contrast = 0;  // nobody could place the points, and the score needs them
        const train::Phantom phantom = train::draw_phantom(atlas, own, grid, look);
        train::TestCase drawn;
        drawn.sample = source.to_sample(phantom);
        for (const train::PhantomPoint& p : phantom.points) {
            if (!p.inside) continue;
            const train::Vec at = (p.at - grid.origin) * (1 / spacing_mm);
            drawn.points.push_back({p.head, p.name, p.value, {at.z, at.y, at.x}});
        }
        return drawn;
    }
};

PhantomHospitals::PhantomHospitals(std::unique_ptr<State> state) : state_(std::move(state)) {}
PhantomHospitals::PhantomHospitals(PhantomHospitals&&) noexcept = default;
PhantomHospitals& PhantomHospitals::operator=(PhantomHospitals&&) noexcept = default;
PhantomHospitals::~PhantomHospitals() = default;

Result<PhantomHospitals> PhantomHospitals::draw(const PhantomHospitalsOptions& options, const train::Recipe& input,
                                                const std::filesystem::path& shapes, std::uint64_t seed) {
    const auto& profiles = train::phantom_profiles();
    for (const HospitalOptions& h : options.hospitals) {
        if (std::none_of(profiles.begin(), profiles.end(), [&](const auto& p) { return h.profile == p.name; }))
            return config_error("hospital " + h.name + ": there is no scanner profile " + h.profile);
    }
    for (std::size_t axis = 0; axis < 3; ++axis) {
        if (options.study[axis] < input.window[axis])
            return config_error("the hospitals' studies are smaller than the recipe's window");
    }
    Result<train::PhantomAtlas> atlas = train::PhantomAtlas::load(shapes);
    if (!atlas) return std::move(atlas).error().in("loading the heart shape");
    try {
        auto state = std::make_unique<State>();
        state->options = options;
        state->input = input;
        const auto shared = std::make_shared<const train::PhantomAtlas>(*std::move(atlas));
        const train::PhantomSource source(shared, input);
        for (std::size_t k = 0; k < options.hospitals.size(); ++k) {
            Hospital hospital{options.hospitals[k], {}, {}, {}};
            int labelled = 0;
            for (const auto& [head, n] : hospital.options.labelled) labelled = std::max(labelled, n);
            const int all = hospital.options.trains ? labelled + hospital.options.unlabelled : 0;
            for (int i = 0; i < all; ++i) {
                train::TestCase study = state->draw(*shared, source, k, Use::learn, seed, i);
                for (auto it = study.sample.targets.begin(); it != study.sample.targets.end();) {
                    const auto n = hospital.options.labelled.find(it->first);
                    const bool kept = n != hospital.options.labelled.end() && i < n->second;
                    it = kept ? std::next(it) : study.sample.targets.erase(it);
                }
                hospital.studies.push_back(std::move(study));
            }
            for (int i = 0; i < hospital.options.test; ++i)
                hospital.test.push_back(state->draw(*shared, source, k, Use::test, seed, i));
            state->hospitals.push_back(std::move(hospital));
        }
        return PhantomHospitals(std::move(state));
    } catch (const std::exception& e) {
        return bug_error(std::string("drawing the hospitals' phantoms: ") + e.what());
    }
}

std::map<std::string, std::int64_t> PhantomHospitals::labelled(std::size_t hospital, bool with_teachers) const {
    const Hospital& h = state_->hospitals.at(hospital);
    std::map<std::string, std::int64_t> counts;
    for (const train::HeadRecipe& head : state_->input.heads) {
        std::int64_t n = with_teachers ? count_of(h.completed, head.name) : 0;
        for (const train::TestCase& s : h.studies) n += !with_teachers && s.sample.targets.count(head.name) > 0;
        counts[head.name] = n;
    }
    return counts;
}

std::int64_t PhantomHospitals::studies(std::size_t hospital) const {
    return static_cast<std::int64_t>(state_->hospitals.at(hospital).studies.size());
}

Result<void> PhantomHospitals::fresh_weights(const train::Recipe& recipe, std::uint64_t seed,
                                             const std::filesystem::path& out) {
    train::Recipe fresh = recipe;
    fresh.seed = seed;
    fresh.init_weights.clear();
    fresh.freeze_backbone = false;
    Result<train::Trainer> trainer = train::Trainer::create(fresh);
    if (!trainer) return std::move(trainer).error();
    return save_weights(trainer->network(), out);
}

Result<PhantomHospitals::Trained> PhantomHospitals::learn(const Training& training) const {
    const State& s = *state_;
    const Hospital& hospital = s.hospitals.at(training.hospital);
    const auto taught = [&](const train::Sample& sample) {  // a head that the network has
        return std::any_of(training.recipe.heads.begin(), training.recipe.heads.end(),
                           [&](const train::HeadRecipe& h) { return sample.targets.count(h.name) > 0; });
    };
    std::vector<train::Sample> people, teachers;
    for (std::size_t i = 0; i < hospital.studies.size(); ++i) {
        const train::Sample& own = hospital.studies[i].sample;
        const train::Sample& sample = training.with_teachers ? hospital.completed.at(i) : own;
        if (!taught(sample)) continue;
        (taught(own) ? people : teachers).push_back(sample);
    }
    const auto all = static_cast<double>(people.size() + teachers.size());
    if (all == 0) return reject_error("hospital " + hospital.options.name + " has nothing to learn from");
    double share = static_cast<double>(people.size()) / all;
    if (!people.empty()) share = std::max(share, s.options.labelled_share);
    try {
        const train::StudyWindows windows(std::move(people), std::move(teachers), share, training.recipe.window,
                                          training.seed, {s.options.gain, s.options.offset, s.options.noise});
        RoundTraining round;
        round.recipe = training.recipe;
        round.pulled = training.pulled;
        round.steps = training.steps;
        round.learning_rate = training.learning_rate;
        round.proximal_mu = training.proximal_mu;
        round.seed = training.seed;
        round.stop = training.stop;
        const double begun = cpu_seconds();
        Result<RoundTrained> trained = train_round(round, windows);
        if (!trained) return std::move(trained).error().in("hospital " + hospital.options.name);
        const Trained result{trained->loss, cpu_seconds() - begun};
        if (Result<void> saved = save_weights(
                *trained->network, training.trained,
                {{"loss", std::to_string(result.loss)}, {"cpu_seconds", std::to_string(result.cpu_seconds)}});
            !saved)
            return saved.error();
        return result;
    } catch (const std::invalid_argument& e) {
        return config_error("hospital " + hospital.options.name + ": " + e.what());
    }
}

namespace {

/// All studies of one hospital, as teachers are asked about them.
class HospitalStudies final : public train::StudiesToLabel {
public:
    HospitalStudies(const Hospital& hospital, const std::array<double, 3>& spacing)
        : hospital_(hospital), spacing_(spacing) {}
    std::size_t count() const override { return hospital_.studies.size(); }
    Result<train::StudyToLabel> study(std::size_t i) const override {
        const train::Sample& sample = hospital_.studies[i].sample;
        return train::StudyToLabel{train::study_hash(sample.image), sample, spacing_};
    }

private:
    const Hospital& hospital_;
    std::array<double, 3> spacing_;
};

}  // namespace

Result<std::map<std::string, std::int64_t>> PhantomHospitals::ask_teachers(
    const train::Recipe& recipe, const std::map<std::string, std::filesystem::path>& weights,
    const std::filesystem::path& cache_folder) {
    std::vector<train::Teacher> teachers;
    WindowManifest whole;
    for (std::size_t axis = 0; axis < 3; ++axis) whole.size[axis] = state_->options.study[axis];
    for (const auto& [head, file] : weights) {
        Result<train::Recipe> one = train::recipe_for_head(recipe, head);
        if (!one) return std::move(one).error();
        Result<std::shared_ptr<Network>> network = network_with(*one, file, torch::kCPU);
        if (!network) return std::move(network).error();
        Result<train::Teacher> teacher =
            train::make_teacher(*std::move(network), train::pseudo_heads(*one), whole, one->precision);
        if (!teacher) return std::move(teacher).error();
        teachers.push_back(*std::move(teacher));
    }
    Result<train::PseudoLabelCache> cache = train::PseudoLabelCache::open(cache_folder, kCacheBytes);
    if (!cache) return std::move(cache).error();
    std::map<std::string, std::int64_t> labelled;
    for (Hospital& hospital : state_->hospitals) {
        hospital.completed.assign(hospital.studies.size(), {});
        Result<train::PseudoLabelReport> report =
            train::make_pseudo_labels(teachers, HospitalStudies(hospital, state_->spacing()), &*cache, {},
                                      [&](std::size_t i, train::Sample sample) -> Result<void> {
                                          hospital.completed[i] = std::move(sample);
                                          return {};
                                      });
        if (!report) return std::move(report).error().in("hospital " + hospital.options.name);
        for (const auto& [head, n] : report->labelled) labelled[head] += n;
    }
    return labelled;
}

void PhantomHospitals::Score::add(const Score& other) {
    for (const auto& [head, values] : other.error_mm)
        error_mm[head].insert(error_mm[head].end(), values.begin(), values.end());
    for (const auto& [head, n] : other.present) present[head] += n;
    for (const auto& [head, n] : other.found) found[head] += n;
    for (const auto& [head, values] : other.dice) dice[head].insert(dice[head].end(), values.begin(), values.end());
    for (const auto& [head, voxels] : other.overlap) {
        for (std::size_t i = 0; i < voxels.size(); ++i) overlap[head][i] += voxels[i];
    }
}

double PhantomHospitals::Score::mean_mm(const std::string& head) const {
    const auto values = error_mm.find(head);
    return values == error_mm.end() ? 0 : mean_of(values->second);
}

double PhantomHospitals::Score::pooled_dice(const std::string& head) const {
    const auto voxels = overlap.find(head);
    if (voxels == overlap.end()) return 0;
    const auto& [both, predicted, truth] = voxels->second;
    return predicted + truth > 0 ? 2 * both / (predicted + truth) : 1;
}

Result<PhantomHospitals::Score> PhantomHospitals::score(const std::vector<Asked>& networks,
                                                        std::size_t hospital) const {
    const State& s = *state_;
    std::vector<train::Answerer> answerers;
    for (const Asked& asked : networks) {
        Result<std::shared_ptr<Network>> network = network_with(asked.recipe, asked.weights, torch::kCPU);
        if (!network) return std::move(network).error();
        std::vector<train::PseudoHead> heads = train::pseudo_heads(asked.recipe);
        std::erase_if(heads, [&](const train::PseudoHead& h) {
            return std::find(asked.heads.begin(), asked.heads.end(), h.name) == asked.heads.end();
        });
        answerers.push_back({*std::move(network), std::move(heads)});
    }
    try {
        Score all;
        for (const train::TestCase& one : s.hospitals.at(hospital).test) {
            const train::ArmScore scored = train::score(answerers, {one}, s.spacing(), s.options.missed_mm);
            Score part;
            for (const train::TestCase::Point& p : one.points) {
                const auto errors = scored.errors_mm.find(p.name);
                if (errors == scored.errors_mm.end()) continue;
                part.error_mm[p.head].push_back(errors->second.at(0));
                ++part.present[p.head];
                part.found[p.head] += scored.found.at(p.name);
            }
            for (const auto& [head, voxels] : scored.overlap) {
                part.overlap[head] = voxels;
                if (voxels[2] > 0) part.dice[head].push_back(scored.dice(head));
            }
            all.add(part);
        }
        return all;
    } catch (const std::exception& e) {
        return bug_error("scoring at hospital " + s.hospitals.at(hospital).options.name + ": " + e.what());
    }
}

PhantomHospitals::Score PhantomHospitals::score_of_mean_place(std::size_t hospital) const {
    const State& s = *state_;
    const auto from_middle = [](const train::TestCase& one, const train::TestCase::Point& p) {
        std::array<double, 3> at{};
        for (std::size_t a = 0; a < 3; ++a)
            at[a] = p.at[a] - 0.5 * static_cast<double>(one.sample.image.size(static_cast<std::int64_t>(a) + 1) - 1);
        return at;
    };
    std::map<std::string, std::array<double, 3>> sum;
    std::map<std::string, double> n;
    for (const Hospital& h : s.hospitals) {
        for (const train::TestCase& study : h.studies) {
            for (const auto& p : study.points) {
                const auto at = from_middle(study, p);
                for (std::size_t a = 0; a < 3; ++a) sum[p.name][a] += at[a];
                ++n[p.name];
            }
        }
    }
    Score score;
    for (const train::TestCase& one : s.hospitals.at(hospital).test) {
        for (const auto& p : one.points) {
            std::array<double, 3> mean{};
            for (std::size_t a = 0; a < 3 && n[p.name] > 0; ++a) mean[a] = sum[p.name][a] / n[p.name];
            const double error = train::distance_mm(from_middle(one, p), mean, s.spacing());
            score.error_mm[p.head].push_back(std::min(s.options.missed_mm, error));
            ++score.present[p.head];
            ++score.found[p.head];
        }
    }
    return score;
}

}  // namespace cardionode::fed
