// Every setting of node.yaml as one value, with its default, unit and range. conf/node.yaml says what each is for.
// (But for the section `federated`, which fedclient/round/settings.h reads: it is only let through here.)
//
// Thread safety: a value; read once at start and handed on by const reference. Nothing reads settings from elsewhere.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "conf/base/log.h"
#include "conf/base/result.h"

namespace cardionode {

struct NodeFolders {
    std::filesystem::path spool = "/var/lib/cardionode/spool";
    std::filesystem::path work = "/var/lib/cardionode/work";
    std::filesystem::path database = "/var/lib/cardionode/queue/queue.db";
    std::string log_level = "info";
};

/// PEM files of one side of a TLS connection. They are opened where they are used (scp/dicom/tls.h).
struct TlsFiles {
    std::filesystem::path certificate;  ///< our own, then those between it and its CA
    std::filesystem::path key;
    std::filesystem::path ca;   ///< CA certificates that the peer's certificate must come from
    std::filesystem::path crl;  ///< revocation lists of all these CAs; empty: nothing is looked up
};

struct ScpTlsSettings {
    int port = 0;       ///< 0: no TLS
    bool only = false;  ///< the plain port stays closed
    TlsFiles files;
    bool require_client_certificate = true;
};

struct PeerSettings {
    std::string ae_title;
    std::vector<std::string> addresses = {};  ///< CIDR or single address; empty: any address
    std::string certificate_sha256 = {};      ///< 64 lower-case hex digits; empty: any certificate, or none
    std::string host = {};                    ///< where reports of storage commitment go; empty: only where it asked
    int port = 104;
};

struct ScpSettings {
    std::string ae_title = "CARDIONODE";
    std::string bind_address = "127.0.0.1";
    int port = 11112;
    ScpTlsSettings tls;
    bool accept_any_called_ae = false;
    std::vector<PeerSettings> peers;
    bool accept_unknown_peers = true;
    bool storage_commitment = true;
    int max_associations = 32;
    int max_associations_per_address = 32;
    int association_timeout_seconds = 30;
    int dimse_timeout_seconds = 60;
    int longest_association_seconds = 43'200;
    int max_pdu_bytes = 131072;
    int max_object_mib = 2048;
    int min_free_mib = 2048;
    int journal_spare_mib = 2048;
    std::string spool_sentinel;  ///< name of a file in the spool that must be there; empty: none is asked for
    int keep_finished_days = 30;
    int keep_free_mib = 8192;
    int series_quiet_seconds = 20;
    int study_quiet_seconds = 60;
    int longest_study_minutes = 240;
    std::string late_images = "new_revision";    ///< new_revision | keep
    std::string other_patient_id = "set_aside";  ///< set_aside | keep_first | accept
};

struct SeriesSettings {
    int min_slices = 40;
    double max_slice_thickness_mm = 3.0;
    double min_coverage_mm = 80;
    double min_field_of_view_mm = 120;
    double max_spacing_jitter_mm = 0.3;
    std::string uneven_spacing = "refuse";  ///< refuse | resample
    std::string gantry_tilt = "resample";   ///< refuse | resample
    double max_gap_mm = 5.0;
    bool prefer_contrast = true;
    double prefer_phase_percent = 35;
    std::vector<std::string> exclude_descriptions = {"scout", "localizer", "topogram", "dose", "monitoring", "bolus"};
};

struct PipelineSettings {
    std::filesystem::path bundle = "/usr/share/cardionode/bundles/heart-root-unet16";
    std::string device = "auto";  ///< auto | cuda | cuda:N | cpu
    bool mixed_precision = true;
    std::string test_time_shifts = "shift";  ///< none | shift | shift_scale
    int threads = 0;
    int lease_seconds = 120;
    int max_attempts = 5;
    int retry_first_seconds = 30;
    int retry_longest_seconds = 3600;
    double poll_seconds = 1.0;
};

struct OutputSettings {
    std::string manufacturer = "cardionode";
    std::string institution;
    double min_landmark_confidence = 0.3;  ///< 0..1
};

struct DestinationTlsSettings {
    TlsFiles files;                  ///< certificate and key may be empty: then we show none
    std::string host_name;           ///< that the peer's certificate must carry; empty: the destination's host
    std::string certificate_sha256;  ///< the peer's certificate itself, instead of a name in it; empty: by name
};

struct DestinationSettings {
    std::string name;
    std::string ae_title;
    std::string host;
    int port = 104;
    std::string calling_ae_title = "CARDIONODE";
    int retry_first_seconds = 10;
    int retry_longest_seconds = 3600;
    int give_up_hours = 72;
    std::optional<DestinationTlsSettings> tls;  ///< none: plain
    std::string commitment = "when_offered";    ///< off | when_offered | required
    int commitment_wait_seconds = 600;
};

struct AuditSettings {
    std::string host;  ///< of the audit repository; empty: no audit trail
    int port = 6514;
    std::string transport = "tls";           ///< tls | tcp | udp; without TLS only to this machine
    std::filesystem::path ca_file;           ///< PEM; who may have signed the repository's certificate
    std::filesystem::path certificate_file;  ///< PEM; the node's own; empty: none
    std::filesystem::path key_file;
    std::filesystem::path spool = "/var/lib/cardionode/audit";
    int spool_mib = 64;
    std::string source_id;  ///< Audit Source ID; empty: scp.ae_title
    bool study_uids = false;
    bool operator==(const AuditSettings&) const = default;
};

struct MetricsSettings {
    std::string bind_address = "127.0.0.1";
    int receiver_port = 0;  ///< 0: off
    int pipeline_port = 0;
    bool allow_other_machines = false;  ///< false: only a loopback address is accepted
    bool operator==(const MetricsSettings&) const = default;
};

struct NodeSettings {
    NodeFolders node;
    ScpSettings scp;
    SeriesSettings series;
    PipelineSettings pipeline;
    OutputSettings outputs;
    std::vector<DestinationSettings> destinations;
    AuditSettings audit;
    MetricsSettings metrics;
};

/// Reads and checks the whole file. Config: one message with every problem, a line each, "file:line: key: expected
/// ...".
Result<NodeSettings> load_node_settings(const std::filesystem::path& file);
Result<NodeSettings> parse_node_settings(std::string_view yaml, const std::string& name_for_messages);

/// 127.0.0.0/8, ::1 or the word localhost.
bool is_this_machine(std::string_view host);

/// 1 to 16 characters of the default repertoire, no backslash, not only spaces (PS3.5 6.2, VR AE).
bool is_ae_title(std::string_view text);

}  // namespace cardionode
