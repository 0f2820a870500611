#include "models/train/losses.h"

namespace cardionode::train {

torch::Tensor dice_ce(const torch::Tensor& logits, const torch::Tensor& target, const torch::Tensor& weights) {
    namespace F = torch::nn::functional;
    auto ce_options = F::CrossEntropyFuncOptions();
    if (weights.defined()) ce_options.weight(weights);
    const torch::Tensor cross_entropy = F::cross_entropy(logits, target, ce_options);
    const std::int64_t classes = logits.size(1);
    const torch::Tensor p = torch::softmax(logits, 1);
    // Per class: 2 TP + FP + FN = sum p + sum t. The target's one-hot form is never held whole.
    std::vector<torch::Tensor> scores;
    for (std::int64_t c = 1; c < classes; ++c) {
        const torch::Tensor here = p.select(1, c), is = target.eq(c).to(here.dtype());
        scores.push_back((2 * (here * is).sum() + 1) / (here.sum() + is.sum() + 1));
    }
    return cross_entropy - torch::stack(scores).mean();
}

torch::Tensor multi_head_loss(const std::vector<HeadLogits>& outputs,
                              const std::map<std::string, torch::Tensor>& targets,
                              const std::map<std::string, HeadLossOptions>& options,
                              const std::vector<double>& level_weights, std::map<std::string, double>* per_head) {
    torch::Tensor total;
    for (const HeadLogits& head : outputs) {
        const auto target = targets.find(head.head);
        if (target == targets.end()) continue;
        const auto found = options.find(head.head);
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
            if (level > 0) {
                const std::vector<std::int64_t> size = {logits.size(2), logits.size(3), logits.size(4)};
                t = torch::nn::functional::interpolate(
                        t.unsqueeze(1).to(torch::kFloat),
                        torch::nn::functional::InterpolateFuncOptions().size(size).mode(torch::kNearest))
                        .squeeze(1)
                        .to(torch::kLong);
            }
            const torch::Tensor loss = level_weights[level] * dice_ce(logits, t, weights);
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
