// Who may open an association: AE titles and addresses from the settings.
//
// A calling AE title that stands in `peers` is bound to its addresses and its certificate, whatever
// accept_unknown_peers says; one that stands there several times may come as each entry says.
// Thread safety: a value, read only after it was made.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"

namespace cardionode {

/// An IPv4 address as the IPv6 address that it is mapped to, so that 10.0.0.1 and ::ffff:10.0.0.1 are the same.
using AddressBytes = std::array<std::uint8_t, 16>;
Result<AddressBytes> parse_address(std::string_view text);

class PeerRules {
public:
    /// Config: an address that is none.
    /// @param destinations  may report storage commitment, even where they may not store
    static Result<PeerRules> create(const ScpSettings& settings,
                                    const std::vector<DestinationSettings>& destinations = {});
    /// @param certificate_sha256  of the certificate that the peer proved to have; empty: none
    bool calling_allowed(std::string_view calling_ae_title, const AddressBytes& address,
                         std::string_view certificate_sha256 = {}) const;
    /// The AE title of a destination that is asked to commit, from its address; from any, where its host is a name.
    bool reports_allowed(std::string_view calling_ae_title, const AddressBytes& address) const;
    /// It stands in `peers`, and may open an association only as it stands there.
    bool is_peer(std::string_view calling_ae_title) const;
    bool called_allowed(std::string_view called_ae_title) const;

private:
    struct Network {
        AddressBytes address{};
        int bits = 128;
    };
    struct Peer {
        std::string ae_title;
        std::vector<Network> networks;   ///< empty: any address
        std::string certificate_sha256;  ///< empty: any certificate, or none
    };
    std::string own_ae_title_;
    bool any_called_ = false;
    bool unknown_peers_ = true;
    std::vector<Peer> peers_;
    std::vector<Peer> reporters_;
};

}  // namespace cardionode
