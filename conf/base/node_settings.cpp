#include "conf/base/node_settings.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <arpa/inet.h>

#include "conf/base/settings.h"

namespace cardionode {
namespace {

bool is_address(std::string_view text) {
    unsigned char buffer[16];
    const std::string s(text);
    return inet_pton(AF_INET, s.c_str(), buffer) == 1 || inet_pton(AF_INET6, s.c_str(), buffer) == 1;
}

bool is_cidr(std::string_view text) {
    const auto slash = text.find('/');
    const std::string_view address = text.substr(0, slash);
    if (!is_address(address)) return false;
    if (slash == std::string_view::npos) return true;
    const std::string_view digits = text.substr(slash + 1);
    int bits = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
    const int most = address.find(':') == std::string_view::npos ? 32 : 128;
    return error == std::errc() && end == digits.data() + digits.size() && bits >= 0 && bits <= most;
}

bool is_device(std::string_view text) {
    if (text == "auto" || text == "cuda" || text == "cpu") return true;
    if (text.substr(0, 5) != "cuda:" || text.size() < 6 || text.size() > 7) return false;
    return std::all_of(text.begin() + 5, text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_word(std::string_view text) {
    return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    });
}

bool is_host(std::string_view text) {
    return !text.empty() && text.size() <= 253 && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
               c == ':';
    });
}

/// 64 hex digits, as `openssl x509 -fingerprint -sha256` prints them (with colons) or without.
std::string plain_fingerprint(std::string_view text) {
    std::string digits;
    for (const char c : text) {
        if (c != ':') digits += (c >= 'A' && c <= 'F') ? static_cast<char>(c - 'A' + 'a') : c;
    }
    return digits;
}

bool is_fingerprint(std::string_view text) {
    const std::string digits = plain_fingerprint(text);
    return text.empty() || (digits.size() == 64 && digits.find_first_not_of("0123456789abcdef") == std::string::npos);
}

void read_fingerprint(Section& s, std::string& target) {
    s.text("certificate_sha256", target, is_fingerprint, "the SHA-256 of a certificate, 64 hex digits");
    target = plain_fingerprint(target);
}

/// Other than paths elsewhere, these may be empty.
void read_tls_files(Section& s, TlsFiles& files) {
    const auto path = [&s](std::string_view key, std::filesystem::path& target) {
        std::string text;
        s.text(key, text, {}, "the path of a file");
        target = text;
    };
    path("certificate", files.certificate);
    path("key", files.key);
    path("ca", files.ca);
    path("crl", files.crl);
    if (files.certificate.empty() != files.key.empty())
        s.problem(files.key.empty() ? "key" : "certificate", "expected a file: certificate and key belong together");
    if (!files.crl.empty() && files.ca.empty()) s.problem("ca", "expected the CAs that the revocation list is of");
}

constexpr auto kAeTitle = "1 to 16 characters without a backslash";

NodeFolders read_node(Section s) {
    NodeFolders c;
    s.path("spool", c.spool);
    s.path("work", c.work);
    s.path("database", c.database);
    s.one_of("log_level", c.log_level, {"debug", "info", "warning", "error"});
    s.no_other_keys();
    return c;
}

bool is_file_name(std::string_view text) {
    return text.find('/') == std::string_view::npos && text != "." && text != "..";
}

ScpTlsSettings read_scp_tls(Section s) {
    ScpTlsSettings c;
    s.integer("port", c.port, 0, 65535);
    s.boolean("only", c.only);
    read_tls_files(s, c.files);
    s.boolean("require_client_certificate", c.require_client_certificate);
    if (c.only && c.port == 0) s.problem("only", "expected a port for TLS, or false: otherwise no port is open");
    if (c.port != 0 && c.files.certificate.empty()) s.problem("certificate", "expected a file, as TLS has a port");
    if (c.port != 0 && c.require_client_certificate && c.files.ca.empty())
        s.problem("ca", "expected a file, as clients must show a certificate");
    s.no_other_keys();
    return c;
}

ScpSettings read_scp(Section s) {
    ScpSettings c;
    s.text("ae_title", c.ae_title, is_ae_title, kAeTitle);
    s.text("bind_address", c.bind_address, is_address, "an IPv4 or IPv6 address");
    s.integer("port", c.port, 1, 65535);
    c.tls = read_scp_tls(s.section("tls"));
    if (c.tls.port == c.port && !c.tls.only) s.problem("tls", "expected another port than the plain one");
    s.boolean("accept_any_called_ae", c.accept_any_called_ae);
    for (Section& p : s.sections("peers")) {
        PeerSettings peer;
        p.required("ae_title", kAeTitle);
        p.text("ae_title", peer.ae_title, is_ae_title, kAeTitle);
        p.texts("addresses", peer.addresses, is_cidr, "a list of addresses such as 10.1.2.0/24");
        read_fingerprint(p, peer.certificate_sha256);
        if (!peer.certificate_sha256.empty() && (c.tls.port == 0 || c.tls.files.ca.empty()))
            p.problem("certificate_sha256", "expected scp.tls with a port and a CA: a plain peer shows no certificate");
        p.text("host", peer.host, is_host, "a host name or address");
        p.integer("port", peer.port, 1, 65535);
        if (p.has("port") && !p.has("host")) p.problem("port", "expected host beside it");
        p.no_other_keys();
        c.peers.push_back(std::move(peer));
    }
    s.boolean("accept_unknown_peers", c.accept_unknown_peers);
    s.boolean("storage_commitment", c.storage_commitment);
    s.integer("max_associations", c.max_associations, 1, 512);
    s.integer("max_associations_per_address", c.max_associations_per_address, 1, 512);
    s.integer("association_timeout_seconds", c.association_timeout_seconds, 1, 600);
    s.integer("dimse_timeout_seconds", c.dimse_timeout_seconds, 1, 3600);
    s.integer("longest_association_seconds", c.longest_association_seconds, 1, 604'800);
    s.integer("max_pdu_bytes", c.max_pdu_bytes, 4096, 131072);
    s.integer("max_object_mib", c.max_object_mib, 1, 4095);
    s.integer("min_free_mib", c.min_free_mib, 0, 1 << 30);
    s.integer("journal_spare_mib", c.journal_spare_mib, 0, 1 << 20);
    s.text("spool_sentinel", c.spool_sentinel, is_file_name, "a file name without a slash, or nothing");
    s.integer("keep_finished_days", c.keep_finished_days, 0, 36'500);
    s.integer("keep_free_mib", c.keep_free_mib, 0, 1 << 30);
    s.integer("series_quiet_seconds", c.series_quiet_seconds, 1, 86400);
    s.integer("study_quiet_seconds", c.study_quiet_seconds, 1, 86400);
    if (c.study_quiet_seconds < c.series_quiet_seconds) {
        s.problem("study_quiet_seconds", "expected at least series_quiet_seconds");
    }
    s.integer("longest_study_minutes", c.longest_study_minutes, 0, 10'080);
    if (c.longest_study_minutes != 0 && 60 * c.longest_study_minutes < c.study_quiet_seconds) {
        s.problem("longest_study_minutes", "expected at least study_quiet_seconds, or 0");
    }
    s.one_of("late_images", c.late_images, {"new_revision", "keep"});
    s.one_of("other_patient_id", c.other_patient_id, {"set_aside", "keep_first", "accept"});
    if (!c.accept_unknown_peers && c.peers.empty()) {
        s.problem("peers", "expected at least one peer when accept_unknown_peers is false");
    }
    s.no_other_keys();
    return c;
}

SeriesSettings read_series(Section s) {
    SeriesSettings c;
    s.integer("min_slices", c.min_slices, 2, 10000);
    s.number("max_slice_thickness_mm", c.max_slice_thickness_mm, 0.1, 20);
    s.number("min_coverage_mm", c.min_coverage_mm, 10, 2000);
    s.number("min_field_of_view_mm", c.min_field_of_view_mm, 10, 2000);
    s.number("max_spacing_jitter_mm", c.max_spacing_jitter_mm, 0.001, 5);
    s.one_of("uneven_spacing", c.uneven_spacing, {"refuse", "resample"});
    s.one_of("gantry_tilt", c.gantry_tilt, {"refuse", "resample"});
    s.number("max_gap_mm", c.max_gap_mm, 0.5, 50);
    s.boolean("prefer_contrast", c.prefer_contrast);
    s.number("prefer_phase_percent", c.prefer_phase_percent, 0, 100);
    s.texts(
        "exclude_descriptions", c.exclude_descriptions, [](std::string_view w) { return !w.empty(); },
        "a list of words");
    s.no_other_keys();
    return c;
}

PipelineSettings read_pipeline(Section s) {
    PipelineSettings c;
    s.path("bundle", c.bundle);
    s.text("device", c.device, is_device, "auto, cuda, cuda:N or cpu");
    s.boolean("mixed_precision", c.mixed_precision);
    s.one_of("test_time_shifts", c.test_time_shifts, {"none", "shift", "shift_scale"});
    s.integer("threads", c.threads, 0, 256);
    s.integer("lease_seconds", c.lease_seconds, 5, 3600);
    s.integer("max_attempts", c.max_attempts, 1, 100);
    s.integer("retry_first_seconds", c.retry_first_seconds, 1, 86400);
    s.integer("retry_longest_seconds", c.retry_longest_seconds, 1, 86400);
    s.number("poll_seconds", c.poll_seconds, 0.01, 60);
    if (c.retry_longest_seconds < c.retry_first_seconds) {
        s.problem("retry_longest_seconds", "expected at least retry_first_seconds");
    }
    s.no_other_keys();
    return c;
}

OutputSettings read_outputs(Section s) {
    OutputSettings c;
    s.text(
        "manufacturer", c.manufacturer, [](std::string_view t) { return !t.empty() && t.size() <= 64; },
        "1 to 64 characters");
    s.text(
        "institution", c.institution, [](std::string_view t) { return t.size() <= 64; }, "at most 64 characters");
    s.number("min_landmark_confidence", c.min_landmark_confidence, 0, 1);
    s.no_other_keys();
    return c;
}

DestinationTlsSettings read_destination_tls(Section s) {
    DestinationTlsSettings c;
    s.required("ca", "the path of a file");
    read_tls_files(s, c.files);
    s.text(
        "host_name", c.host_name, [](std::string_view text) { return text.empty() || is_host(text); },
        "a host name or address");
    read_fingerprint(s, c.certificate_sha256);
    s.no_other_keys();
    return c;
}

DestinationSettings read_destination(Section s) {
    DestinationSettings c;
    s.required("name", "a word of letters, digits, - and _");
    s.required("ae_title", kAeTitle);
    s.required("host", "a host name or address");
    s.required("port", "a whole number from 1 to 65535");
    s.text("name", c.name, is_word, "a word of letters, digits, - and _");
    s.text("ae_title", c.ae_title, is_ae_title, kAeTitle);
    s.text("host", c.host, is_host, "a host name or address");
    s.integer("port", c.port, 1, 65535);
    s.text("calling_ae_title", c.calling_ae_title, is_ae_title, kAeTitle);
    s.integer("retry_first_seconds", c.retry_first_seconds, 1, 86400);
    s.integer("retry_longest_seconds", c.retry_longest_seconds, 1, 86400);
    s.integer("give_up_hours", c.give_up_hours, 1, 8760);
    if (Section tls = s.section("tls"); s.has("tls")) c.tls = read_destination_tls(tls);
    s.one_of("commitment", c.commitment, {"off", "when_offered", "required"});
    s.integer("commitment_wait_seconds", c.commitment_wait_seconds, 1, 86400);
    if (c.retry_longest_seconds < c.retry_first_seconds) {
        s.problem("retry_longest_seconds", "expected at least retry_first_seconds");
    }
    s.no_other_keys();
    return c;
}

AuditSettings read_audit(Section s) {
    AuditSettings c;
    s.text(
        "host", c.host, [](std::string_view t) { return t.empty() || is_host(t); }, "a host name or address");
    s.integer("port", c.port, 1, 65535);
    s.one_of("transport", c.transport, {"tls", "tcp", "udp"});
    const auto file = [&s](std::string_view key, std::filesystem::path& target) {  // may be empty: none
        std::string text = target.string();
        s.text(key, text);
        target = text;
    };
    file("ca_file", c.ca_file);
    file("certificate_file", c.certificate_file);
    file("key_file", c.key_file);
    s.path("spool", c.spool);
    s.integer("spool_mib", c.spool_mib, 1, 1 << 20);
    s.text(
        "source_id", c.source_id,
        [](std::string_view t) {
            return t.size() <= 64 && std::ranges::all_of(t, [](char x) { return x > 0x20 && x < 0x7f; });
        },
        "up to 64 visible characters without a space");
    s.boolean("study_uids", c.study_uids);
    if (!c.host.empty() && c.transport != "tls" && !is_this_machine(c.host))
        s.problem("transport", "expected tls: without it audit messages go only to this machine (127.0.0.1, ::1)");
    if (!c.host.empty() && c.transport == "tls" && c.ca_file.empty())
        s.problem("ca_file", "expected the file of the CA that signed the repository's certificate");
    if (c.certificate_file.empty() != c.key_file.empty())
        s.problem("key_file", "expected certificate_file and key_file together, or neither");
    s.no_other_keys();
    return c;
}

MetricsSettings read_metrics(Section s) {
    MetricsSettings c;
    s.text("bind_address", c.bind_address, is_address, "an IPv4 or IPv6 address");
    s.integer("receiver_port", c.receiver_port, 0, 65535);
    s.integer("pipeline_port", c.pipeline_port, 0, 65535);
    s.boolean("allow_other_machines", c.allow_other_machines);
    if (!c.allow_other_machines && !is_this_machine(c.bind_address))
        s.problem("bind_address", "expected 127.0.0.1 or ::1, or allow_other_machines: true (it asks for no password)");
    if (c.receiver_port != 0 && c.receiver_port == c.pipeline_port)
        s.problem("pipeline_port", "expected another port than receiver_port");
    s.no_other_keys();
    return c;
}

NodeSettings read_all(Section root) {
    NodeSettings c;
    c.node = read_node(root.section("node"));
    c.scp = read_scp(root.section("scp"));
    c.series = read_series(root.section("series"));
    c.pipeline = read_pipeline(root.section("pipeline"));
    c.outputs = read_outputs(root.section("outputs"));
    c.audit = read_audit(root.section("audit"));
    c.metrics = read_metrics(root.section("metrics"));
    std::set<std::string> names;
    for (const Section& d : root.sections("destinations")) {
        c.destinations.push_back(read_destination(d));
        const std::string& name = c.destinations.back().name;
        if (!name.empty() && !names.insert(name).second) {
            Section(d).problem("name", "expected a name that no other destination has");
        }
    }
    (void)root.section("federated");  // fedclient/round/settings.h reads it
    root.no_other_keys();
    return c;
}

Result<NodeSettings> checked(const SettingsFile& file, const Problems& problems) {
    NodeSettings settings = read_all(file.root());
    if (auto result = problems.result(); !result) return std::move(result).error();
    return settings;
}

}  // namespace

bool is_this_machine(std::string_view host) {
    const std::string name(host);
    unsigned char four[4];
    if (inet_pton(AF_INET, name.c_str(), four) == 1) return four[0] == 127;
    return name == "::1" || name == "localhost";
}

bool is_ae_title(std::string_view text) {
    if (text.empty() || text.size() > 16) return false;
    bool visible = false;
    for (const char c : text) {
        if (c < 0x20 || c > 0x7e || c == '\\') return false;
        visible = visible || c != ' ';
    }
    return visible;
}

Result<NodeSettings> load_node_settings(const std::filesystem::path& file) {
    Problems problems;
    return checked(SettingsFile::load(file, problems), problems);
}

Result<NodeSettings> parse_node_settings(std::string_view yaml, const std::string& name_for_messages) {
    Problems problems;
    return checked(SettingsFile::parse(yaml, name_for_messages, problems), problems);
}

}  // namespace cardionode
