#include "conf/base/node_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace cardionode;
using testing::HasSubstr;

namespace {
std::string problems_of(std::string_view yaml) {
    auto settings = parse_node_settings(yaml, "node.yaml");
    return settings ? "" : settings.error().message;
}
}  // namespace

TEST(NodeSettings, TheShippedFileIsValidAndHoldsEveryDefault) {
    const auto shipped = load_node_settings(CARDIONODE_SOURCE_DIR "/conf/node.yaml");
    ASSERT_TRUE(shipped) << shipped.error().message;
    const NodeSettings defaults;
    EXPECT_EQ(shipped->scp.port, defaults.scp.port);
    EXPECT_EQ(shipped->series.exclude_descriptions, defaults.series.exclude_descriptions);
    EXPECT_EQ(shipped->pipeline.bundle, defaults.pipeline.bundle);
    EXPECT_EQ(shipped->node.database, defaults.node.database);
    EXPECT_EQ(shipped->audit.spool, defaults.audit.spool);
    EXPECT_EQ(shipped->audit.port, defaults.audit.port);
    EXPECT_EQ(shipped->metrics.bind_address, defaults.metrics.bind_address);
    EXPECT_EQ(shipped->metrics.receiver_port, 0);
}

TEST(NodeSettings, NamesFileLineAndKeyOfABadValue) {
    EXPECT_EQ(problems_of("scp:\n  ae_title: A\n  port: eleven\n"),
              "node.yaml:3: scp.port: expected a whole number from 1 to 65535, found \"eleven\"");
}

TEST(NodeSettings, ReportsAllProblemsAtOnce) {
    const std::string text =
        problems_of("scp:\n  port: 0\n  ae_title: 'a\\b'\npipeline:\n  device: gpu\nnonsense: 1\n");
    EXPECT_THAT(text, HasSubstr("node.yaml:2: scp.port"));
    EXPECT_THAT(text, HasSubstr("node.yaml:3: scp.ae_title"));
    EXPECT_THAT(text, HasSubstr("node.yaml:5: pipeline.device"));
    EXPECT_THAT(text, HasSubstr("node.yaml:6: nonsense: unknown key"));
}

TEST(NodeSettings, MistypedKeyIsAnErrorAndNamesTheKnownOnes) {
    EXPECT_THAT(problems_of("scp:\n  prot: 104\n"), HasSubstr("node.yaml:2: scp.prot: unknown key; expected one of "));
}

TEST(NodeSettings, AKeyThatStandsTwiceIsAnError) {
    EXPECT_THAT(problems_of("scp:\n  port: 104\n  port: 105\n"),
                HasSubstr("node.yaml:3: scp.port: the key stands here twice"));
}

TEST(NodeSettings, BrokenYamlIsNamedWithItsLine) {
    EXPECT_THAT(problems_of("scp:\n  port: [1\n"), HasSubstr("not valid YAML"));
    EXPECT_THAT(problems_of("- a\n- b\n"), HasSubstr("expected a mapping of keys at the top level"));
}

TEST(NodeSettings, MissingFileIsNamed) {
    const auto settings = load_node_settings("/nonexistent/node.yaml");
    ASSERT_FALSE(settings);
    EXPECT_EQ(settings.error().kind, ErrorKind::Config);
    EXPECT_THAT(settings.error().message, HasSubstr("/nonexistent/node.yaml"));
}

TEST(NodeSettings, ADestinationNeedsItsAddress) {
    const std::string text = problems_of("destinations:\n  - name: pacs\n    ae_title: PACS\n");
    EXPECT_THAT(text, HasSubstr("node.yaml:2: destinations[0].host: missing"));
    EXPECT_THAT(text, HasSubstr("destinations[0].port: missing"));
}

TEST(NodeSettings, TwoDestinationsMayNotShareAName) {
    EXPECT_THAT(problems_of("destinations:\n"
                            "  - {name: p, ae_title: A, host: h, port: 1}\n"
                            "  - {name: p, ae_title: B, host: h, port: 2}\n"),
                HasSubstr("node.yaml:3: destinations[1].name"));
}

TEST(NodeSettings, ClosedNodeNeedsPeers) {
    EXPECT_THAT(problems_of("scp:\n  accept_unknown_peers: false\n"), HasSubstr("scp.peers"));
}

TEST(NodeSettings, TlsNeedsItsFilesAndAPort) {
    const std::string bare = problems_of("scp:\n  tls:\n    port: 2762\n");
    EXPECT_THAT(bare, HasSubstr("node.yaml:3: scp.tls.certificate: expected a file"));
    EXPECT_THAT(bare, HasSubstr("node.yaml:3: scp.tls.ca: expected a file"));
    EXPECT_THAT(problems_of("scp:\n  tls:\n    only: true\n"), HasSubstr("node.yaml:3: scp.tls.only: expected a port"));
    EXPECT_THAT(problems_of("scp:\n  tls: {port: 11112, certificate: c, key: k, ca: a}\n"),
                HasSubstr("scp.tls: expected another port than the plain one"));
    EXPECT_THAT(problems_of("scp:\n  tls: {port: 2762, certificate: c, ca: a}\n"), HasSubstr("scp.tls.key"));
    EXPECT_THAT(problems_of("scp:\n  tls: {port: 2762, certificate: c, key: k, crl: r, "
                            "require_client_certificate: false}\n"),
                HasSubstr("scp.tls.ca: expected the CAs that the revocation list is of"));
    EXPECT_EQ(problems_of("scp:\n  tls: {port: 2762, certificate: c, key: k, ca: a, only: true}\n"), "");
}

TEST(NodeSettings, FingerprintsAreTakenWithColonsAndNeedTls) {
    std::string colons, digits;
    for (int i = 0; i < 32; ++i) {
        colons += i == 0 ? "AB" : ":0F";
        digits += i == 0 ? "ab" : "0f";
    }
    const std::string peers = "  peers: [{ae_title: CT1, certificate_sha256: '" + colons + "'}]\n";
    EXPECT_THAT(problems_of("scp:\n" + peers), HasSubstr("scp.peers[0].certificate_sha256: expected scp.tls"));
    const auto settings =
        parse_node_settings("scp:\n  tls: {port: 2762, certificate: c, key: k, ca: a}\n" + peers, "node.yaml");
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->scp.peers.at(0).certificate_sha256, digits);
    EXPECT_THAT(problems_of("scp:\n  peers: [{ae_title: CT1, certificate_sha256: abc}]\n"),
                HasSubstr("expected the SHA-256 of a certificate, 64 hex digits"));
}

TEST(NodeSettings, ADestinationWithTlsNeedsItsCa) {
    const std::string destination = "destinations:\n  - {name: p, ae_title: A, host: h, port: 1, tls: ";
    EXPECT_THAT(problems_of(destination + "{certificate: c}}\n"), HasSubstr("destinations[0].tls.ca: missing"));
    EXPECT_THAT(problems_of(destination + "{ca: a, certificate: c}}\n"), HasSubstr("destinations[0].tls.key"));
    EXPECT_THAT(problems_of(destination + "{ca: a, name: x}}\n"), HasSubstr("destinations[0].tls.name: unknown key"));
    const auto settings = parse_node_settings(destination + "{ca: a, host_name: pacs.example}}\n", "node.yaml");
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->destinations.at(0).tls->host_name, "pacs.example");
    EXPECT_FALSE(parse_node_settings("destinations:\n  - {name: p, ae_title: A, host: h, port: 1}\n", "node.yaml")
                     ->destinations.at(0)
                     .tls);
}

TEST(NodeSettings, PeerAddressesAreChecked) {
    EXPECT_THAT(problems_of("scp:\n  peers:\n    - {ae_title: CT1, addresses: [10.0.0.0/33]}\n"),
                HasSubstr("node.yaml:3: scp.peers[0].addresses"));
}

TEST(NodeSettings, AuditGoesWithoutTlsOnlyToThisMachine) {
    EXPECT_THAT(problems_of("audit:\n  host: 10.0.0.5\n  transport: tcp\n"),
                HasSubstr("node.yaml:3: audit.transport: expected tls"));
    EXPECT_THAT(problems_of("audit:\n  host: 127.evil.example\n  transport: udp\n"), HasSubstr("audit.transport"));
    EXPECT_EQ(problems_of("audit:\n  host: 127.0.0.1\n  transport: tcp\n"), "");
    EXPECT_EQ(problems_of("audit:\n  host: \"::1\"\n  transport: udp\n"), "");
}

TEST(NodeSettings, AuditOverTlsNeedsTheCaAndAKeyBesideItsCertificate) {
    EXPECT_THAT(problems_of("audit:\n  host: arr.example\n"), HasSubstr("audit.ca_file"));
    EXPECT_THAT(problems_of("audit:\n  host: arr.example\n  ca_file: /ca.pem\n  certificate_file: /node.pem\n"),
                HasSubstr("audit.key_file: expected certificate_file and key_file together"));
}

TEST(NodeSettings, MetricsAreForThisMachineUnlessAskedOtherwise) {
    EXPECT_THAT(problems_of("metrics:\n  bind_address: 0.0.0.0\n"),
                HasSubstr("node.yaml:2: metrics.bind_address: expected 127.0.0.1 or ::1"));
    EXPECT_EQ(problems_of("metrics:\n  bind_address: 0.0.0.0\n  allow_other_machines: true\n"), "");
    EXPECT_THAT(problems_of("metrics: {receiver_port: 9404, pipeline_port: 9404}\n"),
                HasSubstr("metrics.pipeline_port"));
}

TEST(NodeSettings, APeerThatGetsReportsNeedsAHost) {
    EXPECT_THAT(problems_of("scp:\n  peers:\n    - {ae_title: CT1, port: 105}\n"),
                HasSubstr("node.yaml:3: scp.peers[0].port: expected host beside it"));
    EXPECT_THAT(problems_of("scp:\n  peers:\n    - {ae_title: CT1, host: 'a b'}\n"), HasSubstr("scp.peers[0].host"));
    const auto settings =
        parse_node_settings("scp:\n  peers:\n    - {ae_title: CT1, host: ct1.example, port: 105}\n", "node.yaml");
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->scp.peers.at(0).host, "ct1.example");
    EXPECT_EQ(settings->scp.peers.at(0).port, 105);
}

TEST(NodeSettings, SayWhatBecomesOfImagesThatDoNotComeAsTheyShould) {
    EXPECT_THAT(problems_of("scp:\n  late_images: ignore\n"), HasSubstr("node.yaml:2: scp.late_images: expected"));
    EXPECT_THAT(problems_of("scp:\n  other_patient_id: drop\n"), HasSubstr("node.yaml:2: scp.other_patient_id"));
    EXPECT_THAT(problems_of("scp:\n  study_quiet_seconds: 600\n  longest_study_minutes: 9\n"),
                HasSubstr("scp.longest_study_minutes: expected at least study_quiet_seconds, or 0"));
    const auto settings = parse_node_settings(
        "scp:\n  longest_study_minutes: 0\n  late_images: keep\n  other_patient_id: accept\n", "node.yaml");
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->scp.longest_study_minutes, 0);
}

TEST(NodeSettings, CommitmentIsOffWhenOfferedOrRequired) {
    const auto with = [](const std::string& word) {
        return "destinations:\n  - {name: p, ae_title: A, host: h, port: 1, commitment: " + word + "}\n";
    };
    EXPECT_THAT(problems_of(with("sometimes")), HasSubstr("node.yaml:2: destinations[0].commitment"));
    for (const char* word : {"'off'", "when_offered", "required"})
        EXPECT_TRUE(parse_node_settings(with(word), "node.yaml")) << word;
    EXPECT_TRUE(parse_node_settings(with("off"), "node.yaml")) << "a word here, as yaml-cpp reads it, no boolean";
}
