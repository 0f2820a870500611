// Who a node is: its public key, and the signed headers of dialect v1.
//
// The headers flwr-public-key, flwr-timestamp and flwr-signature carry base64 of the key's PEM, an ISO 8601 moment with
// its offset, and base64 of the ECDSA-SHA256 signature (DER) over the moment's text alone. The client's clock may be
// behind by up to 305 s and ahead by at most 5 s. Thread safety: pure functions. Errors: Reject with what is wrong.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "conf/base/result.h"
#include "conf/base/time.h"

namespace cardionode::fed {

/// SHA-256 of the key (SubjectPublicKeyInfo, DER), the same for any spelling of its PEM. Reject: no EC public key.
Result<std::string> key_id_of(std::string_view public_key_pem);

/// @return  the id of the key that signed
Result<std::string> check_signed_headers(std::string_view public_key_base64, std::string_view timestamp,
                                         std::string_view signature_base64, Moment now);

/// "2026-11-21T19:00:00.000000+00:00", also with Z; fractions of a second may be absent.
std::optional<Moment> parse_timestamp(std::string_view text);

}  // namespace cardionode::fed
