#include "fedclient/round/parts.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>

#include <fmt/format.h>

#include "conf/base/files.h"
#include "fedclient/round/clinic.h"
#include "fedclient/round/local_data.h"
#include "fedclient/round/promotion.h"
#include "fedclient/round/round.h"
#include "models/train/bundle_export.h"

namespace cardionode::fed {

namespace fs = std::filesystem;

NightParts real_parts(const FederatedNode& settings, std::function<bool()> stop,
                      std::function<void(std::string)> print) {
    const FederatedSettings& s = settings.federated;
    NightParts parts;
    parts.open_transport = [&s] { return open_transport(s); };
    parts.tools = real_tools(s);
    const auto watch = std::make_shared<ClinicWatch>(
        settings.node.node.database, Milliseconds(static_cast<std::int64_t>(s.compute.clinic_poll_seconds * 1000)));
    parts.clinic_busy = [watch] { return watch->busy(); };
    parts.stop = stop;
    parts.pause = [stop](Milliseconds time) {  // in short pieces, so that a stop is not waited for
        const auto until = std::chrono::steady_clock::now() + time;
        while (!(stop && stop()) && std::chrono::steady_clock::now() < until) {
            std::this_thread::sleep_for(std::min<std::chrono::steady_clock::duration>(
                std::chrono::milliseconds(200), until - std::chrono::steady_clock::now()));
        }
    };
    parts.print = print;
    parts.refresh_data = [&settings, watch, print,
                          pause = parts.pause](const std::function<bool()>& end) -> Result<std::string> {
        LocalDataHooks hooks;
        hooks.stop = end;
        hooks.clinic_busy = [watch] { return watch->busy(); };
        hooks.pause = pause;
        hooks.print = print;
        std::string text;
        for (const ModelSettings& model : settings.federated.models) {
            auto report = refresh_local_data(settings, model, hooks);
            if (!report) return std::move(report).error().in(model.id);
            text += (text.empty() ? "" : "\n") + model.id + ": " + in_words(*report);
        }
        return text;
    };
    parts.promote = [&s](const ModelSettings& model) -> Result<std::string> {
        auto store = RoundStore::open(store_file(s), RoundStore::Mode::ReadOnly);
        if (!store) return std::move(store).error();
        auto accepted = store->accepted(model.id);
        if (!accepted) return std::move(accepted).error();
        PromotionRequest request;
        request.by = "automatic";
        auto line = promote(s, model, *accepted, request,
                            [&s](const ModelSettings& m, const fs::path& weights, const fs::path& target,
                                 const std::map<std::string, std::string>& record) {
                                return put_weights(s, m, weights, target, record);
                            });
        if (!line) return std::move(line).error();
        return model.id + ": version " + line->version + " is live; the pipeline takes it up when it starts again";
    };
    return parts;
}

Result<void> put_weights(const FederatedSettings& settings, const ModelSettings& model, const fs::path& weights,
                         const fs::path& target, const std::map<std::string, std::string>& record) {
    auto recipe = local_recipe(settings, model);
    if (!recipe) return std::move(recipe).error();
    // The shape of a training run, which is what an export starts from.
    const fs::path run = target.parent_path() / (target.filename().string() + ".run");
    std::error_code error;
    fs::remove_all(run, error);
    if (auto made = make_folder(run); !made) return made;
    fs::copy_file(weights, run / "weights.safetensors", error);
    Result<void> done = error ? Result<void>(file_error("copying", weights, error.value()))
                              : write_file_durably(run / "metrics.jsonl", std::string_view(""));
    if (done) {
        done = model.second_look ? train::export_second_look(run, *recipe, target, record)
                                 : train::export_bundle(run, *recipe, target, record);
    }
    fs::remove_all(run, error);
    return done;
}

}  // namespace cardionode::fed
