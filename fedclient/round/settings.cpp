#include "fedclient/round/settings.h"

#include <algorithm>
#include <set>

#include <unistd.h>

#include "conf/base/files.h"
#include "conf/base/settings.h"

namespace cardionode::fed {
namespace {

bool is_device(std::string_view text) {
    if (text == "auto" || text == "cuda" || text == "cpu") return true;
    if (text.substr(0, 5) != "cuda:" || text.size() < 6 || text.size() > 7) return false;
    return std::all_of(text.begin() + 5, text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Becomes a folder's name and part of a signed text.
bool is_model_id(std::string_view text) {
    return !text.empty() && text.size() <= 64 && text.front() != '.' &&
           std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                      c == '_' || c == '.';
           });
}

std::string plain_pin(std::string_view text) {
    std::string digits;
    for (const char c : text) {
        if (c != ':') digits += (c >= 'A' && c <= 'F') ? static_cast<char>(c - 'A' + 'a') : c;
    }
    return digits;
}

bool is_pin(std::string_view text) {
    const std::string digits = plain_pin(text);
    return digits.size() == 64 && digits.find_first_not_of("0123456789abcdef") == std::string::npos;
}

/// The host of "https://host:port/..."; empty: no such address.
std::string host_of(const std::string& address) {
    for (const std::string_view scheme : {"https://", "http://"}) {
        if (!address.starts_with(scheme)) continue;
        const std::string rest = address.substr(scheme.size());
        if (rest.starts_with('[')) return rest.substr(1, std::min(rest.find(']'), rest.size()) - 1);
        return rest.substr(0, rest.find_first_of(":/"));
    }
    return {};
}

/// A path that may be empty: none.
void optional_path(Section& s, std::string_view key, std::filesystem::path& target) {
    std::string text = target.string();
    s.text(key, text, {}, "a path, or nothing");
    target = text;
}

TransportSettings read_transport(Section s, bool enabled) {
    TransportSettings c;
    s.one_of("kind", c.kind, {"flower-http-v1", "flower-http-v0", "dir"});
    s.text(
        "address", c.address, [](std::string_view t) { return t.empty() || !host_of(std::string(t)).empty(); },
        "https://HOST:PORT");
    optional_path(s, "folder", c.folder);
    optional_path(s, "ca", c.tls.ca);
    optional_path(s, "certificate", c.tls.certificate);
    optional_path(s, "key", c.tls.key);
    optional_path(s, "node_key", c.node_key);
    s.texts("pins", c.pins, is_pin, "a list of SHA-256 of public keys, 64 hex digits each");
    for (std::string& pin : c.pins) pin = plain_pin(pin);
    s.integer("heartbeat_seconds", c.heartbeat_seconds, 10, 900);
    s.number("poll_seconds", c.poll_seconds, 0.01, 300);
    s.no_other_keys();
    if (c.tls.certificate.empty() != c.tls.key.empty())
        s.problem(c.tls.key.empty() ? "key" : "certificate", "expected a file: certificate and key belong together");
    if (!enabled) return c;
    if (c.kind == "dir") {
        if (c.folder.empty()) s.problem("folder", "expected a folder, as the kind is dir");
        return c;
    }
    if (c.address.empty()) s.problem("address", "expected https://HOST:PORT of the consortium");
    if (c.address.starts_with("http://") && !is_this_machine(host_of(c.address)))
        s.problem("address", "expected https: without TLS only this machine (127.0.0.1, ::1) is spoken to");
    if (c.address.starts_with("https://")) {
        if (c.tls.ca.empty()) s.problem("ca", "expected the CA of the server's certificate");
        if (c.tls.certificate.empty()) s.problem("certificate", "expected the hospital's certificate");
        if (c.pins.empty()) s.problem("pins", "expected the server's pin (and the next one's, for the day it changes)");
    }
    if (c.node_key.empty() && c.tls.key.empty()) s.problem("node_key", "expected the node's key, or `key`");
    return c;
}

WindowSettings read_window(Section s) {
    WindowSettings c;
    const auto is_time = [](std::string_view t) { return minutes_of_day(t) >= 0; };
    s.text("from", c.from, is_time, "a time of day such as \"01:00\", in quotes");
    s.text("until", c.until, is_time, "a time of day such as \"05:30\", in quotes");
    s.integer("wait_for_message_minutes", c.wait_for_message_minutes, 0, 1440);
    s.integer("upload_reserve_seconds", c.upload_reserve_seconds, 0, 86400);
    s.no_other_keys();
    return c;
}

ModelSettings read_model(Section s) {
    ModelSettings c;
    s.required("id", "the consortium's name of the model");
    s.required("recipe", "the path of the recipe");
    s.required("bundle", "the folder of the bundle");
    s.text("id", c.id, is_model_id, "letters, digits, -, _ and ., at most 64");
    s.path("recipe", c.recipe);
    s.path("bundle", c.bundle);
    s.boolean("second_look", c.second_look);
    optional_path(s, "teacher_recipe", c.teacher_recipe);
    s.no_other_keys();
    return c;
}

DataSettings read_data(Section s) {
    DataSettings c;
    s.integer("max_age_days", c.max_age_days, 1, 36'500);
    s.integer("max_studies", c.max_studies, 1, 1'000'000);
    s.integer("max_mib", c.max_mib, 1, std::int64_t{1} << 30);
    s.texts("calling_ae_titles", c.calling_ae_titles, is_ae_title, "a list of AE titles");
    s.boolean("only_labelled", c.only_labelled);
    s.boolean("half", c.half);
    s.number("holdout", c.holdout, 0.05, 0.9);
    s.integer("split_seed", c.split_seed, 0, std::int64_t{1} << 40);
    s.integer("minimum_holdout_studies", c.minimum_holdout_studies, 1, 100'000);
    s.no_other_keys();
    return c;
}

PrivacySettings read_privacy(Section s) {
    PrivacySettings c;
    s.texts(
        "allowed", c.outbound.allowed, [](std::string_view t) { return !t.empty(); }, "a list of name patterns");
    s.number("clip_norm", c.outbound.clip_norm, 1e-6, 1e6);
    s.number("noise_multiplier", c.outbound.noise_multiplier, 0, 1000);
    s.integer("minimum_patients", c.outbound.minimum_patients, 1, 1'000'000);
    s.integer("count_step", c.outbound.count_step, 1, 1000);
    s.number("epsilon", c.epsilon, 0, 1e6);
    s.number("delta", c.delta, 1e-12, 0.1);
    s.number("inbound_norm_factor", c.inbound.norm_factor, 1, 1e6);
    s.integer("inbound_norm_history", c.inbound.norm_history, 1, 1000);
    if (c.epsilon > 0 && c.outbound.noise_multiplier == 0)
        s.problem("epsilon", "expected noise_multiplier above 0: without noise there is no epsilon to keep within");
    if (c.outbound.allowed.empty()) s.problem("allowed", "expected at least one pattern");
    s.no_other_keys();
    return c;
}

BoundsSettings read_bounds(Section s) {
    BoundsSettings c;
    const std::set<std::string_view> known = {"fedavg", "fedkd_teacher", "fedkd_student"};
    s.texts(
        "methods", c.methods, [&](std::string_view w) { return known.contains(w); },
        "a list of fedavg, fedkd_teacher, fedkd_student");
    s.integer("most_steps", c.most_steps, 1, 10'000'000);
    s.number("most_learning_rate", c.most_learning_rate, 1e-9, 10);
    s.number("most_proximal_mu", c.most_proximal_mu, 0, 1e6);
    s.no_other_keys();
    return c;
}

ComputeSettings read_compute(Section s) {
    ComputeSettings c;
    s.text("device", c.device, is_device, "auto, cuda, cuda:N or cpu");
    s.integer("threads", c.threads, 1, 256);
    s.integer("nice", c.nice, 0, 19);
    s.integer("cpu_percent", c.cpu_percent, 1, 100);
    s.boolean("pause_for_clinic", c.pause_for_clinic);
    s.number("clinic_poll_seconds", c.clinic_poll_seconds, 0.01, 600);
    s.no_other_keys();
    return c;
}

PromotionSettings read_promotion(Section s) {
    PromotionSettings c;
    s.path("folder", c.folder);
    s.boolean("automatic", c.automatic);
    s.number("least_dice", c.least_dice, 0, 1);
    s.number("most_point_mm", c.most_point_mm, 0.1, 1000);
    s.integer("least_holdout_studies", c.least_holdout_studies, 1, 100'000);
    s.integer("keep", c.keep, 2, 1000);
    s.no_other_keys();
    return c;
}

FederatedSettings read_federated(Section s) {
    FederatedSettings c;
    s.boolean("enabled", c.enabled);
    s.path("state", c.state);
    c.transport = read_transport(s.section("transport"), c.enabled);
    optional_path(s, "consortium_key", c.consortium_key);
    std::set<std::string> ids;
    for (Section& m : s.sections("models")) {
        c.models.push_back(read_model(m));
        if (const std::string& id = c.models.back().id; !id.empty() && !ids.insert(id).second)
            m.problem("id", "expected an id that no other model has");
    }
    c.window = read_window(s.section("window"));
    c.data = read_data(s.section("data"));
    c.privacy = read_privacy(s.section("privacy"));
    c.bounds = read_bounds(s.section("bounds"));
    Section tolerance = s.section("tolerance");
    tolerance.number("dice", c.tolerance.dice, 0, 1);
    tolerance.number("point_mm", c.tolerance.point_mm, 0, 100);
    tolerance.no_other_keys();
    c.compute = read_compute(s.section("compute"));
    s.integer("keep_accepted", c.keep_accepted, 1, 1000);
    s.integer("keep_rounds_days", c.keep_rounds_days, 1, 3650);
    s.integer("least_free_mib", c.least_free_mib, 0, std::int64_t{1} << 30);
    c.promotion = read_promotion(s.section("promotion"));
    s.no_other_keys();
    if (c.enabled && c.models.empty()) s.problem("models", "expected at least one model when enabled is true");
    if (c.enabled && c.consortium_key.empty())
        s.problem("consortium_key", "expected the consortium's public key: unsigned models are never used");
    return c;
}

Result<FederatedNode> both(std::string_view yaml, const std::string& name) {
    auto node = parse_node_settings(yaml, name);
    Problems problems;
    const SettingsFile file = SettingsFile::parse(yaml, name, problems);
    FederatedSettings federated;
    if (problems.empty()) federated = read_federated(file.root().section("federated"));
    const Result<void> own = problems.result();
    if (!node && !own && node.error().message != own.error().message)
        return config_error(node.error().message + "\n" + own.error().message);
    if (!node) return std::move(node).error();
    if (!own) return own.error();
    return FederatedNode{*std::move(node), std::move(federated)};
}

}  // namespace

int minutes_of_day(std::string_view text) {
    if (text.size() != 5 || text[2] != ':') return -1;
    for (const std::size_t at : {0U, 1U, 3U, 4U}) {
        if (text[at] < '0' || text[at] > '9') return -1;
    }
    const int hours = (text[0] - '0') * 10 + text[1] - '0', minutes = (text[3] - '0') * 10 + text[4] - '0';
    return hours < 24 && minutes < 60 ? hours * 60 + minutes : -1;
}

Result<FederatedNode> load_federated(const std::filesystem::path& file) {
    auto text = read_file(file);
    if (!text) return load_node_settings(file).error();  // its words for a file that cannot be read
    return both(*text, file.string());
}

Result<FederatedNode> parse_federated(std::string_view yaml, const std::string& name) { return both(yaml, name); }

Result<void> check_federated_files(const FederatedSettings& c) {
    if (!c.enabled) return {};
    std::string lines;
    const auto readable = [&](const std::string& key, const std::filesystem::path& file) {
        if (file.empty() || ::access(file.c_str(), R_OK) == 0) return;
        lines += (lines.empty() ? "" : "\n") + file_error("federated." + key + ": reading", file, errno).message;
    };
    readable("transport.ca", c.transport.tls.ca);
    readable("transport.certificate", c.transport.tls.certificate);
    readable("transport.key", c.transport.tls.key);
    readable("transport.node_key", c.transport.node_key);
    if (c.transport.kind == "dir") readable("transport.folder", c.transport.folder);
    readable("consortium_key", c.consortium_key);
    for (const ModelSettings& m : c.models) {
        readable("models: recipe", m.recipe);
        readable("models: bundle", m.bundle / "manifest.yaml");
        readable("models: teacher_recipe", m.teacher_recipe);
    }
    if (lines.empty()) return {};
    return config_error(lines);
}

}  // namespace cardionode::fed
