#include "fedclient/privacy/outbound_audit.h"

#include <gtest/gtest.h>

#include <limits>

namespace cardionode::fed {
namespace {

OutboundAudit example() {
    OutboundAudit audit;
    audit.model_id = "heart-root-unet16";
    audit.round = 3;
    audit.sha256 = std::string(64, 'e');
    audit.counts = {{"hps", 40}, {"unlabelled", 120}};
    audit.report.norm_before = {{"body", 12.125}, {"hps", 0.75}};
    audit.report.norm_after = {{"body", 10}, {"hps", 0.75}};
    audit.report.withheld = {"enc.a", "enc.b"};
    audit.report.noised = true;
    audit.epsilon = 2.71828;
    audit.delta = 1e-3;
    return audit;
}

TEST(OutboundAuditLine, SaysWhatLeftAndAtWhatPrice) {
    EXPECT_EQ(outbound_audit_line(example()),
              "fed update out: model=heart-root-unet16 round=3 sha256=" + std::string(64, 'e') +
                  " norm.body=12.12>10 norm.hps=0.75>0.75 n.hps=40 n.unlabelled=120 withheld=2 noise=yes epsilon=2.718 "
                  "delta=0.001");
}

TEST(OutboundAuditLine, WithoutNoiseThereIsNoBound) {
    OutboundAudit audit = example();
    audit.epsilon = std::numeric_limits<double>::infinity();
    audit.report.noised = false;
    const std::string line = outbound_audit_line(audit);
    EXPECT_NE(line.find(" noise=no epsilon=unbounded "), std::string::npos) << line;
}

TEST(OutboundAuditLine, ForeignNamesCannotForgeALineOrAField) {
    OutboundAudit audit = example();
    audit.model_id = "x epsilon=0\n\x1b[2J level=info \"\xff";
    audit.counts = {{"h\r\nps=1", 1}, {std::string(500, 'h'), 2}};
    audit.report.norm_before = {{"bo dy", 1}};
    audit.report.norm_after.clear();
    const std::string line = outbound_audit_line(audit);
    for (const char c : line) EXPECT_TRUE(c >= 0x20 && c < 0x7f);
    EXPECT_NE(line.find("model=x?epsilon?0???2J?level?info??? round=3"), std::string::npos) << line;
    EXPECT_NE(line.find(" norm.bo?dy=1>0 "), std::string::npos) << line;
    EXPECT_NE(line.find(" n.h??ps?1=1 "), std::string::npos) << line;
    EXPECT_LT(line.size(), 600u);
}

}  // namespace
}  // namespace cardionode::fed
