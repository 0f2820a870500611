#include "fedclient/round/consent.h"

#include <chrono>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "conf/base/files.h"
#include "conf/base/hash.h"

namespace cardionode::fed {
namespace {

std::filesystem::path file_of(const std::filesystem::path& state) { return state / "consent.json"; }

}  // namespace

std::string what_would_leave(const FederatedSettings& c) {
    std::string text;
    const std::string to = c.transport.kind == "dir" ? "files in " + c.transport.folder.string() : c.transport.address;
    text += "To           " + (to.empty() ? "nowhere yet: no address is set" : to) + "\n";
    for (const ModelSettings& m : c.models) text += "Model        " + m.id + "\n";
    text += fmt::format("When         between {} and {}, at most once for each round that the consortium runs\n",
                        c.window.from, c.window.until);
    text += "\nThis leaves the hospital:\n";
    text += fmt::format("  - network weights (numbers, no images): tensors {}\n",
                        fmt::format("{}", fmt::join(c.privacy.outbound.allowed, ", ")));
    text += fmt::format("    The change of the body and of each head is cut to an L2 norm of {}.\n",
                        c.privacy.outbound.clip_norm);
    if (c.privacy.outbound.noise_multiplier > 0) {
        text += fmt::format("    Random noise of {} times that norm is added; ", c.privacy.outbound.noise_multiplier);
        text += c.privacy.epsilon > 0
                    ? fmt::format("it stops at epsilon {} (delta {}).\n", c.privacy.epsilon, c.privacy.delta)
                    : "no budget stops it.\n";
    } else {
        text += "    No noise is added: there is no formal guarantee about single patients.\n";
    }
    text += fmt::format("  - how many studies were learned from, for each kind of label{}\n",
                        c.privacy.outbound.count_step > 1
                            ? fmt::format("; below 50 as a multiple of {}", c.privacy.outbound.count_step)
                            : ", exactly");
    text += "  - the training's loss and number of steps\n";
    text += "  - how good a model is on held-out studies: one number for each head (Dice, millimetres)\n";
    text += "  - or, instead of all this, a reason why nothing is sent\n";
    text += "\nThis never leaves: images, reports, labels, names, IDs, dates, UIDs, study keys.\n";
    text += fmt::format("Nothing is sent of a round that learned from fewer than {} patients.\n",
                        c.privacy.outbound.minimum_patients);
    return text;
}

Result<std::optional<Consent>> read_consent(const std::filesystem::path& state) {
    std::error_code no_matter;
    if (!std::filesystem::exists(file_of(state), no_matter)) return std::optional<Consent>();
    auto text = read_file(file_of(state));
    if (!text) return std::move(text).error();
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    try {
        Consent consent;
        consent.given = json.at("given").get<bool>();
        consent.by = json.at("by").get<std::string>();
        consent.at = Moment(Milliseconds(json.at("at_ms").get<std::int64_t>()));
        consent.text_sha256 = json.at("text_sha256").get<std::string>();
        return std::optional<Consent>(consent);
    } catch (const nlohmann::json::exception&) {
        return config_error(file_of(state).string() + " is damaged: answer again with `cardionode fed consent`");
    }
}

Result<void> write_consent(const std::filesystem::path& state, const Consent& c) {
    const nlohmann::ordered_json json = {{"given", c.given},
                                         {"by", c.by},
                                         {"at", to_iso8601(c.at)},
                                         {"at_ms", c.at.time_since_epoch().count()},
                                         {"text_sha256", c.text_sha256}};
    return write_file_durably(file_of(state),
                              json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

Result<ConsentState> consent_state(const FederatedSettings& settings) {
    auto consent = read_consent(settings.state);
    if (!consent) return std::move(consent).error();
    if (!*consent) return ConsentState::NeverAsked;
    if (!(*consent)->given) return ConsentState::Refused;
    return (*consent)->text_sha256 == sha256_hex(what_would_leave(settings)) ? ConsentState::Given
                                                                             : ConsentState::Outdated;
}

}  // namespace cardionode::fed
