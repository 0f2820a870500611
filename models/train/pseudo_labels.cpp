#include "models/train/pseudo_labels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <span>

#include "conf/base/hash.h"
#include "models/autocast.h"
#include "models/sliding_window.h"
#include "models/train/pseudo_labels_decode.h"

namespace cardionode::train {
namespace {

constexpr std::int64_t kWindowsAtOnce = 1;
constexpr std::size_t kNadirs = 3;

void hash_tensor(Sha256& hash, const torch::Tensor& tensor) {
    const torch::Tensor t = tensor.to(torch::kCPU).contiguous();
    for (const std::int64_t side : t.sizes()) hash.update(std::to_string(side) + ",");
    hash.update(std::span(static_cast<const std::byte*>(t.data_ptr()), t.nbytes()));
}

/// What torch draws inside this scope disturbs nobody outside it.
class OwnRandomNumbers {
public:
    explicit OwnRandomNumbers(std::uint64_t seed)
        : generator_(at::globalContext().defaultGenerator(at::kCPU)), before_(generator_.get_state()) {
        torch::manual_seed(seed);
    }
    ~OwnRandomNumbers() { generator_.set_state(before_); }
    OwnRandomNumbers(const OwnRandomNumbers&) = delete;
    OwnRandomNumbers& operator=(const OwnRandomNumbers&) = delete;

private:
    at::Generator generator_;
    at::Tensor before_;
};

/// Puts the network back into eval mode.
class DropoutOn {
public:
    explicit DropoutOn(Network& network, bool on) : network_(network) { network_.train(on); }
    ~DropoutOn() { network_.eval(); }
    DropoutOn(const DropoutOn&) = delete;
    DropoutOn& operator=(const DropoutOn&) = delete;

private:
    Network& network_;
};

using Probabilities = std::map<std::string, torch::Tensor>;  // by head: float32 [C, D, H, W]

/// One look at the whole study through the teacher's window.
Probabilities look_at(const Teacher& teacher, const torch::Tensor& image) {
    const torch::Device device = teacher.network->parameters().front().device();
    std::vector<std::int64_t> channels;
    for (const HeadChannels& head : teacher.network->heads()) channels.push_back(head.channels);
    const auto forward = [&](const torch::Tensor& windows) {
        const AutocastScope mixed(device, teacher.precision == "bfloat16" ? torch::kBFloat16 : torch::kFloat);
        std::vector<torch::Tensor> outputs;
        for (const HeadLogits& head : teacher.network->forward(windows.to(device))) {
            outputs.push_back(torch::softmax(head.levels[0].to(torch::kFloat), 1).to(torch::kCPU));
        }
        return outputs;
    };
    const auto blended = slide(image, teacher.window, channels, kWindowsAtOnce, forward);
    Probabilities all;
    for (std::size_t i = 0; i < channels.size(); ++i) all[teacher.network->heads()[i].name] = (*blended)[i];
    return all;
}

void add(Probabilities& sum, const Probabilities& more) {
    for (const auto& [head, p] : more) {
        torch::Tensor& s = sum[head];
        s = s.defined() ? s + p : p;
    }
}

/// The mean probabilities of a head under the looks that were asked for.
struct Looks {
    Probabilities once, mean;
};

Looks look(const Teacher& teacher, const StudyToLabel& study, const PseudoLabelOptions& options) {
    Looks looks;
    const torch::Tensor& image = study.sample.image;
    if (options.look == "dropout") {
        const OwnRandomNumbers random(std::stoull(study.hash.substr(0, 15), nullptr, 16));
        const DropoutOn dropout(*teacher.network, true);
        for (int pass = 0; pass < options.passes; ++pass) {
            Probabilities p = look_at(teacher, image);
            if (pass == 1 && torch::equal(p.begin()->second, looks.mean.begin()->second))
                throw std::invalid_argument("two passes are equal: the teacher has no dropout");
            add(looks.mean, p);
        }
        for (auto& [head, p] : looks.mean) p.div_(options.passes);
        looks.once = looks.mean;
        return looks;
    }
    looks.once = look_at(teacher, image);
    looks.mean = looks.once;
    if (options.look == "flips") {
        for (const std::int64_t axis : {1, 2, 3}) {
            Probabilities flipped = look_at(teacher, image.flip({axis}).contiguous());
            for (auto& [head, p] : flipped) p = p.flip({axis});
            add(looks.mean, flipped);
        }
        for (auto& [head, p] : looks.mean) p = p / 4;
    }
    return looks;
}

TeacherAnswer answer_of(const torch::Tensor& p, bool soft) {
    TeacherAnswer answer;
    answer.labels = p.argmax(0).to(torch::kByte);
    const torch::Tensor entropy = -(p * torch::log(p.clamp_min(1e-12))).sum(0);
    answer.uncertainty =
        (entropy / std::log(static_cast<double>(p.size(0))) * 255).round().clamp(0, 255).to(torch::kByte);
    if (soft) answer.probabilities = p.to(torch::kHalf);
    return answer;
}

TeacherAnswers ask(const Teacher& teacher, const StudyToLabel& study, const PseudoLabelOptions& options) {
    torch::NoGradGuard no_grad;
    teacher.network->eval();
    const Looks looks = look(teacher, study, options);
    TeacherAnswers answers;
    for (const PseudoHead& head : teacher.heads) {
        // Mirrored, left points would look like right ones.
        answers[head.name] = answer_of((head.points ? looks.once : looks.mean).at(head.name), options.soft);
    }
    return answers;
}

std::string key_of(const Teacher& teacher, const StudyToLabel& study, const PseudoLabelOptions& options) {
    std::string key = "answer 1; study " + study.hash + "; teacher " + teacher.hash + "; look " + options.look;
    if (options.look == "dropout") key += " " + std::to_string(options.passes);
    return key + (options.soft ? "; soft" : "; hard");
}

std::string implausible(const std::vector<DecodedPoint>& points, const PseudoHead& head,
                        const std::array<double, 3>& spacing_mm, const PseudoLabelOptions& options) {
    for (std::size_t i = 0; i < points.size(); ++i) {
        if (!points[i].found()) return "point " + std::to_string(i + 1) + " is missing";
    }
    if (!head.nadirs_first || points.size() < kNadirs) return {};
    for (std::size_t i = 0; i < kNadirs; ++i) {
        const double side = distance_mm(points[i].at, points[(i + 1) % kNadirs].at, spacing_mm);
        if (side < options.shortest_side_mm || side > options.longest_side_mm)
            return side < options.shortest_side_mm ? "a side of the nadir triangle is too short"
                                                   : "a side of the nadir triangle is too long";
    }
    return {};
}

Result<void> check(const std::vector<Teacher>& teachers, const PseudoLabelOptions& options) {
    if (options.look != "once" && options.look != "dropout" && options.look != "flips")
        return config_error("look: expected once, dropout or flips, found '" + options.look + "'");
    if (options.look == "dropout" && options.passes < 2) return config_error("passes: expected 2 or more");
    std::set<std::string> heads;
    for (const Teacher& teacher : teachers) {
        for (const PseudoHead& head : teacher.heads) {
            if (!heads.insert(head.name).second) return config_error("two teachers answer for head " + head.name);
        }
    }
    return {};
}

}  // namespace

std::vector<PseudoHead> pseudo_heads(const Recipe& recipe) {
    std::vector<PseudoHead> heads;
    for (const HeadRecipe& h : recipe.heads) {
        const bool septum = h.name == "ms", nadirs = h.name == "hps";
        heads.push_back({h.name, h.classes, septum || nadirs,
                         septum ? recipe.septum_ball_radius_mm : recipe.ball_radius_mm, nadirs});
    }
    return heads;
}

Result<Teacher> make_teacher(std::shared_ptr<Network> network, std::vector<PseudoHead> heads,
                             const WindowManifest& window, const std::string& precision) {
    for (const PseudoHead& head : heads) {
        const auto& has = network->heads();
        const auto same = [&](const HeadChannels& h) { return h.name == head.name && h.channels == head.classes + 1; };
        if (std::none_of(has.begin(), has.end(), same))
            return config_error("the teacher has no head " + head.name + " of " + std::to_string(head.classes) +
                                " classes");
    }
    try {
        Sha256 hash;
        for (const auto& entry : network->named_parameters()) {
            hash.update(entry.key() + " ");
            hash_tensor(hash, entry.value().detach());
        }
        for (const PseudoHead& head : heads) hash.update(head.name + (head.points ? " points " : " mask "));
        for (const std::int64_t side : window.size) hash.update(std::to_string(side) + " ");
        hash.update(std::to_string(window.overlap) + " " + window.blending + " " + std::to_string(window.sigma) + " " +
                    precision);
        network->eval();
        return Teacher{std::move(network), std::move(heads), window, precision, hash.hex_digest()};
    } catch (const std::exception& e) {
        return bug_error(std::string("reading a teacher's weights: ") + e.what());
    }
}

std::string study_hash(const torch::Tensor& image) {
    Sha256 hash;
    hash_tensor(hash, image);
    return hash.hex_digest();
}

std::string add_target(const TeacherAnswer& answer, const PseudoHead& head, const std::array<double, 3>& spacing_mm,
                       const PseudoLabelOptions& options, Sample& sample) {
    torch::Tensor hard = answer.labels.to(torch::kLong);
    if (head.points) {
        const std::vector<DecodedPoint> points = decode_points(answer.labels, head.classes);
        if (std::string reason = implausible(points, head, spacing_mm, options); !reason.empty()) return reason;
        hard = draw_balls(points, {hard.size(0), hard.size(1), hard.size(2)}, spacing_mm, head.radius_mm);
    }
    if (options.soft && !answer.probabilities.defined()) return "the answer holds no probabilities";
    sample.targets[head.name] = options.soft ? answer.probabilities : hard;
    if (options.leave_out_uncertain) {
        const auto limit = static_cast<std::int64_t>(std::lround(options.highest_uncertainty * 255));
        sample.counts[head.name] = answer.uncertainty.le(limit);
    }
    return {};
}

Result<PseudoLabelReport> make_pseudo_labels(const std::vector<Teacher>& teachers, const StudiesToLabel& studies,
                                             PseudoLabelCache* cache, const PseudoLabelOptions& options,
                                             const std::function<Result<void>(std::size_t, Sample)>& take) {
    if (Result<void> fit = check(teachers, options); !fit) return fit.error();
    PseudoLabelReport report;
    const std::int64_t damaged_before = cache ? cache->damaged() : 0;
    for (std::size_t i = 0; i < studies.count(); ++i) {
        Result<StudyToLabel> study = studies.study(i);
        if (!study) return std::move(study).error();
        Sample joined = study->sample;
        for (const Teacher& teacher : teachers) {
            const auto unknown = [&](const PseudoHead& h) { return study->sample.targets.count(h.name) == 0; };
            if (std::none_of(teacher.heads.begin(), teacher.heads.end(), unknown)) continue;
            try {
                const std::string key = key_of(teacher, *study, options);
                std::optional<TeacherAnswers> answers = cache ? cache->find(key) : std::nullopt;
                ++(answers ? report.from_cache : report.predicted);
                if (!answers) {
                    answers = ask(teacher, *study, options);
                    if (cache) {
                        if (Result<void> stored = cache->store(key, *answers); !stored) return stored.error();
                    }
                }
                for (const PseudoHead& head : teacher.heads) {
                    if (!unknown(head)) continue;
                    const std::string reason =
                        add_target(answers->at(head.name), head, study->spacing_mm, options, joined);
                    if (reason.empty()) ++report.labelled[head.name];
                    else report.left_out.push_back({study->hash, head.name, reason});
                }
            } catch (const std::invalid_argument& e) {
                return config_error(std::string("making pseudo-labels: ") + e.what());
            } catch (const std::exception& e) {
                return bug_error("making pseudo-labels of study " + std::to_string(i) + ": " + e.what());
            }
        }
        ++report.studies;
        if (Result<void> taken = take(i, std::move(joined)); !taken) return taken.error();
    }
    if (cache) report.damaged = cache->damaged() - damaged_before;
    return report;
}

std::string PseudoLabelReport::summary() const {
    std::string text = std::to_string(studies) + " studies; answers: " + std::to_string(predicted) + " predicted, " +
                       std::to_string(from_cache) + " from the cache";
    if (damaged > 0) text += ", " + std::to_string(damaged) + " damaged in the cache and made again";
    for (const auto& [head, count] : labelled) text += "\n  " + head + ": " + std::to_string(count) + " labelled";
    std::map<std::string, int> reasons;
    for (const LeftOut& l : left_out) ++reasons[l.head + ": " + l.reason];
    for (const auto& [reason, count] : reasons) text += "\n  left out " + std::to_string(count) + " of " + reason;
    return text;
}

}  // namespace cardionode::train
