// Outputs to a PACS over TLS: DCMTK's storescp as the PACS, with certificates of the test's own.
#include <chrono>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/send/store_scu.h"
#include "tests/pipeline/send/peer.h"
#include "tests/pipeline/send/sample.h"
#include "tests/support/authority.h"
#include "tests/support/free_port.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;
using testing::HasSubstr;

namespace {

class StoreTls : public testing::Test {
protected:
    static void SetUpTestSuite() { prepare_dicom_network(2, 2); }
    void SetUp() override {
        if (!installed("storescp")) GTEST_SKIP() << "dcmtk's tools are not installed";
        std::filesystem::create_directory(folder_ / "pacs");
    }

    void start_pacs(const Authority::Issued& certificate, const std::vector<std::string>& more = {}) {
        std::vector<std::string> words = {"storescp",        "+tls", certificate.key, certificate.certificate, "+cf",
                                          ca_.certificate(), "-od",  folder_ / "pacs"};
        words.insert(words.end(), more.begin(), more.end());
        words.push_back(std::to_string(port_));
        pacs_.emplace(Process::start(words, {}));
        ASSERT_TRUE(eventually(std::chrono::seconds(10), [&] { return listens(port_); }));
    }
    DestinationSettings destination() const {
        DestinationSettings d;
        d.name = "pacs1";
        d.ae_title = "PACS1";
        d.host = "127.0.0.1";
        d.port = port_;
        d.tls.emplace();
        d.tls->files = {node_.certificate, node_.key, ca_.certificate(), {}};
        return d;
    }
    Result<std::string> send(const DestinationSettings& d) {
        return store_output(folder_ / "a.dcm", output_, d, {3, 3});
    }
    void expect_retry(const DestinationSettings& d, const std::string& words) {
        const auto sent = send(d);
        ASSERT_FALSE(sent);
        EXPECT_EQ(sent.error().kind, ErrorKind::Retry);
        EXPECT_THAT(sent.error().message, HasSubstr(words));
        EXPECT_EQ(received(), 0);
    }
    long received() const { return std::distance(std::filesystem::directory_iterator(folder_ / "pacs"), {}); }

    TemporaryFolder folder_;
    int port_ = free_port();
    OutputFile output_ = write_sample(folder_.path(), "a.dcm", 400);
    Authority ca_{folder_ / "pki", "hospital"};
    Authority::Issued node_ = ca_.issue("node");
    std::optional<Process> pacs_;
};

}  // namespace

TEST_F(StoreTls, AnOutputArrives) {
    start_pacs(ca_.issue("pacs"));
    for (int i = 0; i < 2; ++i) {
        const auto sent = send(destination());
        ASSERT_TRUE(sent) << sent.error().message;
    }
    EXPECT_EQ(received(), 1);
}

TEST_F(StoreTls, TheNameInTheCertificateCounts) {
    start_pacs(ca_.issue("pacs", {"pacs", "DNS:pacs.example"}));
    expect_retry(destination(), "other_name");
    DestinationSettings named = destination();
    named.tls->host_name = "pacs.example";
    const auto sent = send(named);
    EXPECT_TRUE(sent) << sent.error().message;
}

TEST_F(StoreTls, AStrangersCertificateGetsNothing) {
    Authority other(folder_ / "other", "hospital");
    start_pacs(other.issue("pacs"));
    expect_retry(destination(), "unknown_ca");
}

TEST_F(StoreTls, AnExpiredOrRevokedCertificateGetsNothing) {
    const auto revoked = ca_.issue("revoked");
    start_pacs(revoked);
    DestinationSettings d = destination();
    d.tls->files.crl = ca_.revoke({revoked.serial});
    expect_retry(d, "certificate_revoked");
    pacs_->stop();
    start_pacs(ca_.issue("old", {"pacs", "IP:127.0.0.1", -9, -2}));
    expect_retry(destination(), "certificate_expired");
}

TEST_F(StoreTls, APinnedCertificateCountsWhateverItsName) {
    const auto pacs = ca_.issue("pacs", {"pacs", "DNS:elsewhere"});
    start_pacs(pacs);
    DestinationSettings d = destination();
    d.tls->certificate_sha256 = node_.sha256;
    expect_retry(d, "other_certificate");
    d.tls->certificate_sha256 = pacs.sha256;
    const auto sent = send(d);
    EXPECT_TRUE(sent) << sent.error().message;
}

TEST_F(StoreTls, APacsThatRefusesOurCertificateIsNamed) {
    start_pacs(ca_.issue("pacs"));
    Authority other(folder_ / "other", "other");
    const auto stranger = other.issue("node");
    DestinationSettings d = destination();
    d.tls->files.certificate = stranger.certificate;
    d.tls->files.key = stranger.key;
    expect_retry(d, "refused_by_peer");
    d.tls->files.certificate = d.tls->files.key = "";
    expect_retry(d, "refused_by_peer");
}

TEST_F(StoreTls, APacsThatSpeaksNoTlsOrNothingEndsInTime) {
    const auto start = std::chrono::steady_clock::now();
    Peer silent(Manner::SayNothing), closing(Manner::CloseAtOnce);
    DestinationSettings d = destination();
    d.port = silent.port();
    expect_retry(d, "no handshake within 3 s");
    d.port = closing.port();
    expect_retry(d, "TLS");
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
}

TEST_F(StoreTls, FilesThatCannotBeUsedForTheMomentAreRetried) {
    start_pacs(ca_.issue("pacs"));
    DestinationSettings d = destination();
    d.tls->files.key = folder_ / "gone.key";
    expect_retry(d, "gone.key");
}
