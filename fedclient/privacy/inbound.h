// What the hospital lets in: weights are checked before anything uses them.
//
// Signature: Ed25519 over the UTF-8 text "cardionode-model-1\n<model id>\n<round>\n<ArrayRecord id>\n", whose public
// key the hospital has pinned (RFC 8032); a hijacked server or proxy cannot plant weights. Then shapes and dtypes
// against the own architecture, finite values, |new - old| within a multiple of what was seen before, and rounds that
// only go up. A model id or record id with a control character is refused: the signed text could be read in two ways.
// Memory: 1 MiB of each file. Thread safety: functions on files. Errors: Reject with what is wrong in what came; Config
// for a key or an own file that cannot be read; Retry for I/O trouble.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/result.h"

namespace cardionode::fed {

/// @param public_key  PEM file (SubjectPublicKeyInfo) of the consortium; @param signature  base64, 64 bytes
Result<void> verify_model(const std::filesystem::path& public_key, const std::string& model_id, std::int64_t round,
                          const std::string& record_id, const std::string& signature);
/// For the coordinator. @param private_key  PEM file (PKCS#8)
Result<std::string> sign_model(const std::filesystem::path& private_key, const std::string& model_id,
                               std::int64_t round, const std::string& record_id);

struct InboundRules {
    double norm_factor = 10;        ///< largest |new - old| over the median of those accepted before
    std::int64_t norm_history = 3;  ///< accepted rounds before that rule counts
};

/// What was accepted before, newest last.
struct InboundHistory {
    std::optional<std::int64_t> round;
    std::vector<double> change_norms;
};

/// @param pulled     may be hostile
/// @param reference  a file with exactly the tensors that are expected
/// @param previous   the global weights accepted last; empty: none yet
/// @return           |new - previous|; 0 without previous
Result<double> check_inbound(const std::filesystem::path& pulled, const std::filesystem::path& reference,
                             const std::filesystem::path& previous, std::int64_t round, const InboundHistory& history,
                             const InboundRules& rules);

}  // namespace cardionode::fed
