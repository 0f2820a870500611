// What privacy was spent, night by night, and when it is spent up: Renyi differential privacy of the Gaussian
// mechanism.
//
//   rdp(a) = 1/(a-1) log sum_k C(a,k) (1-q)^(a-k) q^k exp((k^2-k)/(2 z^2)), q = 1: a/(2 z^2)
//   eps    = min over a = 2..512 of [ sum of rdp(a) + log((a-1)/a) - (log delta + log a)/(a-1) ]
// Sources: Mironov, Talwar & Zhang 2019 (arXiv 1908.10530); Balle et al. 2020 (arXiv 1905.09982).
// A night is booked, durably, before its update leaves: a crash can spend too much of the budget, never too little.
// The file: a first line with its form, then one JSON object a line, each with a hash over all before it, so that a
// changed, cut or missing line is found. (Not a loss of the last lines or of the whole file: keep it in the backup.)
// Thread safety: a Ledger belongs to one thread; the file to one process (the client's lock).
// Errors: Reject when the night would exceed the budget; Config, Retry of the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

/// @param q  sampling rate, 0..1; @param z  noise multiplier: sd over L2 sensitivity; @param steps  how often
/// @return   0 without steps; infinite without noise or for a delta outside 0..1
double epsilon_of(double q, double z, std::int64_t steps, double delta);

struct LedgerEntry {
    std::string model_id, message_id;  ///< a message is booked once, however often it is sent
    std::int64_t round = 0;
    double noise_multiplier = 0;  ///< OutboundReport::booked_multiplier; 0: sent without noise, without any guarantee
    std::string at;               ///< UTC, ISO 8601
    /// SHA-256 of what leaves. Other bytes under the same message are another release and are booked once more.
    std::string content = {};
};

class Ledger {
public:
    /// No error when there is no file yet. Config: a file that is damaged.
    static Result<Ledger> open(const std::filesystem::path& file);
    /// Books a night. On disk when it returns. @param budget  epsilon at delta that may be spent in all; 0: no bound
    Result<void> book(const LedgerEntry& entry, double budget, double delta);
    /// Of all nights with noise; infinite when one was sent without.
    double spent(double delta) const;
    const std::vector<LedgerEntry>& entries() const { return entries_; }

private:
    explicit Ledger(std::filesystem::path file) : file_(std::move(file)) {}
    std::filesystem::path file_;
    std::vector<LedgerEntry> entries_;
};

}  // namespace cardionode::fed
