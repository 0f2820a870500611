// The settings file of cardionode-fedcoord (fedcoord.example.yaml explains each key): server, model, plan, rounds.
//
// Thread safety: a value. Errors: Config with every problem, a line each.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/result.h"
#include "fedclient/coordinator/aggregate.h"

namespace cardionode::fed {

struct ServerSettings {
    std::string bind_address = "127.0.0.1";
    int port = 8000;                         ///< 0: a free one
    int status_port = 0;                     ///< JSON page on 127.0.0.1; 0: off
    std::filesystem::path certificate, key;  ///< PEM; both empty: plain HTTP
    std::filesystem::path client_ca;         ///< PEM; empty: no client certificate is asked for
    std::filesystem::path client_crl;        ///< PEM; empty: nothing is looked up
    int shortest_heartbeat_seconds = 10;     ///< Flower's own bounds are 10 to 1800
};

/// A hospital that may take part. Without any, every key may register.
struct SiteSettings {
    std::string name;
    std::filesystem::path public_key;  ///< PEM
};

struct PlanSettings {
    std::string method = "fedavg";
    std::vector<std::string> heads;
    std::int64_t steps = 100;
    double learning_rate = 0, proximal_mu = 0;
    std::int64_t seed = 1;
    double clip_norm = 0, dp_sigma = 0;
    std::int64_t min_client = 0;
    std::map<std::string, std::filesystem::path> teachers;  ///< head -> safetensors
};

struct RoundSettings {
    std::int64_t first = 1;  ///< number of the first round
    std::int64_t count = 1;  ///< rounds of this run
    int expected_sites = 0;  ///< a round begins at once when so many are online; 0: the quorum
    double gather_seconds = 3600;
    double deadline_seconds = 3600;
    double silent_seconds = 120;  ///< a message that was delivered and never fetched is issued again
    double away_seconds = 300;    ///< how long a round that has its quorum waits for a node that went offline
    int most_issues = 3;          ///< of one message to one site
    double poll_seconds = 3;
    double finish_after_seconds = 5;  ///< the run stays open so long after its last round
    bool keep_updates = false;
};

struct EvaluationSettings {
    bool enabled = true;
    double deadline_seconds = 900;
    double tolerance = 0.02;  ///< largest fall of a head's weighted validation
};

struct RunSettings {
    ServerSettings server;
    std::vector<SiteSettings> sites;
    std::string model_id, arch_sha256;
    std::filesystem::path weights;
    std::filesystem::path signing_key;  ///< PEM, Ed25519; empty: nothing is signed
    PlanSettings plan;
    RoundSettings rounds;
    AggregationRules aggregation;
    EvaluationSettings evaluation;
};

Result<RunSettings> load_run_settings(const std::filesystem::path& file);
/// Relative paths stand as they are.
Result<RunSettings> parse_run_settings(std::string_view yaml, const std::string& name_for_messages);

/// 1 to 64 letters, digits, '-', '_' and '.', no '.' in front: may stand in logs and file names.
bool is_site_name(std::string_view text);

}  // namespace cardionode::fed
