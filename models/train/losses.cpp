#include "models/train/losses.h"

#include <algorithm>

namespace cardionode::train {

namespace {

namespace F = torch::nn::functional;

bool is_soft(const torch::Tensor& target) { return target.is_floating_point(); }

/// Cross entropy against probabilities, or against labels where some voxels do not count.
torch::Tensor masked_cross_entropy(const torch::Tensor& logits, const torch::Tensor& target,
                                   const torch::Tensor& weights, const torch::Tensor& counts) {
    const torch::Tensor log_p = torch::log_softmax(logits, 1);
    torch::Tensor cost, weight;  // of each voxel, [N, D, H, W]
    if (is_soft(target)) {
        torch::Tensor weighted = target.to(logits.scalar_type());
        if (weights.defined()) weighted = weighted * weights.view({1, -1, 1, 1, 1});
        cost = -(weighted * log_p).sum(1);
        weight = weighted.sum(1);
    } else {
        weight = weights.defined() ? weights.index_select(0, target.reshape({-1})).view(target.sizes())
                                   : torch::ones(target.sizes(), logits.options().requires_grad(false));
        cost = -log_p.gather(1, target.unsqueeze(1)).squeeze(1) * weight;
    }
    if (counts.defined()) {
        const torch::Tensor counted = counts.to(logits.scalar_type());
        cost = cost * counted;
        weight = weight * counted;
    }
    return cost.sum() / weight.sum().clamp_min(1e-12);
}

/// The target at the size of a coarser level.
torch::Tensor nearest(const torch::Tensor& x, const torch::Tensor& logits) {
    const std::vector<std::int64_t> size = {logits.size(2), logits.size(3), logits.size(4)};
    const auto options = F::InterpolateFuncOptions().size(size).mode(torch::kNearest);
    if (is_soft(x)) return F::interpolate(x.to(torch::kFloat), options);
    return F::interpolate(x.unsqueeze(1).to(torch::kFloat), options).squeeze(1).to(x.scalar_type());
}

}  // namespace

torch::Tensor dice_ce(const torch::Tensor& logits, const torch::Tensor& target, const torch::Tensor& weights,
                      const torch::Tensor& counts) {
    const bool plain = !is_soft(target) && !counts.defined();
    auto ce_options = F::CrossEntropyFuncOptions();
    if (weights.defined()) ce_options.weight(weights);
    const torch::Tensor cross_entropy =
        plain ? F::cross_entropy(logits, target, ce_options) : masked_cross_entropy(logits, target, weights, counts);
    const std::int64_t classes = logits.size(1);
    const torch::Tensor p = torch::softmax(logits, 1);
    const torch::Tensor counted = counts.defined() ? counts.to(p.dtype()) : torch::Tensor();
    // Per class: 2 TP + FP + FN = sum p + sum t. The target's one-hot form is never held whole.
    std::vector<torch::Tensor> scores;
    for (std::int64_t c = 1; c < classes; ++c) {
        torch::Tensor here = p.select(1, c), is = (is_soft(target) ? target.select(1, c) : target.eq(c)).to(p.dtype());
        if (counted.defined()) {
            here = here * counted;
            is = is * counted;
        }
        scores.push_back((2 * (here * is).sum() + 1) / (here.sum() + is.sum() + 1));
    }
    const torch::Tensor loss = cross_entropy - torch::stack(scores).mean();
    // Where nothing counts, the Dice of two empty sets is no merit.
    return counts.defined() ? loss * counts.any().to(loss.dtype()) : loss;
}

torch::Tensor stack_targets(const std::vector<torch::Tensor>& windows, std::int64_t channels) {
    if (std::none_of(windows.begin(), windows.end(), is_soft)) return torch::stack(windows);
    std::vector<torch::Tensor> soft;
    for (const torch::Tensor& w : windows) {
        soft.push_back(is_soft(w) ? w.to(torch::kFloat)
                                  : torch::one_hot(w, channels).permute({3, 0, 1, 2}).to(torch::kFloat));
    }
    return torch::stack(soft);
}

torch::Tensor stack_counts(const std::vector<torch::Tensor>& windows, const torch::Tensor& like) {
    const auto whole = [](const torch::Tensor& w) { return !w.defined(); };
    if (std::all_of(windows.begin(), windows.end(), whole)) return {};
    std::vector<torch::Tensor> all;
    const std::vector<std::int64_t> size = like.sizes().slice(like.dim() - 3).vec();
    for (const torch::Tensor& w : windows) all.push_back(whole(w) ? torch::ones(size, torch::kBool) : w);
    return torch::stack(all);
}

torch::Tensor multi_head_loss(const std::vector<HeadLogits>& outputs,
                              const std::map<std::string, torch::Tensor>& targets,
                              const std::map<std::string, HeadLossOptions>& options,
                              const std::vector<double>& level_weights, std::map<std::string, double>* per_head,
                              const std::map<std::string, torch::Tensor>& counts) {
    torch::Tensor total;
    for (const HeadLogits& head : outputs) {
        const auto target = targets.find(head.head);
        if (target == targets.end()) continue;
        const auto found = options.find(head.head);
        const auto masked = counts.find(head.head);
        const HeadLossOptions option = found == options.end() ? HeadLossOptions{} : found->second;
        torch::Tensor weights;
        if (option.foreground_weight != 1) {
            weights =
                torch::full({head.levels.front().size(1)}, option.foreground_weight, head.levels.front().options());
            weights[0] = 1;
        }
        torch::Tensor sum;
        for (std::size_t level = 0; level < head.levels.size() && level < level_weights.size(); ++level) {
            const torch::Tensor& logits = head.levels[level];
            torch::Tensor t = target->second;
            torch::Tensor counted = masked == counts.end() ? torch::Tensor() : masked->second;
            if (level > 0) {
                t = nearest(t, logits);
                if (counted.defined()) counted = nearest(counted, logits);
            }
            const torch::Tensor loss = level_weights[level] * dice_ce(logits, t, weights, counted);
            sum = sum.defined() ? sum + loss : loss;
        }
        if (!sum.defined()) continue;
        if (per_head) (*per_head)[head.head] = sum.item<double>();
        sum = option.weight * sum;
        total = total.defined() ? total + sum : sum;
    }
    // A batch without any label: a zero that asks no parameter for anything.
    return total.defined() ? total : torch::zeros({}, torch::kFloat);
}

}  // namespace cardionode::train
