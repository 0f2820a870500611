#include "fedclient/round/tools.h"

#include <random>

#include "conf/base/files.h"
#include "conf/base/log.h"
#include "fedclient/methods/phantom_hospitals.h"
#include "fedclient/privacy/ledger.h"
#include "fedclient/privacy/outbound_audit.h"
#include "fedclient/round/parts.h"
#include "fedclient/round/round.h"
#include "models/train/recipe.h"

namespace cardionode::fed {
namespace {

namespace fs = std::filesystem;

fs::path ledger_file(const FederatedSettings& settings) { return settings.state / "ledger.jsonl"; }

/// The floating tensors of the recipe's network: names and shapes are what is compared. Made once for an architecture.
Result<fs::path> reference_of(const FederatedSettings& settings, const ModelSettings& model) {
    auto recipe_file = local_recipe(settings, model);
    if (!recipe_file) return std::move(recipe_file).error();
    auto hash = architecture_hash(*recipe_file);
    if (!hash) return std::move(hash).error();
    const fs::path out = settings.state / "references" / (model.id + "-" + hash->substr(0, 16) + ".safetensors");
    std::error_code no_matter;
    if (fs::exists(out, no_matter)) return out;
    if (auto made = make_folder(out.parent_path()); !made) return std::move(made).error();
    auto recipe = train::load_recipe(*recipe_file);
    if (!recipe) return std::move(recipe).error();
    if (auto done = PhantomHospitals::fresh_weights(*recipe, 1, out); !done) return std::move(done).error();
    return out;
}

std::uint64_t unpredictable() {
    std::random_device device;
    return static_cast<std::uint64_t>(device()) << 32U | device();
}

}  // namespace

RoundTools real_tools(const FederatedSettings& s) {
    RoundTools tools;
    tools.train = run_local_round;
    tools.validate = [&s](const fs::path& recipe, const fs::path& weights) {
        return validate_weights(recipe, weights, s.compute.device, s.compute.threads);
    };
    tools.architecture_hash = architecture_hash;
    tools.reference = [&s](const ModelSettings& model) { return reference_of(s, model); };
    tools.verify = [&s](const std::string& id, std::int64_t round, const std::string& record, const std::string& text) {
        return verify_model(s.consortium_key, id, round, record, text);
    };
    tools.check_inbound = [&s](const fs::path& pulled, const fs::path& reference, const fs::path& previous,
                               std::int64_t version, const InboundHistory& history) {
        return check_inbound(pulled, reference, previous, version, history, s.privacy.inbound);
    };
    tools.filter = [&s](const fs::path& base, const fs::path& trained, const std::vector<std::string>& learned,
                        std::int64_t patients, const fs::path& out) -> Result<FilteredUpdate> {
        auto report = filter_update(base, trained, learned, patients, s.privacy.outbound, unpredictable(), out);
        if (!report) return std::move(report).error();
        return FilteredUpdate{*report, report->booked_multiplier};
    };
    tools.book = [&s](const Booking& b) -> Result<void> {
        auto ledger = Ledger::open(ledger_file(s));
        if (!ledger) return std::move(ledger).error();
        LedgerEntry entry;
        entry.model_id = b.model_id, entry.message_id = b.message_id, entry.round = b.round;
        entry.noise_multiplier = b.noise_multiplier, entry.content = b.sha256, entry.at = b.at;
        if (auto booked = ledger->book(entry, s.privacy.epsilon, s.privacy.delta); !booked) return booked;
        OutboundAudit audit;
        audit.model_id = b.model_id, audit.round = b.round, audit.sha256 = b.sha256, audit.counts = b.counts;
        audit.report = b.report, audit.epsilon = ledger->spent(s.privacy.delta), audit.delta = s.privacy.delta;
        log_info("fed_update_out", {{"line", outbound_audit_line(audit)}});
        return {};
    };
    tools.sent_count = [&s](std::int64_t count) { return sent_count(count, s.privacy.outbound.count_step); };
    return tools;
}

Result<double> spent_epsilon(const FederatedSettings& s) {
    auto ledger = Ledger::open(ledger_file(s));
    if (!ledger) return std::move(ledger).error();
    return ledger->entries().empty() ? 0.0 : ledger->spent(s.privacy.delta);
}

}  // namespace cardionode::fed
