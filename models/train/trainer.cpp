#include "models/train/trainer.h"

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "models/autocast.h"
#include "models/weights/safetensors.h"

namespace cardionode::train {
namespace {

/// Draws the samples of coming steps on one thread of its own; ends when the object goes.
class Prefetch {
public:
    Prefetch(const SampleSource& source, std::uint64_t first, std::uint64_t end)
        : thread_([this, &source, first, end] { work(source, first, end); }) {}
    ~Prefetch() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        changed_.notify_all();
        thread_.join();
    }
    Prefetch(const Prefetch&) = delete;
    Prefetch& operator=(const Prefetch&) = delete;

    Sample next() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return !ready_.empty() || failure_; });
        if (ready_.empty()) std::rethrow_exception(failure_);
        Sample sample = std::move(ready_.front());
        ready_.pop_front();
        changed_.notify_all();
        return sample;
    }

private:
    void work(const SampleSource& source, std::uint64_t first, std::uint64_t end) {
        try {
            for (std::uint64_t n = first; n < end; ++n) {
                {
                    std::unique_lock lock(mutex_);
                    changed_.wait(lock, [&] { return stop_ || ready_.size() < 4; });
                    if (stop_) return;
                }
                Sample sample = source.sample(n);
                const std::lock_guard lock(mutex_);
                ready_.push_back(std::move(sample));
                changed_.notify_all();
            }
        } catch (...) {
            const std::lock_guard lock(mutex_);
            failure_ = std::current_exception();
            changed_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<Sample> ready_;
    std::exception_ptr failure_;
    bool stop_ = false;
    std::thread thread_;  // last: it uses the others
};

struct Slot {
    std::string name;
    torch::Tensor parameter, first, second, average;
};

/// What of a recipe decides the weights up to a step. The end of the run and the fall of the rate may be changed later.
std::string fingerprint(const Recipe& r) {
    std::string text = std::to_string(r.seed) + " batch " + std::to_string(r.batch) + " " + r.architecture.type + " " +
                       r.architecture.patch_merging;
    for (const std::int64_t f : r.architecture.features) text += " " + std::to_string(f);
    for (const int s : r.window) text += " w" + std::to_string(s);
    if (r.placement != "chest") text += " " + r.placement;
    if (r.precision != "float32") text += " " + r.precision;
    for (const HeadRecipe& h : r.heads) text += " " + h.name + ":" + std::to_string(h.classes);
    return text;
}

}  // namespace

struct Trainer::State {
    Recipe recipe;
    torch::Device device = torch::kCPU;
    std::shared_ptr<Network> network;
    std::vector<Slot> slots;
    std::int64_t step = 0;

    NetworkOptions options() const {
        NetworkOptions o;
        o.architecture = recipe.architecture;
        o.input_channels = recipe.input.channels;
        for (const HeadRecipe& h : recipe.heads) o.heads.push_back({h.name, h.classes + 1});
        return o;
    }

    StepReport train_step(std::vector<Sample> samples) {
        std::vector<torch::Tensor> images;
        std::map<std::string, std::vector<torch::Tensor>> targets;
        for (Sample& s : samples) {
            images.push_back(s.image);
            for (auto& [head, target] : s.targets) targets[head].push_back(target);
        }
        std::map<std::string, torch::Tensor> batch_targets;
        for (auto& [head, list] : targets) {
            // A head is trained on a batch only if every window of it is labelled.
            if (list.size() == images.size()) batch_targets[head] = torch::stack(list).to(device);
        }
        std::map<std::string, HeadLossOptions> head_options;
        for (const HeadRecipe& h : recipe.heads) head_options[h.name] = {h.weight, h.foreground_weight_at(step)};
        StepReport report;
        network->train();
        network->zero_grad();
        const std::int64_t levels =
            std::min<std::int64_t>(network->max_levels(), static_cast<std::int64_t>(recipe.level_weights.size()));
        auto outputs = [&] {
            const AutocastScope mixed(device, recipe.precision == "bfloat16" ? torch::kBFloat16 : torch::kFloat);
            return network->forward(torch::stack(images).to(device), levels);
        }();
        for (HeadLogits& head : outputs) {
            for (torch::Tensor& logits : head.levels) logits = logits.to(torch::kFloat);
        }
        const torch::Tensor loss =
            multi_head_loss(outputs, batch_targets, head_options, recipe.level_weights, &report.head_loss);
        report.loss = loss.item<double>();
        if (!std::isfinite(report.loss)) throw std::runtime_error("the loss is not finite");
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
            if (s.average.defined()) s.average.mul_(keep).add_(s.parameter, 1 - keep);
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
        torch::manual_seed(recipe.seed);
        Result<std::shared_ptr<Network>> network = make_network(state->options());
        if (!network) return std::move(network).error();
        state->network = *std::move(network);
        state->network->to(device);
        for (const auto& entry : state->network->named_parameters()) {
            const torch::Tensor& p = entry.value();
            state->slots.push_back({entry.key(), p, torch::zeros_like(p).detach(), torch::zeros_like(p).detach(),
                                    recipe.ema_decay > 0 ? p.detach().clone() : torch::Tensor()});
        }
        return Trainer(std::move(state));
    } catch (const std::exception& e) {
        return config_error(std::string("building the network: ") + e.what());
    }
}

Result<void> Trainer::run(const SampleSource& samples, const OnStep& on_step, std::int64_t until) {
    State& s = *state_;
    const std::int64_t end = until >= 0 ? std::min(until, s.recipe.steps) : s.recipe.steps;
    if (s.step >= end) return {};
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
    } catch (const std::exception& e) {
        return bug_error("training step " + std::to_string(s.step) + ": " + e.what());
    }
}

std::int64_t Trainer::step() const { return state_->step; }
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
        tensors["first." + s.name] = s.first;
        tensors["second." + s.name] = s.second;
        if (s.average.defined()) tensors["average." + s.name] = s.average;
    }
    return write_safetensors(file, tensors,
                             {{"step", std::to_string(state_->step)}, {"recipe", fingerprint(state_->recipe)}});
}

Result<void> Trainer::load_checkpoint(const std::filesystem::path& file) {
    Result<Safetensors> read = read_safetensors(file);
    if (!read) return std::move(read).error().in("resuming");
    const auto recipe = read->metadata.find("recipe"), step = read->metadata.find("step");
    if (recipe == read->metadata.end() || step == read->metadata.end() || step->second.empty() ||
        step->second.find_first_not_of("0123456789") != std::string::npos || step->second.size() > 12) {
        return config_error(file.string() + " is not a checkpoint of this trainer");
    }
    if (recipe->second != fingerprint(state_->recipe))
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
    return {};
}

}  // namespace cardionode::train
