// The section `federated` of node.yaml as one value, with every default, unit and range. conf/node.yaml says what each
// is for.
//
// conf/base knows only that the section exists; it is read and checked here, because what it talks about (transports,
// rules of privacy, methods) stands above conf/base. Thread safety: a value; read once at start.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "fedclient/privacy/inbound.h"
#include "fedclient/privacy/outbound.h"

namespace cardionode::fed {

struct TransportSettings {
    std::string kind = "flower-http-v1";  ///< flower-http-v1 | flower-http-v0 | dir
    std::string address;                  ///< https://host[:port]; http only to this machine
    std::filesystem::path folder;         ///< kind dir: where messages come in and replies go out
    TlsFiles tls;                         ///< certificate and key: the hospital's; ca: who signed the server's
    std::filesystem::path node_key;       ///< PEM, EC; empty: tls.key
    std::vector<std::string> pins;        ///< SHA-256 of the server's public key (SPKI), 64 hex digits: now, and next
    int heartbeat_seconds = 30;
    double poll_seconds = 3;
};

/// When the client may work, by this machine's clock and time zone.
struct WindowSettings {
    std::string from = "01:00", until = "05:30";  ///< HH:MM; may reach over midnight; the same twice: always
    int wait_for_message_minutes = 60;            ///< without a message the night ends
    int upload_reserve_seconds = 300;             ///< kept back for sending, at least
};

struct ModelSettings {
    std::string id;                        ///< as the consortium calls it
    std::filesystem::path recipe;          ///< models/train/recipe.h
    std::filesystem::path bundle;          ///< whose manifest says what labels mean; promotion starts from it
    bool second_look = false;              ///< the federation trains the bundle's second network
    std::filesystem::path teacher_recipe;  ///< fedkd_student: architecture of the teachers; empty: none
};

/// Which of the node's studies are learned from.
struct DataSettings {
    std::int64_t max_age_days = 365;
    std::int64_t max_studies = 500;
    std::int64_t max_mib = 20480;                ///< of study files
    std::vector<std::string> calling_ae_titles;  ///< only studies from these senders; empty: from any
    bool only_labelled = false;                  ///< studies without a person's label are left out
    bool half = true;                            ///< images as float16
    double holdout = 0.2;                        ///< of the patients; fixed by the first study for ever
    std::int64_t split_seed = 0;                 ///< likewise
    std::int64_t minimum_holdout_studies = 3;    ///< fewer: nothing is validated, so nothing is learned or sent
};

struct PrivacySettings {
    OutboundRules outbound;
    InboundRules inbound;
    double epsilon = 0;   ///< that may be spent in all; 0: no bound
    double delta = 1e-5;  ///< of that epsilon
};

/// The most that a round may ask for; beyond it the client refuses the round.
struct BoundsSettings {
    std::vector<std::string> methods = {"fedavg", "fedkd_teacher", "fedkd_student"};
    std::int64_t most_steps = 2000;
    double most_learning_rate = 0.01;
    double most_proximal_mu = 1;
};

/// How much worse a head may become before a model counts as worse.
struct ToleranceSettings {
    double dice = 0.03;
    double point_mm = 1.0;
};

struct ComputeSettings {
    std::string device = "cpu";  ///< auto | cuda | cuda:N | cpu
    int threads = 1;
    int nice = 10;
    int cpu_percent = 100;         ///< of the time that training may compute
    bool pause_for_clinic = true;  ///< while a study is ready or being worked on
    double clinic_poll_seconds = 5;
};

struct PromotionSettings {
    std::filesystem::path folder = "/var/lib/cardionode/models";  ///< <model id>/current is the link
    bool automatic = false;    ///< true: staged models that pass go live by themselves
    double least_dice = 0.7;   ///< of every mask head, on the own hold-out
    double most_point_mm = 5;  ///< of every point head
    std::int64_t least_holdout_studies = 5;
    int keep = 5;  ///< versions; the one in use is never removed
};

struct FederatedSettings {
    bool enabled = false;
    std::filesystem::path state = "/var/lib/cardionode/fedclient";
    TransportSettings transport;
    std::filesystem::path consortium_key;  ///< PEM, Ed25519 public key that signs models
    std::vector<ModelSettings> models;
    WindowSettings window;
    DataSettings data;
    PrivacySettings privacy;
    BoundsSettings bounds;
    ToleranceSettings tolerance;
    ComputeSettings compute;
    int keep_accepted = 5;               ///< staged global models of each model id
    std::int64_t keep_rounds_days = 30;  ///< files of rounds that are over
    std::int64_t least_free_mib = 2048;  ///< below it no round begins
    PromotionSettings promotion;

    const ModelSettings* model(std::string_view id) const {
        for (const ModelSettings& m : models) {
            if (m.id == id) return &m;
        }
        return nullptr;
    }
};

/// Both parts of one file.
struct FederatedNode {
    NodeSettings node;
    FederatedSettings federated;
};

/// Config: every problem of the whole file, a line each, "file:line: key: expected ...".
Result<FederatedNode> load_federated(const std::filesystem::path& file);
Result<FederatedNode> parse_federated(std::string_view yaml, const std::string& name_for_messages);

/// Whether the files that the section names are there and may be read. Config: a line for each that is not.
Result<void> check_federated_files(const FederatedSettings& settings);

/// Minutes since midnight of "HH:MM"; -1: no time of day.
int minutes_of_day(std::string_view text);

}  // namespace cardionode::fed
