#include "scp/server/peer_rules.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include <arpa/inet.h>
#include <fmt/format.h>

namespace cardionode {

Result<AddressBytes> parse_address(std::string_view text) {
    const std::string name(text.substr(0, text.find('%')));  // without the zone of a link-local address
    AddressBytes bytes{};
    if (::inet_pton(AF_INET6, name.c_str(), bytes.data()) == 1) return bytes;
    bytes = {};
    bytes[10] = bytes[11] = 0xff;
    if (::inet_pton(AF_INET, name.c_str(), bytes.data() + 12) == 1) return bytes;
    return config_error(fmt::format("{} is not an IP address", name));
}

Result<PeerRules> PeerRules::create(const ScpSettings& settings, const std::vector<DestinationSettings>& destinations) {
    PeerRules rules;
    for (const DestinationSettings& destination : destinations) {
        if (destination.commitment == "off") continue;
        Peer reporter;
        reporter.ae_title = destination.ae_title;
        if (auto address = parse_address(destination.host)) reporter.networks.push_back({*address, 128});
        rules.reporters_.push_back(std::move(reporter));
    }
    rules.own_ae_title_ = settings.ae_title;
    rules.any_called_ = settings.accept_any_called_ae;
    rules.unknown_peers_ = settings.accept_unknown_peers;
    for (const PeerSettings& from : settings.peers) {
        Peer peer;
        peer.ae_title = from.ae_title;
        peer.certificate_sha256 = from.certificate_sha256;
        for (const std::string& cidr : from.addresses) {
            const auto slash = cidr.find('/');
            const std::string_view address = std::string_view(cidr).substr(0, slash);
            auto parsed = parse_address(address);
            if (!parsed) return std::move(parsed).error().in("scp.peers");
            Network network;
            network.address = *parsed;
            if (slash != std::string::npos) {
                int bits = 0;
                std::from_chars(cidr.data() + slash + 1, cidr.data() + cidr.size(), bits);
                const bool four = address.find(':') == std::string_view::npos;
                if (bits < 0 || bits > (four ? 32 : 128))
                    return config_error(fmt::format("scp.peers: {} is no network", cidr));
                network.bits = bits + (four ? 96 : 0);
            }
            peer.networks.push_back(network);
        }
        rules.peers_.push_back(std::move(peer));
    }
    return rules;
}

bool PeerRules::calling_allowed(std::string_view calling_ae_title, const AddressBytes& address,
                                std::string_view certificate_sha256) const {
    const auto inside = [&](const Network& network) {
        const int whole = network.bits / 8, rest = network.bits % 8;
        if (std::memcmp(network.address.data(), address.data(), static_cast<std::size_t>(whole)) != 0) return false;
        if (rest == 0) return true;
        const auto at = static_cast<std::size_t>(whole);
        return ((network.address[at] ^ address[at]) >> (8 - rest)) == 0;
    };
    bool named = false;
    for (const Peer& peer : peers_) {
        if (peer.ae_title != calling_ae_title) continue;
        named = true;
        if (!peer.certificate_sha256.empty() && peer.certificate_sha256 != certificate_sha256) continue;
        if (peer.networks.empty() || std::ranges::any_of(peer.networks, inside)) return true;
    }
    return !named && unknown_peers_;
}

bool PeerRules::reports_allowed(std::string_view calling_ae_title, const AddressBytes& address) const {
    return std::ranges::any_of(reporters_, [&](const Peer& peer) {
        return peer.ae_title == calling_ae_title && (peer.networks.empty() || peer.networks.front().address == address);
    });
}

bool PeerRules::is_peer(std::string_view calling_ae_title) const {
    return std::ranges::any_of(peers_, [&](const Peer& peer) { return peer.ae_title == calling_ae_title; });
}

bool PeerRules::called_allowed(std::string_view called_ae_title) const {
    return any_called_ || called_ae_title == own_ae_title_;
}

}  // namespace cardionode
