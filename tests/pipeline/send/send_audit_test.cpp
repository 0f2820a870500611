#include "pipeline/send/send_audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scp/audit/reader.h"
#include "tests/support/temporary_folder.h"

using namespace cardionode;
using testing::HasSubstr;
using testing::Not;

namespace {

class SendAudit : public testing::Test {
protected:
    SendAudit() {
        settings_.audit.host = "127.0.0.1";
        settings_.audit.spool = folder_ / "audit";
        destination_.name = "pacs1";
        destination_.ae_title = "PACS1";
        destination_.host = "10.0.0.5";
        claim_.output = {"SEG", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.77.1", "file"};
        ReceivedInstance instance;
        instance.study_instance_uid = "1.2.77";
        instance.series_instance_uid = "1.2.77.2";
        instance.sop_instance_uid = "1.2.77.3";
        instance.sop_class_uid = "1.2.840.10008.5.1.4.1.1.2";
        instance.sha256 = std::string(64, 'a');
        instance.file = "image";
        auto queue = Queue::open(folder_ / "queue.db").value();
        claim_.study_key = queue.add_instances({{instance}}).value().front().study_key;
    }
    void audit(const Result<std::string>& sent) {
        audit_output(AuditTrail::open(settings_, "cardionode-pipeline").value(), folder_ / "queue.db", destination_,
                     claim_, sent);
    }
    std::vector<std::string> events() { return AuditReader::open(settings_.audit.spool).value().next(10).value(); }

    test::TemporaryFolder folder_;
    NodeSettings settings_;
    DestinationSettings destination_;
    ClaimedOutput claim_;
};

}  // namespace

TEST_F(SendAudit, AnOutputThatArrivedIsATransferFromUsToTheDestination) {
    audit(std::string());
    ASSERT_EQ(events().size(), 1U);
    const std::string event = events()[0];
    EXPECT_THAT(event, HasSubstr("DICOM Instances Transferred"));
    EXPECT_THAT(event, HasSubstr(R"(EventOutcomeIndicator="0")"));
    EXPECT_THAT(event, HasSubstr(R"(UserID="PACS1" AlternativeUserID="AETITLES=PACS1" UserIsRequestor="false" )"
                                 R"(NetworkAccessPointID="10.0.0.5" NetworkAccessPointTypeCode="2")"));
    EXPECT_THAT(event, HasSubstr(R"(ParticipantObjectID=")" + claim_.study_key));
    EXPECT_THAT(event, Not(HasSubstr("1.2.77")));
}

TEST_F(SendAudit, NamesTheStudyByItsUidWhereTheSettingsAskForIt) {
    settings_.audit.study_uids = true;
    audit(std::string());
    EXPECT_THAT(events()[0], HasSubstr(R"(ParticipantObjectID="1.2.77")"));
}

TEST_F(SendAudit, ADestinationThatIsAwayIsToldOnceAndOneThatRefusesAlways) {
    audit(retry_error("connection refused"));
    claim_.attempt = 2;
    audit(retry_error("connection refused"));
    ASSERT_EQ(events().size(), 1U);
    EXPECT_THAT(events()[0], HasSubstr(R"(EventOutcomeIndicator="4")"));
    claim_.attempt = 3;
    audit(reject_error("refused with status 0xA900"));
    ASSERT_EQ(events().size(), 2U);
    EXPECT_THAT(events()[1], HasSubstr(R"(EventOutcomeIndicator="8")"));
    EXPECT_THAT(events()[1], HasSubstr("set aside: refused with status 0xA900"));
}

TEST_F(SendAudit, WhatADestinationKeepsIsToldWithoutAnyUid) {
    const AuditTrail trail = AuditTrail::open(settings_, "cardionode-pipeline").value();
    audit_commitment(trail, destination_, {"2.25.1", {{"1.2.77.9", "1.2.77.1"}}, {{"1.2.77.9", "1.2.77.2"}}});
    ASSERT_EQ(events().size(), 1U);
    EXPECT_THAT(events()[0], HasSubstr("Storage commitment"));
    EXPECT_THAT(events()[0], HasSubstr("1 instances are kept, 1 are not"));
    EXPECT_THAT(events()[0], HasSubstr(R"(EventOutcomeIndicator="4")"));
    EXPECT_THAT(events()[0], Not(HasSubstr("1.2.77")));
}
