#include "fedclient/privacy/ledger.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "conf/base/files.h"
#include "conf/base/hash.h"

namespace cardionode::fed {
namespace {

using nlohmann::json;

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr int kLargestOrder = 512;
constexpr const char* kFirstLine = R"({"cardionode-privacy-ledger":1})";

/// Renyi differential privacy by order; [0] and [1] are not used.
using Orders = std::array<double, kLargestOrder + 1>;

Orders rdp_of(double q, double z) {
    Orders rdp{};
    if (q >= 1) {
        for (int a = 2; a <= kLargestOrder; ++a) rdp[a] = a / (2 * z * z);
        return rdp;
    }
    // Logarithms of factorials by summing: lgamma writes a global variable.
    Orders log_factorial{};
    for (int n = 1; n <= kLargestOrder; ++n) log_factorial[n] = log_factorial[n - 1] + std::log(n);
    std::vector<double> terms;
    for (int a = 2; a <= kLargestOrder; ++a) {
        terms.clear();
        for (int k = 0; k <= a; ++k) {
            terms.push_back(log_factorial[a] - log_factorial[k] - log_factorial[a - k] + (a - k) * std::log1p(-q) +
                            k * std::log(q) + (static_cast<double>(k) * k - k) / (2 * z * z));
        }
        const double largest = *std::max_element(terms.begin(), terms.end());
        double sum = 0;
        for (const double term : terms) sum += std::exp(term - largest);
        rdp[a] = (largest + std::log(sum)) / (a - 1);
    }
    return rdp;
}

double epsilon_from(const Orders& rdp, double delta) {
    if (!(delta > 0 && delta < 1)) return kInfinite;
    double best = kInfinite;
    for (int a = 2; a <= kLargestOrder; ++a) {
        const double order = a;
        best =
            std::min(best, rdp[a] + std::log((order - 1) / order) - (std::log(delta) + std::log(order)) / (order - 1));
    }
    return std::max(best, 0.0);
}

double epsilon_of_all(const std::vector<LedgerEntry>& entries, double delta) {
    if (entries.empty()) return 0;
    Orders sum{};
    for (const LedgerEntry& entry : entries) {
        if (!(entry.noise_multiplier > 0)) return kInfinite;
        const Orders one = rdp_of(1, entry.noise_multiplier);
        for (int a = 2; a <= kLargestOrder; ++a) sum[a] += one[a];
    }
    return epsilon_from(sum, delta);
}

std::string line_of(const LedgerEntry& entry, std::string& chain) {
    json line = {{"model_id", entry.model_id},
                 {"message_id", entry.message_id},
                 {"round", entry.round},
                 {"noise_multiplier", entry.noise_multiplier},
                 {"at", entry.at},
                 {"content", entry.content}};
    // Foreign bytes in a name must not keep a night from being booked.
    constexpr auto kReplace = json::error_handler_t::replace;
    chain = sha256_hex(chain + "\n" + line.dump(-1, ' ', true, kReplace));
    line["chain"] = chain;
    return line.dump(-1, ' ', true, kReplace) + "\n";
}

Result<LedgerEntry> entry_of(const std::string& text, std::string& chain) {
    json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!line.is_object() || !line.contains("chain") || !line["chain"].is_string()) {
        return config_error("not a line of a ledger");
    }
    const auto kept = line["chain"].get<std::string>();
    line.erase("chain");
    chain = sha256_hex(chain + "\n" + line.dump(-1, ' ', true, json::error_handler_t::replace));
    if (chain != kept) return config_error("the line was changed, or one before it is missing");
    LedgerEntry entry;
    try {
        line.at("model_id").get_to(entry.model_id);
        line.at("message_id").get_to(entry.message_id);
        line.at("round").get_to(entry.round);
        line.at("noise_multiplier").get_to(entry.noise_multiplier);
        line.at("at").get_to(entry.at);
        line.at("content").get_to(entry.content);
    } catch (const json::exception&) {
        return config_error("a value is missing or of the wrong type");
    }
    if (!std::isfinite(entry.noise_multiplier) || entry.noise_multiplier < 0) {
        return config_error("the noise multiplier is not a number of at least 0");
    }
    return entry;
}

std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.4g", value);
    return text;
}

}  // namespace

double epsilon_of(double q, double z, std::int64_t steps, double delta) {
    if (steps <= 0 || q <= 0) return 0;
    if (!(z > 0) || !(q <= 1)) return kInfinite;
    Orders rdp = rdp_of(q, z);
    for (double& value : rdp) value *= static_cast<double>(steps);
    return epsilon_from(rdp, delta);
}

Result<Ledger> Ledger::open(const std::filesystem::path& file) {
    Ledger ledger(file);
    std::error_code code;
    const auto status = std::filesystem::status(file, code);
    if (status.type() == std::filesystem::file_type::not_found) return ledger;
    auto text = read_file(file);
    if (!text) return std::move(text).error();
    const auto damaged = [&](std::size_t line, const std::string& what) {
        return config_error(file.string() + ":" + std::to_string(line) + ": " + what +
                            "; what was spent is not known, so nothing can be sent. Restore the file from a backup, or "
                            "move it away and lower the budget by what was spent");
    };
    if (text->empty() || text->back() != '\n') return damaged(1, "the ledger is empty or cut");
    std::istringstream lines(*text);
    std::string line;
    std::getline(lines, line);
    if (line != kFirstLine) return damaged(1, "not a privacy ledger of version 1");
    std::string chain = line;
    for (std::size_t number = 2; std::getline(lines, line); ++number) {
        auto entry = entry_of(line, chain);
        if (!entry) return damaged(number, entry.error().message);
        ledger.entries_.push_back(std::move(*entry));
    }
    return ledger;
}

Result<void> Ledger::book(const LedgerEntry& entry, double budget, double delta) {
    if (entry.message_id.empty() || !std::isfinite(entry.noise_multiplier) || entry.noise_multiplier < 0) {
        return bug_error("a night without a message id, or with a noise multiplier below 0, cannot be booked");
    }
    if (!(budget >= 0) || !(delta > 0 && delta < 1)) {
        return config_error("the privacy budget must be at least 0 and its delta between 0 and 1");
    }
    const bool known = std::any_of(entries_.begin(), entries_.end(), [&](const LedgerEntry& e) {
        return e.message_id == entry.message_id && e.content == entry.content &&
               e.noise_multiplier == entry.noise_multiplier;
    });
    if (known) return {};
    std::vector<LedgerEntry> entries = entries_;
    entries.push_back(entry);
    if (budget > 0) {
        const double spent = epsilon_of_all(entries, delta);
        if (!(spent <= budget)) {
            const bool plain = std::any_of(entries.begin(), entries.end(),
                                           [](const LedgerEntry& e) { return e.noise_multiplier == 0; });
            return reject_error(plain ? "the privacy budget cannot hold: an update without noise has no bound"
                                      : "the privacy budget of " + number(budget) +
                                            " does not suffice: epsilon would be " + number(spent) + " at delta " +
                                            number(delta));
        }
    }
    std::string text = std::string(kFirstLine) + "\n", chain = kFirstLine;
    for (const LedgerEntry& e : entries) text += line_of(e, chain);
    if (auto written = write_file_durably(file_, text); !written) {
        return std::move(written).error().in("booking the night in the privacy ledger");
    }
    entries_ = std::move(entries);
    return {};
}

double Ledger::spent(double delta) const { return epsilon_of_all(entries_, delta); }

}  // namespace cardionode::fed
