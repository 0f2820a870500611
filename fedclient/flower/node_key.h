// The key pair that is a hospital's identity at the server: ECDSA with SHA-256 on a NIST curve.
//
// Thread safety: const functions may run at once. Errors: Config for the file; Bug when signing fails.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "conf/base/result.h"
#include "conf/base/time.h"

struct evp_pkey_st;

namespace cardionode::fed {

class NodeKey {
public:
    /// PEM, without passphrase, mode 0600.
    static Result<NodeKey> load(const std::filesystem::path& file);

    const std::string& public_pem() const { return public_pem_; }  ///< SubjectPublicKeyInfo
    Result<std::string> sign(std::string_view text) const;         ///< DER

private:
    NodeKey() = default;
    std::shared_ptr<evp_pkey_st> key_;
    std::string public_pem_;
};

/// What the node signs: two minutes ago in ISO 8601. A server takes clocks that are 305 s behind but only 5 s ahead;
/// so both may be wrong by two minutes and more.
std::string signed_timestamp(Moment now);

}  // namespace cardionode::fed
