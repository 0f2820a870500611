// Tests and tables of a simulation, from its results.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "fedclient/simulate/simulation.h"
#include "models/train/statistics.h"

namespace cardionode::fed {
namespace {

using nlohmann::json;

std::string number(double value, int digits) {
    char text[40];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

/// The value below which a share of the values lies, by linear interpolation. NaN: no values.
double quantile(std::vector<double> values, double share) {
    if (values.empty()) return std::nan("");
    std::sort(values.begin(), values.end());
    const double at = share * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(low + 1, values.size() - 1);
    return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

const char* title_of(const std::string& arm) {
    static const std::map<std::string, const char*> titles = {
        {"unet-teachers", "UNet teachers, one a label type, federated"},
        {"unet-local", "UNet, each hospital alone"},
        {"unet-fed", "UNet, federated, weights per head"},
        {"unet-fedavg", "UNet, federated, one weight a hospital"},
        {"unet-kd", "UNet student, federated + KD"},
        {"swin-local", "SwinUNETR, each hospital alone"},
        {"swin-fed", "SwinUNETR, federated, weights per head"},
        {"swin-fedavg", "SwinUNETR, federated, one weight a hospital"},
        {"swin-kd", "SwinUNETR student, federated + KD"},
        {"blind", "no network: the points' mean place"}};
    const auto found = titles.find(arm);
    return found == titles.end() ? "" : found->second;
}

/// A gain for each seed in favour of `arm`; none where a seed lacks a value.
json paired(const json& seeds, const std::string& arm, const std::string& against, const std::string& measure,
            const std::string& question, bool primary) {
    const bool lower_is_better = measure.ends_with("_mm");
    std::vector<double> gains;
    for (const json& seed : seeds) {
        const json& arms = seed.at("arms");
        if (!arms.contains(arm) || !arms.contains(against)) return nullptr;
        if (!arms[arm].contains(measure) || !arms[against].contains(measure)) return nullptr;
        const double a = arms[arm][measure], b = arms[against][measure];
        gains.push_back(lower_is_better ? b - a : a - b);
    }
    if (gains.empty() || gains.size() > 20) return nullptr;
    const train::SignFlip test = train::sign_flip_test(gains);
    return {{"question", question},         {"arm", arm},
            {"against", against},           {"measure", measure},
            {"primary", primary},           {"gains", test.differences},
            {"mean_gain", test.mean},       {"p_one_sided", test.one_sided},
            {"p_two_sided", test.two_sided}};
}

/// Holm's step-down over the primary tests.
void add_holm(json& tests) {
    std::vector<std::size_t> primary;
    for (std::size_t i = 0; i < tests.size(); ++i) {
        if (tests[i]["primary"].get<bool>()) primary.push_back(i);
    }
    std::sort(primary.begin(), primary.end(), [&](std::size_t a, std::size_t b) {
        return tests[a]["p_one_sided"].get<double>() < tests[b]["p_one_sided"].get<double>();
    });
    double floor = 0;
    for (std::size_t rank = 0; rank < primary.size(); ++rank) {
        const double p = tests[primary[rank]]["p_one_sided"];
        floor = std::max(floor, std::min(1.0, p * static_cast<double>(primary.size() - rank)));
        tests[primary[rank]]["p_holm"] = floor;
    }
}

std::string quartiles(const std::vector<double>& values, int digits) {
    if (values.empty()) return "-";
    return number(quantile(values, 0.5), digits) + " [" + number(quantile(values, 0.25), digits) + "-" +
           number(quantile(values, 0.75), digits) + "]";
}

/// Rows of one head: an arm each.
std::string head_table(const json& results, const std::string& head, bool points) {
    const json& seeds = results["seeds"];
    const int digits = points ? 2 : 3;
    const std::string unit = points ? "mm" : "Dice", suffix = points ? "_mm" : "_dice";
    const std::string within = "hits, % within " + number(results["hit_mm"], 0) + " mm";
    std::string text = "\n**" + head + "**\n\n| arm | hospitals that train: median [Q1-Q3] " + unit +
                       " | held out: median [Q1-Q3] " + unit +
                       " | held out: " + (points ? within : "Dice of all voxels") + " (each seed) |" +
                       (points ? " held out: mean mm (each seed) | found |" : "") + "\n|---|---|---|---|" +
                       (points ? "---|---|" : "") + "\n";
    std::vector<std::string> arms = simulated_arms(results);
    if (points) arms.push_back("blind");
    for (const std::string& arm : arms) {
        std::vector<double> train, other;
        std::string each, each_hit;
        double sum = 0, found = 0, hits = 0;
        for (const json& seed : seeds) {
            const json& a = arm == "blind" ? seed["blind"] : seed["arms"][arm];
            const auto collect = [&](const char* scope, std::vector<double>& into) {
                const json cases = a.value("cases", json::object()).value(scope, json::object());
                if (!cases.contains(head)) return;
                for (const double v : cases[head]) into.push_back(v);
            };
            collect("train", train);
            collect("other", other);
            const double value = a.value("other_" + head + suffix, 0.0);
            sum += value;
            found += a.value("other_" + head + "_found", 0.0);
            const double hit = 100 * a.value("other_" + head + "_hit", 0.0);
            hits += hit;
            each_hit += (each_hit.empty() ? "" : ", ") + number(hit, 0);
            each += (each.empty() ? "" : ", ") + number(value, digits);
        }
        const auto n = static_cast<double>(seeds.size());
        const std::string mean = number(sum / n, digits);
        text += "| " + std::string(title_of(arm)) + " | " + quartiles(train, digits) + " | " +
                quartiles(other, digits) + " | ";
        if (points) {
            text += "**" + number(hits / n, 0) + "** (" + each_hit + ") | " + mean + " (" + each + ") | " +
                    number(100 * found / n, 0) + " % |\n";
        } else {
            text += "**" + mean + "** (" + each + ") |\n";
        }
    }
    return text;
}

std::string cost_table(const json& results) {
    const auto n = static_cast<double>(results["seeds"].size());
    std::string text =
        "\n**Cost of a seed**\n\n| arm | rounds | steps of all hospitals | down, MB | up, MB | CPU s | s if the "
        "hospitals work side by side |\n|---|---|---|---|---|---|---|\n";
    for (const std::string& arm : simulated_arms(results)) {
        double sums[6] = {};
        const char* keys[6] = {"rounds", "steps", "bytes_down", "bytes_up", "cpu_seconds", "slowest_seconds"};
        for (const json& seed : results["seeds"]) {
            const json& account = seed["arms"][arm]["account"];
            for (int i = 0; i < 6; ++i) sums[i] += account[keys[i]].get<double>() / n;
        }
        const bool local = arm.ends_with("-local");
        text += "| " + std::string(title_of(arm)) + " | " + number(sums[0], 0) + " | " + number(sums[1], 0) + " | " +
                (local ? "0" : number(sums[2] / 1e6, 0)) + " | " + (local ? "0" : number(sums[3] / 1e6, 0)) + " | " +
                number(sums[4], 0) + " | " + (local ? "-" : number(sums[5], 0)) + " |\n";
    }
    return text +
           "\nBytes are those of the weights' files; what HTTP and TLS add is not counted. A student's bytes down "
           "hold the teachers, sent to each hospital once; the teachers' own rounds are their row. An arm's first "
           "round may have been computed by another arm that shares it; its time is counted in both.\n";
}

std::string test_table(const json& results) {
    std::string text =
        "\n**Paired tests**\n\n| question | arms | measure | mean gain (each seed) | p one-sided | p two-sided | p "
        "Holm "
        "|\n|---|---|---|---|---|---|---|\n";
    for (const json& test : results["tests"]) {
        const std::string measure = test["measure"];
        const int digits = measure.ends_with("_mm") ? 2 : 3;
        std::string each;
        for (const double gain : test["gains"]) each += (each.empty() ? "" : ", ") + number(gain, digits);
        text += "| " + test["question"].get<std::string>() + (test["primary"].get<bool>() ? ", **primary**" : "") +
                " | " + test["arm"].get<std::string>() + " against " + test["against"].get<std::string>() + " | " +
                measure + " | **" + number(test["mean_gain"], digits) + "** (" + each + ") | " +
                number(test["p_one_sided"], 4) + " | " + number(test["p_two_sided"], 4) + " | " +
                (test.contains("p_holm") ? number(test["p_holm"], 4) : "") + " |\n";
    }
    return text +
           "\nA gain above 0 speaks for the arm named first. Hits and Dice are shares of 1; few: the mean of those of "
           "the heads with few labels. The smallest p that " +
           std::to_string(results["seeds"].size()) + " seeds can give is " +
           number(std::pow(0.5, static_cast<double>(results["seeds"].size())), 4) + " one-sided.\n";
}

}  // namespace

json simulation_tests(const json& seeds, const std::vector<std::string>& few_label_heads) {
    json tests = json::array();
    const auto add = [&](const std::string& arm, const std::string& against, const std::string& measure,
                         const char* question, bool primary) {
        json test = paired(seeds, arm, against, measure, question, primary);
        if (!test.is_null()) tests.push_back(std::move(test));
    };
    std::vector<std::string> each = {"other_points_mm", "other_hps_hit", "other_hps_mm"}, few;
    for (const std::string& head : few_label_heads) {
        for (const char* suffix : {"_hit", "_mm", "_dice"}) few.push_back("other_" + head + suffix);
    }
    each.insert(each.end(), few.begin(), few.end());
    for (const std::string net : {"unet", "swin"}) {
        const char* question = "federated beats local on held-out hospitals";
        add(net + "-fed", net + "-local", "other_points_hit", question, net == "unet");
        for (const std::string& measure : each) add(net + "-fed", net + "-local", measure, question, false);
        question = "KD student beats the student without KD on heads with few labels";
        add(net + "-kd", net + "-fed", "other_few", question, true);
        for (const std::string& measure : few) add(net + "-kd", net + "-fed", measure, question, false);
        for (const char* measure : {"other_hps_hit", "other_hps_mm"})
            add(net + "-kd", net + "-fed", measure, "KD on the head with many labels", false);
        question = "weights per head beat one weight a hospital";
        add(net + "-fed", net + "-fedavg", "other_few", question, net == "unet");
        for (const std::string& measure : few) add(net + "-fed", net + "-fedavg", measure, question, false);
    }
    add_holm(tests);
    return tests;
}

std::string simulation_markdown(const json& results) {
    if (results["seeds"].empty()) return "No seed is done yet.\n";
    std::string text = "Phantoms are phantoms: nothing here is evidence about patients.\n";
    text += "\nMedians are over all cases of all seeds (points: every point, a miss counts " +
            number(results["missed_mm"], 0) +
            " mm; a mask: every case that has some). A hospital alone is scored for the "
            "heads that it has labels of; its mean is that of the hospitals.\n";
    for (const json& head : results["heads"]) text += head_table(results, head["name"], head["points"]);
    return text + cost_table(results) + test_table(results);
}

}  // namespace cardionode::fed
