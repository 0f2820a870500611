#include "fedclient/coordinator/run_settings.h"

#include <algorithm>
#include <cctype>
#include <set>

#include "conf/base/node_settings.h"
#include "conf/base/settings.h"

namespace cardionode::fed {
namespace {

constexpr double kYear = 365.0 * 86'400;

bool is_sha256(std::string_view text) {
    return text.size() == 64 && std::all_of(text.begin(), text.end(),
                                            [](unsigned char c) { return std::isdigit(c) || (c >= 'a' && c <= 'f'); });
}

void read_server(Section s, ServerSettings& c) {
    s.text("bind_address", c.bind_address);
    s.integer("port", c.port, 0, 65535);
    s.integer("status_port", c.status_port, 0, 65535);
    s.integer("shortest_heartbeat_seconds", c.shortest_heartbeat_seconds, 1, 1800);
    Section tls = s.section("tls");
    tls.path("certificate", c.certificate);
    tls.path("key", c.key);
    tls.path("client_ca", c.client_ca);
    tls.path("client_crl", c.client_crl);
    tls.no_other_keys();
    if (c.certificate.empty() != c.key.empty()) s.problem("tls", "certificate and key, or none of both");
    if (!c.client_ca.empty() && c.certificate.empty()) s.problem("tls", "a certificate where client_ca is given");
    if (c.certificate.empty() && !is_this_machine(c.bind_address))
        s.problem("bind_address", "an address of this machine alone, or tls: plain HTTP is for loopback");
    s.no_other_keys();
}

void read_plan(Section s, PlanSettings& c) {
    s.one_of("method", c.method, {"fedavg", "fedkd_teacher", "fedkd_student"});
    s.texts("heads", c.heads, is_site_name, "names of heads");
    s.integer("steps", c.steps, 1, 1'000'000);
    s.number("learning_rate", c.learning_rate, 0, 10);
    s.number("proximal_mu", c.proximal_mu, 0, 1000);
    s.integer("seed", c.seed, 0, 1'000'000'000);
    s.number("clip_norm", c.clip_norm, 0, 1e9);
    s.number("dp_sigma", c.dp_sigma, 0, 1e6);
    s.integer("min_client", c.min_client, 0, 1'000'000);
    Section teachers = s.section("teachers");
    for (const auto& head : teachers.keys()) {
        teachers.path(head, c.teachers[head]);
        if (!is_site_name(head)) teachers.problem(head, "the name of a head");
    }
    if (c.method == "fedkd_student" && c.teachers.empty())
        s.problem("teachers", "at least one teacher for fedkd_student");
    s.no_other_keys();
}

void read_rounds(Section s, RoundSettings& c) {
    s.integer("first", c.first, 0, 1'000'000'000);
    s.integer("count", c.count, 1, 1'000'000);
    s.integer("expected_sites", c.expected_sites, 0, 10'000);
    s.number("gather_seconds", c.gather_seconds, 0, kYear);
    s.number("deadline_seconds", c.deadline_seconds, 1, kYear);
    s.number("silent_seconds", c.silent_seconds, 1, kYear);
    s.number("away_seconds", c.away_seconds, 0, kYear);
    s.integer("most_issues", c.most_issues, 1, 100);
    s.number("poll_seconds", c.poll_seconds, 0.02, 3600);
    s.number("finish_after_seconds", c.finish_after_seconds, 0, kYear);
    s.boolean("keep_updates", c.keep_updates);
    s.no_other_keys();
}

void read_aggregation(Section s, AggregationRules& c) {
    s.boolean("per_head", c.per_head);
    s.number("beta", c.beta, 0, 1e6);
    s.integer("quorum", c.quorum, 1, 10'000);
    s.integer("min_sites_per_head", c.min_sites_per_head, 1, 10'000);
    s.number("max_norm_ratio", c.max_norm_ratio, 0, 1e9);
    s.number("min_cosine", c.min_cosine, -1, 1);
    s.number("trim", c.trim, 0, 0.49);
    s.no_other_keys();
}

RunSettings read_all(Section root) {
    RunSettings c;
    read_server(root.section("server"), c.server);
    for (Section s : root.sections("sites")) {
        SiteSettings site;
        s.required("name", "the name of the hospital in logs");
        s.required("public_key", "PEM file of the node's public key");
        s.text("name", site.name, is_site_name, "1 to 64 letters, digits, '-', '_', '.'");
        s.path("public_key", site.public_key);
        s.no_other_keys();
        c.sites.push_back(std::move(site));
    }
    std::set<std::string> names;
    for (const auto& site : c.sites)
        if (!names.insert(site.name).second) root.problem("sites", "each name once, twice is " + site.name);

    root.required("model", "what is trained");
    Section model = root.section("model");
    model.required("id", "the model's name");
    model.required("weights", "the initial weights, safetensors");
    model.text("id", c.model_id, is_site_name, "1 to 64 letters, digits, '-', '_', '.'");
    model.text("arch_sha256", c.arch_sha256, is_sha256, "64 lower-case hex digits");
    model.path("weights", c.weights);
    model.path("signing_key", c.signing_key);
    model.no_other_keys();

    read_plan(root.section("plan"), c.plan);
    read_rounds(root.section("rounds"), c.rounds);
    read_aggregation(root.section("aggregation"), c.aggregation);
    Section evaluation = root.section("evaluation");
    evaluation.boolean("enabled", c.evaluation.enabled);
    evaluation.number("deadline_seconds", c.evaluation.deadline_seconds, 1, kYear);
    evaluation.number("tolerance", c.evaluation.tolerance, 0, 1e9);
    evaluation.no_other_keys();
    root.no_other_keys();
    return c;
}

void resolve(std::filesystem::path& path, const std::filesystem::path& folder) {
    if (!path.empty() && path.is_relative()) path = folder / path;
}

}  // namespace

bool is_site_name(std::string_view text) {
    return !text.empty() && text.size() <= 64 && text.front() != '.' &&
           std::all_of(text.begin(), text.end(), [](unsigned char c) {
               return (c < 128 && std::isalnum(c) != 0) || c == '-' || c == '_' || c == '.';
           });
}

Result<RunSettings> parse_run_settings(std::string_view yaml, const std::string& name_for_messages) {
    Problems problems;
    auto file = SettingsFile::parse(yaml, name_for_messages, problems);
    auto settings = read_all(file.root());
    if (auto checked = problems.result(); !checked) return std::move(checked).error();
    return settings;
}

Result<RunSettings> load_run_settings(const std::filesystem::path& file) {
    Problems problems;
    auto read = SettingsFile::load(file, problems);
    auto settings = read_all(read.root());
    if (auto checked = problems.result(); !checked) return std::move(checked).error();
    const auto folder = file.parent_path();
    auto& server = settings.server;
    for (auto* path : {&server.certificate, &server.key, &server.client_ca, &server.client_crl, &settings.weights,
                       &settings.signing_key})
        resolve(*path, folder);
    for (auto& site : settings.sites) resolve(site.public_key, folder);
    for (auto& [head, path] : settings.plan.teachers) resolve(path, folder);
    return settings;
}

}  // namespace cardionode::fed
