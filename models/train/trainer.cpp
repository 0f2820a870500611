#include "models/train/trainer.h"

#include <chrono>
#include <cmath>
#include <exception>
#include <optional>
#include <sstream>

#include "conf/base/hash.h"
#include "models/autocast.h"
#include "models/bundle.h"
#include "models/train/prefetch.h"
#include "models/weights/checkpoint.h"
#include "models/weights/safetensors.h"

namespace cardionode::train {
namespace {

struct Slot {
    std::string name;
    torch::Tensor parameter, first, second, average;
    torch::Tensor start{};  // of FedProx, else undefined
};

constexpr const char* kManifest = "manifest.yaml";

/// The file behind init.weights: itself, or the weights of a bundle's folder.
Result<std::filesystem::path> weights_file(const std::filesystem::path& path) {
    std::error_code no_matter;
    if (!std::filesystem::exists(path / kManifest, no_matter)) return path;
    Result<Bundle> bundle = load_bundle(path);
    if (!bundle) return std::move(bundle).error();
    return bundle->weights_file();
}

std::string joined(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
}

/// What of a recipe decides the weights up to a step. The end of the run and the fall of the rate may be changed later.
std::string fingerprint(const Recipe& r) {
    std::string text = std::to_string(r.seed) + " batch " + std::to_string(r.batch) + " " + r.architecture.type + " " +
                       r.architecture.patch_merging;
    for (const std::int64_t f : r.architecture.features) text += " " + std::to_string(f);
    for (const int s : r.window) text += " w" + std::to_string(s);
    if (r.placement != "chest") text += " " + r.placement;
    if (r.precision != "float32") text += " " + r.precision;
    for (const HeadRecipe& h : r.heads) text += " " + h.name + ":" + std::to_string(h.classes);
    if (!r.data.studies.empty()) {
        const AugmentRecipe& a = r.augment;
        std::ostringstream data;
        data << " data";
        for (const double value :
             {r.data.share, r.data.holdout, static_cast<double>(r.data.split_seed), r.data.rare_share, a.rotate,
              a.rotate_degrees, a.scale, a.scale_most, a.blur, a.blur_voxels, a.low_resolution, a.low_resolution_most,
              a.gamma, a.gamma_most, a.noise, a.noise_most, a.contrast, a.contrast_width})
            data << " " << value;
        text += data.str();
    }
    return text;
}

}  // namespace

struct Trainer::State {
    Recipe recipe;
    torch::Device device = torch::kCPU;
    std::shared_ptr<Network> network;
    std::vector<Slot> slots;
    std::int64_t step = 0;
    double proximal = 0;
    std::string fingerprint, start_note;
    std::optional<std::string> samples;  ///< identity of what this run was trained on

    NetworkOptions options() const {
        NetworkOptions o;
        o.architecture = recipe.architecture;
        o.input_channels = recipe.input.channels;
        for (const HeadRecipe& h : recipe.heads) o.heads.push_back({h.name, h.classes + 1});
        return o;
    }

    /// Weights to start from, and which parameters learn.
    Result<void> start() {
        if (!recipe.init_weights.empty()) {
            Result<std::filesystem::path> file = weights_file(recipe.init_weights);
            if (!file) return std::move(file).error().in("init.weights");
            Result<NamedTensors> stored = read_weights(*file);
            if (!stored) return std::move(stored).error().in("init.weights");
            Result<LoadedHeads> heads = load_body(*network, *stored);
            if (!heads) return std::move(heads).error().in("init.weights: " + file->string());
            Result<std::string> hash = sha256_of_file(*file);
            if (!hash) return std::move(hash).error().in("init.weights");
            fingerprint += " init " + *hash;
            start_note = "starts from " + file->string() + ": body";
            if (!heads->loaded.empty()) start_note += " and heads " + joined(heads->loaded);
            if (!heads->fresh.empty()) start_note += "; fresh: " + joined(heads->fresh);
            if (!heads->left_out.empty()) start_note += "; left out: " + joined(heads->left_out);
        }
        std::vector<std::string> learning;
        for (const HeadRecipe& h : recipe.heads) {
            if (recipe.learns(h.name)) learning.push_back(h.name);
        }
        if (learning.size() < recipe.heads.size() || recipe.freeze_backbone) {
            fingerprint += std::string(recipe.freeze_backbone ? " frozen body," : "") + " learning " + joined(learning);
            start_note += std::string(start_note.empty() ? "" : "; ") +
                          (recipe.freeze_backbone ? "body frozen; " : "") + "learning: " + joined(learning);
        }
        for (auto& entry : network->named_parameters()) {
            const std::string head = head_of_parameter(entry.key());
            if (head.empty() ? recipe.freeze_backbone : !recipe.learns(head)) entry.value().requires_grad_(false);
        }
        return {};
    }

    StepReport train_step(std::vector<Sample> samples) {
        std::vector<torch::Tensor> images;
        struct Labelled {
            std::vector<torch::Tensor> targets, counts;
            std::vector<std::int64_t> rows;  // of the batch
        };
        std::map<std::string, Labelled> labelled;
        for (Sample& s : samples) {
            for (auto& [head, target] : s.targets) {
                if (!recipe.learns(head)) continue;
                const auto counted = s.counts.find(head);
                labelled[head].targets.push_back(target);
                labelled[head].counts.push_back(counted == s.counts.end() ? torch::Tensor() : counted->second);
                labelled[head].rows.push_back(static_cast<std::int64_t>(images.size()));
            }
            images.push_back(s.image);
        }
        std::map<std::string, torch::Tensor> batch_targets, batch_counts;
        for (const HeadRecipe& h : recipe.heads) {
            const auto part = labelled.find(h.name);
            if (part == labelled.end()) continue;
            batch_targets[h.name] = stack_targets(part->second.targets, h.classes + 1).to(device);
            const torch::Tensor counts = stack_counts(part->second.counts, batch_targets[h.name]);
            if (counts.defined()) batch_counts[h.name] = counts.to(device);
        }
        std::map<std::string, HeadLossOptions> head_options;
        for (const HeadRecipe& h : recipe.heads) head_options[h.name] = {h.weight, h.foreground_weight_at(step)};
        StepReport report;
        network->train();
        network->zero_grad();
        // Deep supervision teaches the body; a frozen one learns nothing from it.
        const std::int64_t levels =
            recipe.freeze_backbone
                ? 1
                : std::min<std::int64_t>(network->max_levels(), static_cast<std::int64_t>(recipe.level_weights.size()));
        auto outputs = [&] {
            const AutocastScope mixed(device, recipe.precision == "bfloat16" ? torch::kBFloat16 : torch::kFloat);
            return network->forward(torch::stack(images).to(device), levels);
        }();
        for (HeadLogits& head : outputs) {
            const auto found = labelled.find(head.head);
            const bool some = found != labelled.end() && found->second.rows.size() < images.size();
            for (torch::Tensor& logits : head.levels) {
                // Windows without this head's label take no part in its loss.
                if (some) logits = logits.index_select(0, torch::tensor(found->second.rows).to(device));
                logits = logits.to(torch::kFloat);
            }
        }
        const torch::Tensor loss = multi_head_loss(outputs, batch_targets, head_options, recipe.level_weights,
                                                   &report.head_loss, batch_counts);
        report.loss = loss.item<double>();
        if (!std::isfinite(report.loss)) {
            std::vector<std::string> origins;
            for (const Sample& s : samples) origins.push_back(s.origin);
            throw std::runtime_error("the loss is not finite (windows of " + joined(origins) + ")");
        }
        if (loss.requires_grad()) loss.backward();
        report.gradient_norm = apply_gradients(learning_rate_at(recipe, step));
        report.learning_rate = learning_rate_at(recipe, step);
        report.step = ++step;
        return report;
    }

    double apply_gradients(double rate) {
        torch::NoGradGuard no_grad;
        double square = 0;
        for (const Slot& s : slots) {
            if (s.start.defined() && s.parameter.grad().defined())
                s.parameter.grad().add_(s.parameter - s.start, proximal);
            if (s.parameter.grad().defined()) square += s.parameter.grad().pow(2).sum().item<double>();
        }
        const double norm = std::sqrt(square);
        if (!std::isfinite(norm)) throw std::runtime_error("the gradient is not finite");
        const double clip = recipe.clip_norm > 0 && norm > recipe.clip_norm ? recipe.clip_norm / norm : 1;
        constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;
        const double correct1 = 1 - std::pow(kBeta1, static_cast<double>(step + 1));
        const double correct2 = 1 - std::pow(kBeta2, static_cast<double>(step + 1));
        // The average forgets the random start quickly.
        const double keep =
            std::min(recipe.ema_decay, (1.0 + static_cast<double>(step)) / (10.0 + static_cast<double>(step)));
        for (Slot& s : slots) {
            torch::Tensor gradient = s.parameter.grad();
            if (gradient.defined()) {
                if (clip != 1) gradient = gradient * clip;
                s.parameter.mul_(1 - rate * recipe.weight_decay);
                s.first.mul_(kBeta1).add_(gradient, 1 - kBeta1);
                s.second.mul_(kBeta2).addcmul_(gradient, gradient, 1 - kBeta2);
                s.parameter.addcdiv_(s.first, (s.second / correct2).sqrt_().add_(kEps), -rate / correct1);
            }
            if (s.average.defined()) s.average.lerp_(s.parameter, 1 - keep);  // leaves an equal value as it is
        }
        return norm;
    }
};

Trainer::Trainer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Trainer::Trainer(Trainer&&) noexcept = default;
Trainer& Trainer::operator=(Trainer&&) noexcept = default;
Trainer::~Trainer() = default;

Result<Trainer> Trainer::create(const Recipe& recipe, torch::Device device) {
    try {
        auto state = std::make_unique<State>();
        state->recipe = recipe;
        state->device = device;
        state->fingerprint = fingerprint(recipe);
        torch::manual_seed(recipe.seed);
        Result<std::shared_ptr<Network>> network = make_network(state->options());
        if (!network) return std::move(network).error();
        state->network = *std::move(network);
        if (Result<void> started = state->start(); !started) return std::move(started).error();
        state->network->to(device);
        for (const auto& entry : state->network->named_parameters()) {
            const torch::Tensor& p = entry.value();
            // What does not learn has no moments, and its average is itself: an average would round.
            const bool learns = p.requires_grad();
            state->slots.push_back({entry.key(), p, learns ? torch::zeros_like(p).detach() : torch::Tensor(),
                                    learns ? torch::zeros_like(p).detach() : torch::Tensor(),
                                    learns && recipe.ema_decay > 0 ? p.detach().clone() : torch::Tensor()});
        }
        return Trainer(std::move(state));
    } catch (const std::exception& e) {
        return config_error(std::string("building the network: ") + e.what());
    }
}

void Trainer::stay_near_start(double mu) {
    State& s = *state_;
    if (s.step != 0 || s.proximal != 0) throw std::logic_error("stay_near_start: the training has begun");
    if (mu == 0) return;
    s.proximal = mu;
    std::ostringstream text;
    text << " proximal " << mu;
    s.fingerprint += text.str();
    for (Slot& slot : s.slots) {
        if (slot.parameter.requires_grad()) slot.start = slot.parameter.detach().clone();
    }
}

Result<void> Trainer::run(const SampleSource& samples, const OnStep& on_step, std::int64_t until) {
    State& s = *state_;
    const std::int64_t end = until >= 0 ? std::min(until, s.recipe.steps) : s.recipe.steps;
    if (s.step >= end) return {};
    const std::string identity = samples.identity();
    if (s.samples && *s.samples != identity) {
        return config_error("the studies or their labels are not those that this run began with; " +
                            std::string("start anew, or put the old ones back"));
    }
    s.samples = identity;
    try {
        const auto batch = static_cast<std::uint64_t>(s.recipe.batch);
        Prefetch prefetch(samples, static_cast<std::uint64_t>(s.step) * batch, static_cast<std::uint64_t>(end) * batch);
        while (s.step < end) {
            const auto started = std::chrono::steady_clock::now();
            std::vector<Sample> windows;
            for (std::uint64_t i = 0; i < batch; ++i) windows.push_back(prefetch.next());
            StepReport report = s.train_step(std::move(windows));
            report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
            if (on_step && !on_step(report)) break;
        }
        return {};
    } catch (const BadSample& e) {
        return reject_error("training step " + std::to_string(s.step + 1) + ": " + e.what());
    } catch (const std::exception& e) {
        return bug_error("training step " + std::to_string(s.step + 1) + ": " + e.what());
    }
}

std::int64_t Trainer::step() const { return state_->step; }
const std::string& Trainer::start_note() const { return state_->start_note; }
Network& Trainer::network() { return *state_->network; }

Result<std::shared_ptr<Network>> Trainer::averaged() const {
    try {
        Result<std::shared_ptr<Network>> copy = make_network(state_->options());
        if (!copy) return copy;
        torch::NoGradGuard no_grad;
        auto parameters = (*copy)->named_parameters();
        for (const Slot& s : state_->slots) parameters[s.name].copy_(s.average.defined() ? s.average : s.parameter);
        return copy;
    } catch (const std::exception& e) {
        return bug_error(std::string("copying the averaged weights: ") + e.what());
    }
}

Result<void> Trainer::save_checkpoint(const std::filesystem::path& file) const {
    NamedTensors tensors;
    for (const Slot& s : state_->slots) {
        tensors["weight." + s.name] = s.parameter.detach();
        if (s.first.defined()) tensors["first." + s.name] = s.first;
        if (s.second.defined()) tensors["second." + s.name] = s.second;
        if (s.average.defined()) tensors["average." + s.name] = s.average;
    }
    std::map<std::string, std::string> about = {{"step", std::to_string(state_->step)},
                                                {"recipe", state_->fingerprint}};
    if (state_->samples && !state_->samples->empty()) about["samples"] = *state_->samples;
    return write_safetensors(file, tensors, about);
}

Result<void> Trainer::load_checkpoint(const std::filesystem::path& file) {
    Result<Safetensors> read = read_safetensors(file);
    if (!read) return std::move(read).error().in("resuming");
    const auto recipe = read->metadata.find("recipe"), step = read->metadata.find("step");
    if (recipe == read->metadata.end() || step == read->metadata.end() || step->second.empty() ||
        step->second.find_first_not_of("0123456789") != std::string::npos || step->second.size() > 12) {
        return config_error(file.string() + " is not a checkpoint of this trainer");
    }
    if (recipe->second != state_->fingerprint)
        return config_error(file.string() + " belongs to another recipe: " + recipe->second);
    // First look, then copy: a checkpoint that does not fit changes nothing.
    std::vector<std::pair<torch::Tensor, torch::Tensor>> copies;
    for (Slot& s : state_->slots) {
        const std::pair<const char*, torch::Tensor> parts[] = {
            {"weight.", s.parameter}, {"first.", s.first}, {"second.", s.second}, {"average.", s.average}};
        for (const auto& [prefix, target] : parts) {
            if (!target.defined()) continue;
            const auto found = read->tensors.find(prefix + s.name);
            if (found == read->tensors.end() || found->second.sizes() != target.sizes())
                return config_error(file.string() + ": " + prefix + s.name + " is missing or of another shape");
            copies.emplace_back(target, found->second);
        }
    }
    try {
        torch::NoGradGuard no_grad;
        for (auto& [target, source] : copies) target.copy_(source);
    } catch (const std::exception& e) {
        return bug_error(std::string("copying a checkpoint: ") + e.what());
    }
    state_->step = std::stoll(step->second);
    const auto samples = read->metadata.find("samples");
    if (samples != read->metadata.end()) state_->samples = samples->second;
    return {};
}

}  // namespace cardionode::train
