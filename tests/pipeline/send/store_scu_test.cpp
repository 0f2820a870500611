#include "pipeline/send/store_scu.h"

#include <chrono>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pipeline/send/peer.h"
#include "tests/pipeline/send/sample.h"
#include "tests/support/free_port.h"
#include "tests/support/process.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using namespace cardionode::test;

namespace {

DestinationSettings destination(int port) {
    DestinationSettings d;
    d.name = "pacs1";
    d.ae_title = "PACS1";
    d.host = "127.0.0.1";
    d.port = port;
    d.calling_ae_title = "NODE";
    return d;
}

class StoreScu : public testing::Test {
protected:
    static void SetUpTestSuite() { prepare_dicom_network(2, 1); }
    Result<std::string> send_to(const Peer& peer, const SendTimeouts& timeouts = {2, 1}) {
        return store_output(folder_ / "a.dcm", output_, destination(peer.port()), timeouts);
    }
    void expect(Manner manner, ErrorKind kind, const std::string& words) {
        Peer peer(manner);
        const auto start = std::chrono::steady_clock::now();
        const auto sent = send_to(peer);
        EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(8));
        ASSERT_FALSE(sent) << *sent;
        EXPECT_EQ(sent.error().kind, kind) << sent.error().message;
        EXPECT_THAT(sent.error().message, testing::HasSubstr(words));
        EXPECT_THAT(sent.error().message, testing::StartsWith("pacs1 (PACS1 at 127.0.0.1:"));
        EXPECT_THAT(sent.error().message, testing::Not(testing::HasSubstr(output_.sop_instance_uid)));
    }
    TemporaryFolder folder_;
    OutputFile output_ = write_sample(folder_.path(), "a.dcm");
};

}  // namespace

TEST_F(StoreScu, APeerThatAnswersWithSuccessHasIt) {
    Peer peer(Manner::Answer);
    const auto sent = send_to(peer);
    ASSERT_TRUE(sent) << sent.error().message;
    EXPECT_EQ(*sent, "");
    EXPECT_EQ(peer.stored(), 1);
}

TEST_F(StoreScu, TheFilesOwnSyntaxIsProposedAndTheDefaultOneBesideIt) {
    Peer peer(Manner::Answer);
    ASSERT_TRUE(send_to(peer));
    const std::vector<std::vector<std::string>> wanted = {{"1.2.840.10008.1.2.1"}, {"1.2.840.10008.1.2"}};
    EXPECT_EQ(peer.proposed(), wanted);
}

TEST_F(StoreScu, WarningsAndDuplicatesAreSuccessWithANote) {
    Peer coerced(Manner::Answer, 0xB000), duplicate(Manner::Answer, 0x0111);
    const auto warned = send_to(coerced);
    ASSERT_TRUE(warned) << warned.error().message;
    EXPECT_EQ(*warned, "stored with a warning (status 0xB000)");
    const auto there = send_to(duplicate);
    ASSERT_TRUE(there) << there.error().message;
    EXPECT_EQ(*there, "already there (status 0x0111)");
}

TEST_F(StoreScu, OutOfResourcesIsRetryAndNotUnderstoodIsReject) {
    Peer full(Manner::Answer, 0xA700), strict(Manner::Answer, 0xC000);
    const auto later = send_to(full);
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error().kind, ErrorKind::Retry);
    EXPECT_THAT(later.error().message, testing::HasSubstr("0xA700"));
    const auto never = send_to(strict);
    ASSERT_FALSE(never);
    EXPECT_EQ(never.error().kind, ErrorKind::Reject);
    EXPECT_THAT(never.error().message, testing::HasSubstr("0xC000"));
}

TEST_F(StoreScu, RejectionsAreToldApart) {
    expect(Manner::RejectForGood, ErrorKind::Reject, "rejected for good: called AE title not recognised");
    expect(Manner::RejectForNow, ErrorKind::Retry, "rejected for the moment: local limit exceeded");
}

TEST_F(StoreScu, AnAnswerForAnotherMessageCountsAsNotSent) { expect(Manner::WrongMessage, ErrorKind::Retry, ""); }

TEST_F(StoreScu, AnAnswerForAnotherInstanceCountsAsNotSent) {
    expect(Manner::WrongInstance, ErrorKind::Retry, "another instance");
}

TEST_F(StoreScu, AbortAndCloseAreRetry) {
    expect(Manner::CloseAtOnce, ErrorKind::Retry, "no association");
    expect(Manner::AbortOnStore, ErrorKind::Retry, "C-STORE");
    expect(Manner::CloseOnStore, ErrorKind::Retry, "C-STORE");
}

TEST_F(StoreScu, ASilentPeerEndsInATimeOut) {
    expect(Manner::SayNothing, ErrorKind::Retry, "no association");
    expect(Manner::NoAnswerToStore, ErrorKind::Retry, "no answer to the C-STORE within 1 s");
}

TEST_F(StoreScu, APeerThatStopsReadingEndsInATimeOut) {
    output_ = write_sample(folder_.path(), "a.dcm", 4000);  // 16 MB do not fit into the buffers between us
    expect(Manner::StopReading, ErrorKind::Retry, "");
}

TEST_F(StoreScu, NoAcceptedContextIsReject) {
    expect(Manner::NoContext, ErrorKind::Reject, "no presentation context was accepted");
}

TEST_F(StoreScu, NobodyListeningIsRetry) {
    const auto sent = store_output(folder_ / "a.dcm", output_, destination(free_port()), {2, 1});
    ASSERT_FALSE(sent);
    EXPECT_EQ(sent.error().kind, ErrorKind::Retry);
}

TEST_F(StoreScu, AMissingFileOrAnotherInstanceIsRejectBeforeAnyConnection) {
    Peer peer(Manner::Answer);
    OutputFile other = output_;
    other.sop_instance_uid = derive_uid({"another"});
    const auto wrong = store_output(folder_ / "a.dcm", other, destination(peer.port()), {2, 1});
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error().kind, ErrorKind::Reject);
    const auto missing = store_output(folder_ / "gone.dcm", output_, destination(peer.port()), {2, 1});
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().kind, ErrorKind::Reject);
    EXPECT_EQ(peer.connections(), 0);
}

TEST_F(StoreScu, StorescpGetsTheSameBytesOfPixels) {
    const int port = free_port();
    std::filesystem::create_directory(folder_ / "pacs");
    auto storescp =
        Process::start({"storescp", "-aet", "PACS1", "-od", folder_ / "pacs", "+B", std::to_string(port)}, {});
    ASSERT_TRUE(eventually(std::chrono::seconds(10), [&] { return listens(port); }));
    const auto sent = store_output(folder_ / "a.dcm", output_, destination(port), {5, 5});
    ASSERT_TRUE(sent) << sent.error().message;
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "pacs")) {
        ++files;
        DcmFileFormat file;
        ASSERT_TRUE(file.loadFile(entry.path().c_str()).good());
        OFString instance;
        file.getDataset()->findAndGetOFString(DCM_SOPInstanceUID, instance);
        EXPECT_EQ(output_.sop_instance_uid, instance.c_str());
        const Uint8* pixels = nullptr;
        unsigned long count = 0;
        file.getDataset()->findAndGetUint8Array(DCM_PixelData, pixels, &count);
        EXPECT_EQ(count, 32U * 32U);
    }
    EXPECT_EQ(files, 1);
}
